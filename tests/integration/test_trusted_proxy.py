"""People whom a proxy names: its header is believed if the proxy has sent it, and of nobody else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio

from standfast.dashboard.tokens import Tokens
from standfast.decision import DecisionVerdict, Mode
from standfast.scope import Scope
from standfast.settings import Dashboard, Settings
from standfast.store.databases import Databases
from tests.integration.installation import Installation, installed
from tests.integration.test_dashboard import about, dashboard, form, page, refund, waiting
from tests.integration.test_identity import create, on_record
from tests.integration.test_oidc import complaint

pytestmark = pytest.mark.asyncio(loop_scope="module")

URL = "https://standfast.example.com"
HOST = {"Host": "standfast.example.com"}
NOT_THE_PROXY = ["10.0.0.0/8", "2001:db8::/32"]


def with_proxy(settings: Settings, **changes: Any) -> Settings:
    proxy = {
        "addresses": ["127.0.0.0/8"],
        "user_header": "X-Forwarded-User",
        "groups_header": "X-Forwarded-Groups",
        "groups": {"support": ["view"], "approvers": ["decide"]},
    }
    served = Dashboard.model_validate({"url": URL, "trusted_proxy": proxy | changes})
    return settings.model_copy(update={"dashboard": served})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@asynccontextmanager
async def proxied(installation: Installation, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that the dashboard takes for the proxy, as both are on this machine."""
    async with (
        dashboard(with_proxy(installation.settings, **changes)) as url,
        httpx.AsyncClient(base_url=url, headers=HOST, timeout=60) as client,
    ):
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(installation: Installation) -> AsyncIterator[httpx.AsyncClient]:
    async with proxied(installation) as client:
        yield client


def named(user: str, groups: str = "support, approvers", **more: str) -> httpx.Headers:
    return httpx.Headers({"X-Forwarded-User": user, "X-Forwarded-Groups": groups} | more, encoding="utf-8")


async def test_whom_the_proxy_names_decides_under_that_name(
    installation: Installation, proxy: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1090), **about(1090))
    text = (await proxy.get(page(view), headers=named("björn@example.com"))).text
    assert "björn@example.com" in text
    assert "Sign out" not in text, "the proxy signs people out"
    sent = named("björn@example.com", Origin=URL)
    answer = await proxy.post(f"{page(view)}/decision", data=form(view, "reject", comment="no"), headers=sent)
    assert answer.status_code == 303
    (decision,) = (await installation.client.view(view.workflow_id)).decisions
    assert (decision.by, decision.mode) == ("björn@example.com", Mode.PROXY)
    signed_in = [row for row in on_record(installation, "sign-in") if row[2] == "björn@example.com"]
    assert [row[3] for row in signed_in] == [{"by": "proxy", "scopes": ["view", "decide"]}], "once, not for each page"


async def test_groups_of_the_header_say_what_somebody_may_do(proxy: httpx.AsyncClient) -> None:
    assert (await proxy.get("/", headers=named("ana", "support"))).status_code == 200
    refused = await proxy.get("/", headers=named("ana", "approvers"))
    assert (refused.status_code, "takes the scope view" in refused.text) == (403, True)
    refused = await proxy.get("/", headers=named("ana", "strangers"))
    assert (refused.status_code, "is in no group" in refused.text) == (403, True)


async def test_who_is_turned_away_is_on_record_once(installation: Installation, proxy: httpx.AsyncClient) -> None:
    for _ in range(3):
        await proxy.get("/", headers=named("mallory", "strangers"))
    rows = [row for row in on_record(installation, "sign-in.refused") if row[2] == "mallory"]
    assert {row[3]["reason"] for row in rows} == {"no known group"}
    assert len(rows) <= 2  # an hour may have begun


async def test_the_header_of_anybody_else_is_refused_and_logged(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxied(installation, addresses=NOT_THE_PROXY) as client:
        for more in ({}, {"X-Forwarded-For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}):
            for path in ("/", "/api/tickets", "/login"):
                answer = await client.get(path, headers=named("ana", **more))
                assert (answer.status_code, "trusted proxy" in answer.text) == (403, True)
        assert "refused: 127.0.0.1, which is not the trusted proxy" in caplog.text
        assert (await client.get("/")).headers["location"] == "/login"
        assert "Open the dashboard through it" in (await client.get("/login")).text


@pytest.mark.parametrize("header", ["X-Forwarded-User", "X-Forwarded-Groups"])
async def test_a_header_that_comes_twice_names_nobody(proxy: httpx.AsyncClient, header: str) -> None:
    answer = await proxy.get("/", headers=[*named("ana").multi_items(), (header, "support"), *HOST.items()])
    assert (answer.status_code, "more than once" in answer.text) == (403, True)


async def test_a_form_of_another_site_decides_nothing_behind_a_proxy_either(
    installation: Installation, proxy: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1091), **about(1091))
    for origin in ("https://evil.example", f"http://{HOST['Host']}", str(proxy.base_url)):
        sent = named("ana", Origin=origin)
        answer = await proxy.post(f"{page(view)}/decision", data=form(view, "approve"), headers=sent)
        assert (answer.status_code, "another site" in answer.text) == (403, True)
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_only_the_name_under_which_people_open_it_is_answered(proxy: httpx.AsyncClient) -> None:
    for host in ("127.0.0.1", str(proxy.base_url.netloc.decode()), "evil.example"):
        answer = await proxy.get("/", headers=named("ana", Host=host))
        assert (answer.status_code, URL in answer.text) == (421, True)
    assert (await proxy.get("/healthz", headers={"Host": "10.1.2.3"})).status_code == 200


async def test_a_program_with_a_token_needs_no_proxy(installation: Installation) -> None:
    async with Databases(installation.settings, application="test") as databases:
        token = await create(Tokens(databases), Scope.VIEW)
    async with proxied(installation, addresses=NOT_THE_PROXY) as client:
        answer = await client.get("/api/tickets", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200


async def test_nobody_is_let_in_who_cannot_be_put_on_record(
    installation: Installation, proxy: httpx.AsyncClient
) -> None:
    with psycopg.connect(installation.control_url) as held:
        held.execute("SELECT pg_advisory_xact_lock(hashtext('standfast.audit'))")
        answer = await proxy.get("/", headers=named("new@example.com"))
    assert answer.status_code == 503


async def test_the_doctor_knows_how_people_get_in(installation: Installation) -> None:
    settings = installation.settings
    assert await complaint(settings) == ""
    assert await complaint(with_proxy(settings)) == ""
    solo = settings.model_copy(update={"review": settings.review.model_copy(update={"solo": True})})
    assert await complaint(solo) == ""
    assert "set it to false" in await complaint(with_proxy(solo))
    everywhere = settings.model_copy(update={"dashboard": Dashboard(host="0.0.0.0")})  # noqa: S104
    assert "nobody tells who they are" in await complaint(everywhere)
