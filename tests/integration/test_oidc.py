"""Signing in by a real provider of OpenID Connect: who gets in, with which scopes, and what is not believed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from standfast.dashboard.server import serve
from standfast.decision import Mode
from standfast.doctor.dashboard import inspect_dashboard
from standfast.errors import InvalidInput
from standfast.local.ports import free_port
from standfast.settings import Dashboard, Settings
from tests.integration.installation import Installation, installed
from tests.integration.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, oidc_provider
from tests.integration.test_dashboard import about, browser, dashboard, form, page, refund, sign_in, waiting
from tests.integration.test_identity import on_record

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUPS = {"support": ["view", "submit"], "approvers": ["view", "decide"]}
START, BACK = "/login/oidc/", "/login/oidc/callback"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[OidcProvider]:
    async with oidc_provider() as provider:
        yield provider


def with_oidc(settings: Settings, issuer: str, port: int, **changes: Any) -> Settings:
    oidc = {"issuer": issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "groups": GROUPS} | changes
    served = Dashboard.model_validate({"port": port, "url": f"http://localhost:{port}", "oidc": oidc})
    return settings.model_copy(update={"dashboard": served})


@asynccontextmanager
async def oidc_dashboard(installation: Installation, provider: OidcProvider, **changes: Any) -> AsyncIterator[str]:
    port = free_port()
    async with dashboard(with_oidc(installation.settings, provider.issuer, port, **changes), port):
        yield f"http://localhost:{port}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(installation: Installation, provider: OidcProvider) -> AsyncIterator[str]:
    async with oidc_dashboard(installation, provider) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(url) as client:
        yield client


async def come_back(client: httpx.AsyncClient, provider: OidcProvider, person: str) -> httpx.Response:
    """Go to the provider, sign in there, and come back."""
    sent = await client.get(START)
    assert sent.status_code == 302, sent.text
    back = await provider.sign_in(sent.headers["location"], person)
    return await client.get(back, headers={"Sec-Fetch-Site": "cross-site"})


async def somebody(provider: OidcProvider, *groups: str, **claims: Any) -> str:
    name = f"{uuid4().hex[:8]}@example.com"
    return await provider.put(name, **({"email": name, "groups": list(groups)} | claims))


async def test_a_stranger_is_led_to_the_provider(client: httpx.AsyncClient, provider: OidcProvider) -> None:
    assert (await client.get("/")).headers["location"] == "/login"
    assert 'href="/login/oidc/"' in (await client.get("/login")).text
    sent = httpx.URL((await client.get(START)).headers["location"])
    assert f"{sent.scheme}://{sent.host}:{sent.port}" == provider.issuer
    assert (sent.params["client_id"], sent.params["response_type"]) == (CLIENT_ID, "code")
    assert sent.params["code_challenge_method"] == "S256"
    assert {"code_challenge", "state", "nonce"} <= set(sent.params)
    assert {cookie.name for cookie in client.cookies.jar} == {f"standfast-session-oidc-{client.base_url.port}"}


async def test_a_member_of_a_known_group_has_its_scopes_and_decides_under_the_providers_name(
    installation: Installation, provider: OidcProvider, client: httpx.AsyncClient
) -> None:
    person = await somebody(provider, "approvers", "unknown")
    answer = await come_back(client, provider, person)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    view = await waiting(installation, refund(1070), **about(1070))
    assert person in (await client.get(page(view))).text
    await client.post(f"{page(view)}/decision", data=form(view, "reject", comment="no"))
    (decision,) = (await installation.client.view(view.workflow_id)).decisions
    assert (decision.by, decision.mode) == (person, Mode.SESSION)
    refused = await client.post("/api/tickets", json={"id": "x", "body": "", "requester": person})
    assert (refused.status_code, refused.json()["scope"]) == (403, "submit")
    signed_in = on_record(installation, "sign-in")[-1]
    assert signed_in[2:] == (person, {"by": "provider", "scopes": ["view", "decide"]})


async def test_over_https_no_other_host_can_give_a_browser_a_cookie_of_the_sign_in(
    installation: Installation, provider: OidcProvider
) -> None:
    port, url = free_port(), "https://standfast.example.com"
    settings = with_oidc(installation.settings, provider.issuer, port)
    served = settings.dashboard.model_copy(update={"url": url})
    headers = {"Host": httpx.URL(url).host}
    async with (
        dashboard(settings.model_copy(update={"dashboard": served}), port) as local,
        browser(local) as client,
    ):
        sent = await client.get(START, headers=headers)
        (dance,) = sent.headers.get_list("set-cookie")
        back = httpx.URL(await provider.sign_in(sent.headers["location"], await somebody(provider, "approvers")))
        headers |= {"Cookie": dance.partition(";")[0]}
        answer = await client.get(back.raw_path.decode(), headers=headers)
    assert answer.status_code == 303
    given = {dance, *answer.headers.get_list("set-cookie")}
    names = ("oidc-", "hint-", "")
    assert {cookie.partition("=")[0] for cookie in given} == {
        f"__Host-standfast-session-{name}{port}" for name in names
    }
    for cookie in given:
        assert {"path=/", "secure", "httponly", "samesite=lax"} <= set(cookie.lower().split("; "))


async def test_who_signs_in_where_another_person_was_ends_that_persons_session_on_record(
    installation: Installation, provider: OidcProvider, client: httpx.AsyncClient
) -> None:
    ana, ben = [await somebody(provider, "approvers") for _ in range(2)]
    await come_back(client, provider, ana)
    hers = client.cookies[cookie := f"standfast-session-{client.base_url.port}"]
    await come_back(client, provider, ben)
    signed_in, signed_out, other = on_record(installation, "sign-in", "sign-out")[-3:]
    assert [row[0] for row in (signed_in, signed_out, other)] == ["sign-in", "sign-out", "sign-in"]
    assert (signed_out[1:3], other[2]) == (signed_in[1:3], ben)
    text = (await client.get("/")).text
    assert (ben in text, ana in text) == (True, False)
    async with browser(str(client.base_url)) as before:
        before.cookies.set(cookie, hers)
        assert (await before.get("/")).status_code == 303


async def test_who_had_to_sign_in_first_comes_to_the_page_that_was_wanted(
    provider: OidcProvider, client: httpx.AsyncClient
) -> None:
    wanted = "/tickets/ticket/shop/SUP-1?a=%2F&b=;c"
    assert (await client.get(wanted, headers={"Accept": "text/html"})).headers["location"] == "/login"
    assert (await client.get("/favicon.ico")).headers["location"] == "/login"
    assert (await come_back(client, provider, await somebody(provider, "approvers"))).headers["location"] == wanted
    await client.post("/logout")
    assert (await come_back(client, provider, await somebody(provider, "approvers"))).headers["location"] == "/"


@pytest.mark.parametrize("wanted", ["//evil.example", "/\\evil.example", "https://evil.example", "evil.example"])
async def test_no_cookie_of_anybody_leads_to_another_site(
    provider: OidcProvider, client: httpx.AsyncClient, wanted: str
) -> None:
    client.cookies.set(f"standfast-session-wanted-{client.base_url.port}", wanted)
    assert (await come_back(client, provider, await somebody(provider, "approvers"))).headers["location"] == "/"


async def test_scopes_of_several_groups_add_up_and_a_star_is_everybody(
    installation: Installation, provider: OidcProvider
) -> None:
    groups = GROUPS | {"*": ["view"]}
    async with oidc_dashboard(installation, provider, groups=groups) as url:
        for person, scopes in (
            (await somebody(provider), ["view"]),
            (await somebody(provider, "support", "approvers"), ["view", "submit", "decide"]),
        ):
            async with browser(url) as client:
                assert (await come_back(client, provider, person)).status_code == 303
            assert on_record(installation, "sign-in")[-1][2:] == (person, {"by": "provider", "scopes": scopes})


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"groups": ["strangers"]}, "is in no group"),
        ({"groups": None}, "is in no group"),
        ({"groups": {"approvers": True}}, "is in no group"),
        ({"email_verified": False}, "has not verified"),
        ({"email": ""}, "under this name"),
        ({"email": "ana\u202e@example.com"}, "under this name"),
        ({"email": ["ana@example.com"]}, "has not told your email"),
    ],
    ids=str,
)
async def test_who_is_not_known_is_told_why_and_stays_outside(
    provider: OidcProvider, client: httpx.AsyncClient, claims: dict[str, Any], said: str
) -> None:
    answer = await come_back(client, provider, await somebody(provider, "approvers", **claims))
    assert (answer.status_code, said in answer.text) == (403, True)
    assert (await client.get("/")).status_code == 303


async def test_who_is_turned_away_is_on_record(
    installation: Installation, provider: OidcProvider, client: httpx.AsyncClient
) -> None:
    person = await somebody(provider, "strangers")
    await come_back(client, provider, person)
    refused = on_record(installation, "sign-in.refused")[-1]
    assert refused[1:] == ("sessions", person, {"by": "provider", "reason": "no known group"})
    assert person not in {row[2] for row in on_record(installation, "sign-in")}


@pytest.mark.parametrize(
    ("claims", "wrong"),
    [
        ({"aud": "another-client"}, "'aud'"),
        ({"aud": "another-client", "azp": CLIENT_ID}, "'aud'"),
        ({"iss": "http://localhost:1"}, "'iss'"),
        ({"nonce": "of another sign-in"}, "'nonce'"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"unsigned": True}, "'none' is not allowed"),
    ],
    ids=str,
)
async def test_a_token_that_cannot_be_believed_lets_nobody_in(
    provider: OidcProvider,
    client: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    claims: dict[str, Any],
    wrong: str,
) -> None:
    answer = await come_back(client, provider, await somebody(provider, "approvers", **claims))
    assert (answer.status_code, "can&#39;t be believed" in answer.text) == (403, True)
    assert wrong in caplog.text
    assert (await client.get("/")).status_code == 303


async def test_the_provider_may_name_people_and_groups_in_other_claims(
    installation: Installation, provider: OidcProvider
) -> None:
    person = await provider.put("7d1f", employee="u-4711", roles="approvers")
    async with (
        oidc_dashboard(installation, provider, user_claim="employee", groups_claim="roles") as url,
        browser(url) as client,
    ):
        assert (await come_back(client, provider, person)).status_code == 303
        assert "u-4711" in (await client.get("/")).text


async def test_a_sign_in_that_began_in_another_browser_is_refused(
    url: str, provider: OidcProvider, client: httpx.AsyncClient
) -> None:
    person = await somebody(provider, "approvers")
    back = await provider.sign_in((await client.get(START)).headers["location"], person)
    async with browser(url) as other:
        refused = await other.get(back)
        assert (refused.status_code, "not begun in this browser" in refused.text) == (403, True)
        await other.get(START)
        assert (await other.get(back)).status_code == 403
    assert (await client.get(back)).status_code == 303
    assert (await client.get(back)).status_code == 403, "a code is good for one sign-in"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("access_denied", "did not let you in"),
        ("temporarily_unavailable", "Try again later"),
        ("word-in-place-of-a-code", "has not signed you in"),
    ],
)
async def test_a_refusal_is_told_in_our_own_words_and_in_none_of_the_address(
    installation: Installation, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, error: str, said: str
) -> None:
    words = {"error_description": "word-1: call 555 0100", "error_uri": "https://word-2.example", "state": "word-3"}
    answer = await client.get(BACK, params={"error": error} | words)
    assert (answer.status_code, said in answer.text) == (403, True)
    assert "word-" not in f"{answer.text} {caplog.text} {on_record(installation, 'sign-in.refused')}"


@pytest.mark.parametrize("groups", [1, 200], ids=["few groups", "more than a cookie holds"])
async def test_signing_out_ends_the_session_here_and_leads_on_to_the_provider(
    provider: OidcProvider, client: httpx.AsyncClient, groups: int
) -> None:
    person = await somebody(provider, "approvers", *(f"a group with the number {n}" for n in range(1, groups)))
    await come_back(client, provider, person)
    answer = await client.post("/logout")
    assert answer.headers["location"] == "/logout"
    assert (await client.get("/")).status_code == 303
    ending = await client.get("/logout")
    address = httpx.URL(ending.headers["refresh"].removeprefix("0; url="))
    assert str(address).startswith(f"{provider.issuer}/oauth2/end_session?")
    assert address.params["post_logout_redirect_uri"] == str(client.base_url.join("/login"))
    assert address.params["client_id"] == CLIENT_ID
    assert address.params.get("id_token_hint", "").count(".") == (2 if groups == 1 else 0)
    assert (await client.get("/logout")).headers["location"] == "/login", "once, and for nobody who was not signed in"


async def test_a_login_link_lets_nobody_in_where_a_provider_does(
    installation: Installation, url: str, client: httpx.AsyncClient
) -> None:
    async with dashboard(installation.settings) as local, browser(local) as solo:
        await sign_in(installation.settings, solo)
        ((_, token),) = solo.cookies.items()
    assert (await client.post("/login", data={"token": "any"})).status_code == 405
    client.cookies.set(f"standfast-session-{httpx.URL(url).port}", token)
    assert (await client.get("/")).status_code == 303


async def test_a_providers_people_are_out_once_the_dashboard_is_entered_by_a_link_alone(
    installation: Installation, provider: OidcProvider, client: httpx.AsyncClient
) -> None:
    await come_back(client, provider, await somebody(provider, "approvers"))
    assert (await client.get("/")).status_code == 200
    token = client.cookies[f"standfast-session-{client.base_url.port}"]
    async with dashboard(installation.settings) as local, browser(local) as solo:
        solo.cookies.set(f"standfast-session-{httpx.URL(local).port}", token)
        assert (await solo.get("/")).status_code == 303


async def test_a_provider_that_is_away_or_another_one_is_named(installation: Installation) -> None:
    port = free_port()
    settings = with_oidc(installation.settings, f"http://localhost:{free_port()}", port)
    async with dashboard(settings, port), browser(f"http://localhost:{port}") as client:
        answer = await client.get(START)
        assert (answer.status_code, "can&#39;t be reached" in answer.text) == (503, True)
        assert (await client.get("/healthz")).status_code == 200


async def test_one_person_for_all_roles_and_a_provider_exclude_each_other(installation: Installation) -> None:
    settings = with_oidc(installation.settings, "http://localhost:1", free_port())
    solo = settings.review.model_copy(update={"solo": True})
    with pytest.raises(InvalidInput, match=r"set review\.solo to false"):
        await serve(settings.model_copy(update={"review": solo}))


async def complaint(settings: Settings) -> str:
    return "; ".join(check.message for check in await inspect_dashboard(settings) if not check.ok)


async def test_the_doctor_asks_the_provider(installation: Installation, provider: OidcProvider) -> None:
    settings = installation.settings
    assert await complaint(with_oidc(settings, provider.issuer, 1)) == ""
    assert "can't be read" in await complaint(with_oidc(settings, f"{provider.issuer}/realm", 1))
    assert "can't be read" in await complaint(with_oidc(settings, f"http://localhost:{free_port()}", 1))
