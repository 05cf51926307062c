"""The dashboard over real HTTP: who gets in, what is refused and how, and what is answered when something is wrong."""

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo

from standfast.dashboard import live
from standfast.dashboard.deciding import rights
from standfast.dashboard.guard import HEADERS
from standfast.dashboard.server import Server, listen, opened, serve
from standfast.dashboard.sessions import local_session, new_login_link
from standfast.decision import DecisionVerdict, Mode
from standfast.errors import InvalidInput
from standfast.local import configuration
from standfast.local.ports import free_port
from standfast.outcome import State
from standfast.settings import Settings
from standfast.store.databases import Databases, Role
from standfast.store.migrate import migrate_control
from standfast.store.roles import role_name
from standfast.view import TicketView
from tests.integration.installation import Installation, installed
from tests.processes import LIMIT, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/problem+json"
ME = local_session().user


@asynccontextmanager
async def dashboard(settings: Settings, port: int = 0) -> AsyncIterator[str]:
    """Serve the dashboard in this process, on a free port unless one is given, and yield its address."""
    async with opened(settings) as app:
        server = Server(app)
        listening = listen("127.0.0.1", port)
        serving_it = asyncio.create_task(server.serve(sockets=[listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving_it


@asynccontextmanager
async def browser(url: str, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, **changes) as client:
        yield client


async def sign_in(settings: Settings, client: httpx.AsyncClient) -> None:
    async with Databases(settings, application="test") as databases:
        link = httpx.URL(await new_login_link(databases, str(client.base_url)))
    answer = await client.post("/login", data={"token": link.params["token"]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(installation: Installation) -> AsyncIterator[str]:
    async with dashboard(installation.settings) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(url) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def approver(installation: Installation, url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(url) as client:
        await sign_in(installation.settings, client)
        yield client


def refund(order: int) -> dict[str, Any]:
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    return {"operations": [{"sql": sql, "params": [order], "reason": "the parcel is lost"}]}


def delete(*orders: int) -> dict[str, Any]:
    sql = "DELETE FROM shop.orders WHERE id = ANY($1::int[])"
    return {"operations": [{"sql": sql, "params": [list(orders)]}]}


async def waiting(installation: Installation, plan: dict[str, Any], **changes: Any) -> TicketView:
    return await installation.until_waiting(await installation.submit(plan, **changes))


def about(*orders: int) -> dict[str, Any]:
    return {"body": "please handle " + ", ".join(map(str, orders)), "subject": {"order_id": orders[0]}}


def form(view: TicketView, verdict: str, **changes: str) -> dict[str, str]:
    assert view.report is not None
    seen = {"plan_digest": view.report.plan_digest, "fingerprint": view.report.fingerprint}
    return {"verdict": verdict, **seen, **changes}


def page(view: TicketView) -> str:
    return f"/tickets/{view.workflow_id}"


# --- getting in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tickets/ticket/shop/any",
        "/tickets/ticket/shop/any/history.json",
        "/login/Your account is locked",
        "/login/",
    ],
)
async def test_pages_send_a_stranger_to_the_login(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("path", ["/api/tickets", "/api/tickets/ticket/shop/any", "/events"])
async def test_programs_learn_that_they_need_a_session(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (401, JSON)
    assert answer.json()["code"] == "not-signed-in"


async def test_health_needs_no_login(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_login_link_works_once_and_looking_at_it_does_not_use_it_up(
    installation: Installation, stranger: httpx.AsyncClient
) -> None:
    async with Databases(installation.settings, application="test") as databases:
        link = await new_login_link(databases, str(stranger.base_url))
    for _ in range(2):
        assert "Sign in as" in (await stranger.get(link)).text
    token = {"token": httpx.URL(link).params["token"]}
    first = await stranger.post("/login", data=token)
    assert first.status_code == 303
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "SameSite=lax" in first.headers["set-cookie"]
    assert (await stranger.get("/")).status_code == 200
    second = await stranger.post("/login", data=token)
    assert second.status_code == 403
    assert "was used before" in second.text


async def test_a_made_up_login_link_is_refused(stranger: httpx.AsyncClient) -> None:
    for data in ({"token": "made up"}, {}):
        answer = await stranger.post("/login", data=data)
        assert answer.status_code == 403
        assert "was never given out" in answer.text


async def test_signing_out_ends_the_session_for_good(approver: httpx.AsyncClient) -> None:
    ((name, token),) = approver.cookies.items()
    assert (await approver.post("/logout")).headers["location"] == "/login"
    assert not approver.cookies
    approver.cookies.set(name, token)
    assert (await approver.get("/")).status_code == 303


# --- what no request may do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"), [("/login", 200), ("/", 303), ("/healthz", 200), ("/static/style.css", 200), ("/x", 303)]
)
async def test_every_answer_has_the_security_headers(stranger: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await stranger.get(path)
    assert answer.status_code == status
    expected = dict(HEADERS) | ({"Cache-Control": "no-cache"} if path.startswith("/static") else {})
    assert {name: answer.headers[name] for name in expected} == expected


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "[", "x/healthz?", "x/static/?"],
)
async def test_another_host_name_is_not_answered(stranger: httpx.AsyncClient, host: str) -> None:
    port = stranger.base_url.port
    answer = await stranger.get("/login", headers={"Host": host.format(port=port)})
    assert answer.status_code == 421
    assert f"http://127.0.0.1:{port}" in answer.text
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("path", "host", "status"), [("/heal%09thz", "evil.example", 421), ("/log%0Ain", "127.0.0.1:{port}", 303)]
)
async def test_an_address_that_only_reads_like_an_open_one_opens_nothing(
    stranger: httpx.AsyncClient, path: str, host: str, status: int
) -> None:
    answer = await stranger.get(path, headers={"Host": host.format(port=stranger.base_url.port)})
    assert answer.status_code == status


async def test_localhost_is_our_name_too(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/login", headers={"Host": f"localhost:{stranger.base_url.port}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
    ],
)
async def test_a_form_of_another_site_decides_nothing(
    installation: Installation, approver: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    view = await waiting(installation, refund(1000), **about(1000))
    del approver.headers["Sec-Fetch-Site"]
    sent = {name: value.format(port=approver.base_url.port) for name, value in headers.items()}
    answer = await approver.post(f"{page(view)}/decision", data=form(view, "approve"), headers=sent)
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert (await installation.client.view(view.workflow_id)).state is State.WAITING
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_a_stranger_can_put_no_words_on_a_page_by_the_name_of_a_file(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/static/Your account is locked. Call us")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert answer.text == "Not Found\n"


async def test_an_endless_body_is_refused(approver: httpx.AsyncClient) -> None:
    answer = await approver.post("/api/tickets", content=b" " * (1024 * 1024 + 1))
    assert answer.status_code == 413
    assert "content-security-policy" in answer.headers


# --- looking ---------------------------------------------------------------------------------------------------------


async def test_an_unknown_ticket_is_a_page_that_leads_back(approver: httpx.AsyncClient) -> None:
    for path in ("/tickets/ticket/shop/nope", "/tickets/nope", "/nowhere"):
        answer = await approver.get(path)
        assert answer.status_code == 404
        assert 'href="/"' in answer.text


async def test_the_page_says_in_one_sentence_what_would_change(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1001), **about(1001))
    text = (await approver.get(page(view))).text
    assert view.report is not None
    for promised in (
        "Inserts 1 row in shop.refunds, deletes nothing, in shop.",
        "SELECT id, total FROM shop.orders WHERE id = $1",
        "the parcel is lost",
        "a claim, not evidence",
        view.report.plan_digest[:12],
        "0 of 1",
        view.report.all_findings[0].rule,
    ):
        assert promised in text
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_each_of_two_equal_operations_has_its_own_number(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    sql = "UPDATE shop.orders SET total = total + 1 WHERE id = $1"
    operation = {"sql": sql, "params": [1004], "reason": "one more"}
    view = await waiting(installation, {"operations": [operation, operation]}, **about(1004))
    text = (await approver.get(page(view))).text
    assert "<b>Operation 1:</b> one more" in text
    assert "<b>Operation 2:</b> one more" in text
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_the_inbox_lists_what_waits_and_filters_it(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    first = await waiting(installation, refund(1002), title="A lost parcel", **about(1002))
    second = await waiting(installation, refund(1002), title="The same parcel", **about(1002))
    third = await waiting(installation, delete(1003), title="An order to delete", **about(1003))
    await until_listed(installation, first, second, third)
    text = (await approver.get("/")).text
    assert text.index("An order to delete") < text.index("A lost parcel") < text.index("The same parcel")
    assert "deletes 1 row" in text
    done = (await approver.get("/", params={"state": "done", "target": "shop"})).text
    assert "A lost parcel" not in done
    wrong = await approver.get("/", params={"state": "lost"})
    assert wrong.status_code == 400
    assert "expected one of" in wrong.text
    for view in (first, second, third):
        await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def waiting_ids(installation: Installation) -> set[str]:
    return {row.workflow_id for row in await installation.client.lists.tickets([State.WAITING])}


async def until_listed(installation: Installation, *views: TicketView) -> None:
    wanted = {view.workflow_id for view in views}
    async with asyncio.timeout(30):
        # The visibility store lags behind, and tells nobody.
        while not wanted <= await waiting_ids(installation):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_the_timeline_is_a_file_to_download(installation: Installation, approver: httpx.AsyncClient) -> None:
    view = await waiting(installation, refund(1005), **about(1005))
    answer = await approver.get(f"{page(view)}/history.json")
    assert f'filename="shop-{view.ticket.id}-history.json"' in answer.headers["content-disposition"]
    assert {"start", "context", "planning", "validation"} <= {entry["step"] for entry in answer.json()}
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_the_timeline_says_what_failed_and_how_it_went_on(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    role = role_name("shop", Role.REHEARSER)
    installation.execute(f"ALTER ROLE {role} NOLOGIN")
    installation.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", role)
    workflow_id = await installation.submit(refund(1006), **about(1006))
    async with asyncio.timeout(LIMIT):
        while "validation fails, attempt" not in (answer := (await approver.get(f"/tickets/{workflow_id}")).text):  # noqa: ASYNC110 - the failure is the server's
            await asyncio.sleep(0.05)
    assert "is not permitted to log in" in answer
    installation.execute(f"ALTER ROLE {role} LOGIN")
    view = await installation.until_waiting(workflow_id)
    answer = (await approver.get(page(view))).text
    assert "validation went on with attempt " in answer
    assert "validation fails" not in answer
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


# --- deciding --------------------------------------------------------------------------------------------------------


async def test_an_approval_executes_the_plan(installation: Installation, approver: httpx.AsyncClient) -> None:
    view = await waiting(installation, refund(1010), **about(1010))
    answer = await approver.post(f"{page(view)}/decision", data=form(view, "approve"))
    assert (answer.status_code, answer.headers["location"]) == (303, page(view))
    outcome = await installation.client.wait(view.workflow_id)
    assert outcome.execution is not None
    assert outcome.execution.approved_by == (ME,)
    assert installation.query("SELECT amount FROM shop.refunds WHERE order_id = 1010") == [(1010,)]
    text = (await approver.get(page(view))).text
    assert "exactly the rows of the rehearsal" in text
    assert "Your decision" not in text


@pytest.mark.parametrize("seen", ["plan_digest", "fingerprint"])
async def test_an_approval_of_what_is_no_longer_so_is_refused_on_the_page(
    installation: Installation, approver: httpx.AsyncClient, seen: str
) -> None:
    view = await waiting(installation, refund(1011), **about(1011))
    stale = form(view, "approve", comment="looks <good>") | {seen: "0" * 64}
    answer = await approver.post(f"{page(view)}/decision", data=stale)
    assert answer.status_code == 409
    assert "Your decision changed nothing" in answer.text
    assert "look at it and decide again" in answer.text
    assert "looks &lt;good&gt;" in answer.text
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1011") == [(0,)]
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_rejecting_and_asking_for_changes_need_a_reason(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1012), **about(1012))
    for verdict in ("reject", "revise"):
        answer = await approver.post(f"{page(view)}/decision", data=form(view, verdict, comment=" \r\n "))
        assert answer.status_code == 409
        assert "say why in a comment" in answer.text
    answer = await approver.post(f"{page(view)}/decision", data=form(view, "reject", comment="one\r\ntwo"))
    assert answer.status_code == 303
    outcome = await installation.client.wait(view.workflow_id)
    assert outcome.reason == f"Rejected by {ME}: one\ntwo"


async def test_a_form_that_is_none_is_explained(installation: Installation, approver: httpx.AsyncClient) -> None:
    view = await waiting(installation, refund(1013), **about(1013))
    answer = await approver.post(f"{page(view)}/decision", data={"verdict": "perhaps"})
    assert answer.status_code == 400
    assert "the form: field verdict" in answer.text
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_who_approves_deleted_rows_types_how_many(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, delete(1014, 1015), **about(1014, 1015))
    assert "Type how many" in (await approver.get(page(view))).text
    for typed in ({}, {"deleted_rows": "1"}):
        answer = await approver.post(f"{page(view)}/decision", data=form(view, "approve", **typed))
        assert answer.status_code == 409
        assert "type 2 to approve" in answer.text
    typed = {"deleted_rows": "2", "comment": "they are test orders"}
    answer = await approver.post(f"{page(view)}/decision", data=form(view, "approve", **typed))
    assert answer.status_code == 303
    assert (await installation.client.wait(view.workflow_id)).state is State.DONE
    assert installation.query("SELECT count(*) FROM shop.orders WHERE id IN (1014, 1015)") == [(0,)]


async def test_who_opened_a_ticket_is_told_why_he_may_not_decide(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1016), requester=ME, **about(1016))
    text = (await approver.get(page(view))).text
    assert "You opened this ticket" in text
    assert "<textarea" not in text
    answer = await approver.post(f"{page(view)}/decision", data=form(view, "approve"))
    assert answer.status_code == 409
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_who_has_approved_may_still_send_the_plan_back(installation: Installation) -> None:
    view = await waiting(installation, refund(1018), **about(1018))
    approved = view.model_copy(update={"approvals": (ME,)})
    allowed = rights(approved, local_session(), installation.settings.review)
    assert (bool(allowed.approve), allowed.send_back) == (True, "")
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_a_dashboard_without_a_signing_key_says_so(installation: Installation) -> None:
    view = await waiting(installation, refund(1019), **about(1019))
    unable = installation.settings.review.model_copy(update={"signing_key": None})
    assert "no key to sign decisions" in rights(view, local_session(), unable).approve
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_the_only_person_of_a_set_up_is_told_that_a_decision_on_an_own_ticket_goes_on_record(
    installation: Installation,
) -> None:
    alone = installation.settings.review.model_copy(update={"solo": True})
    settings = installation.settings.model_copy(update={"review": alone})
    own = await waiting(installation, refund(1031), requester=ME.upper(), **about(1031))
    other = await waiting(installation, refund(1032), **about(1032))
    async with dashboard(settings) as url, browser(url) as person:
        await sign_in(settings, person)
        assert "You opened this ticket and may decide on it" in (await person.get(page(own))).text
        assert "You opened this ticket" not in (await person.get(page(other))).text
    for view in (own, other):
        await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_who_decides_second_learns_who_was_first(installation: Installation, approver: httpx.AsyncClient) -> None:
    view = await waiting(installation, refund(1017), **about(1017))
    await installation.client.decide(
        view.workflow_id, by="ben@example.com", mode=Mode.CLI, comment="no", **_seen(view, DecisionVerdict.REJECT)
    )
    await installation.client.wait(view.workflow_id)
    answer = await approver.post(f"{page(view)}/decision", data=form(view, "approve"))
    assert answer.status_code == 409
    assert "ben@example.com has decided already (reject); the ticket is rejected" in answer.text


def _seen(view: TicketView, verdict: DecisionVerdict) -> dict[str, Any]:
    return {**form(view, verdict), "verdict": verdict}


def viewed(installation: Installation, view: TicketView) -> list[tuple[str, dict[str, str]]]:
    with psycopg.connect(installation.control_url) as connection:
        query = "SELECT actor, content FROM standfast.audit WHERE workflow_id = %s AND kind = 'view' ORDER BY sequence"
        return connection.execute(query, [view.workflow_id]).fetchall()


async def test_who_was_shown_which_plan_is_on_record_once(
    installation: Installation, approver: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1025), **about(1025))
    assert view.report is not None
    assert (await stranger.get(page(view))).status_code == 303
    assert viewed(installation, view) == []
    for path in (page(view), page(view), f"/api{page(view)}", "/"):
        assert (await approver.get(path)).status_code == 200
    shown = {"plan_digest": view.report.plan_digest, "fingerprint": view.report.fingerprint}
    shown["shown"] = hashlib.sha256(view.model_dump_json(exclude={"ticket": {"metadata"}}).encode()).hexdigest()
    assert viewed(installation, view) == [(ME, shown | {"by": "page"}), (ME, shown | {"by": "api"})]
    await installation.decide(view, DecisionVerdict.REJECT, comment="no")
    await installation.client.wait(view.workflow_id)
    await approver.get(page(view))
    assert len(viewed(installation, view)) == 2, "what has ended waits for nobody"


async def test_head_shows_nobody_a_plan_and_starts_nothing(installation: Installation, url: str) -> None:
    view = await waiting(installation, refund(1027), **about(1027))
    async with browser(url, limits=httpx.Limits(max_connections=1)) as client:
        await sign_in(installation.settings, client)
        for path in (page(view), f"{page(view)}/events", "/events"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
            assert (await client.get("/healthz")).status_code == 200, "the connection is free again"
    assert viewed(installation, view) == []
    await installation.decide(view, DecisionVerdict.REJECT, comment="no")


async def test_a_plan_whose_view_cannot_be_put_on_record_is_not_shown(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1026), **about(1026))
    with psycopg.connect(installation.control_url) as held:
        held.execute("SELECT pg_advisory_xact_lock(hashtext('standfast.audit'))")
        answer = await approver.get(page(view))
    assert answer.status_code == 503
    assert "shop.refunds" not in answer.text
    await installation.decide(view, DecisionVerdict.REJECT, comment="no")


# --- programs --------------------------------------------------------------------------------------------------------


async def test_programs_submit_look_and_decide(installation: Installation, approver: httpx.AsyncClient) -> None:
    ticket = {"id": "api-1", "requester": ME, "metadata": {"plan": refund(1020)}, **about(1020)}
    first, again = [await approver.post("/api/tickets", json=ticket) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == {"workflow_id": "ticket/shop/api-1", "started": True}
    view = await installation.until_waiting("ticket/shop/api-1")
    await until_listed(installation, view)
    listed = (await approver.get("/api/tickets", params={"state": "waiting"})).json()["tickets"]
    assert "ticket/shop/api-1" in {row["workflow_id"] for row in listed}
    shown = (await approver.get("/api/tickets/ticket/shop/api-1")).json()
    assert shown == view.model_dump(mode="json")
    refused = await approver.post("/api/tickets/ticket/shop/api-1/decision", json=form(view, "approve"))
    assert (refused.status_code, refused.headers["content-type"]) == (409, JSON)
    assert (refused.json()["code"], refused.json()["reason"]) == ("decision-refused", "own-ticket")
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_programs_get_the_record_of_their_decision(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1021), **about(1021))
    answer = await approver.post(f"/api{page(view)}/decision", json=form(view, "reject", comment="no"))
    assert (answer.status_code, answer.json()["by"]) == (200, ME)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "invalid-input"),
        ('{"id": "x"}', 400, "invalid-input"),
        (b"\xff", 400, "invalid-input"),
        (
            '[{"id": "a", "body": "", "requester": "r"}, {"id": "b", "body": "", "requester": "r"}]',
            400,
            "invalid-input",
        ),
        (json.dumps({"id": "x", "body": "", "requester": "r", "target": "crm"}), 400, "unknown-target"),
        (json.dumps({"id": "x", "body": "", "requester": "someone@else"}), 403, "not-permitted"),
    ],
)
async def test_a_wrong_ticket_is_a_problem_with_a_code(
    approver: httpx.AsyncClient, body: str | bytes, status: int, code: str
) -> None:
    answer = await approver.post("/api/tickets", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"], answer.json()["code"]) == (status, JSON, code)


async def test_an_unknown_ticket_is_a_problem_with_a_code(approver: httpx.AsyncClient) -> None:
    answer = await approver.get("/api/tickets/ticket/shop/nope")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-ticket")


# --- services come and go --------------------------------------------------------------------------------------------


async def test_the_page_is_told_about_every_change_until_the_end(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1030), **about(1030))
    events = []
    async with approver.stream("GET", f"{page(view)}/events") as stream:
        async for line in stream.aiter_lines():
            events.append(line)
            if line.startswith("data: ") and len([e for e in events if e.startswith("data: ")]) == 1:
                await installation.decide(view, DecisionVerdict.REJECT, comment="no")
    assert events[0] == "retry: 2000"
    assert events.count("event: changed") >= 2
    assert "event: end" in events


async def test_a_quiet_stream_shows_that_it_is_alive(
    approver: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE_SECONDS", 0.1)
    async with approver.stream("GET", "/events") as stream, asyncio.timeout(30):
        assert ": still here" in [line async for line in _until(": still here", stream)]


async def test_one_person_follows_so_many_pages_and_no_more(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STREAMS", 2)
    async with dashboard(installation.settings) as url, browser(url) as client, browser(url) as again:
        for one in (client, again):  # signed in twice, and the same person
            await sign_in(installation.settings, one)
        async with client.stream("GET", "/events") as first, again.stream("GET", "/events") as second:
            assert (first.status_code, second.status_code) == (200, 200)
            async with asyncio.timeout(LIMIT):
                refused = await client.get("/events")
            assert (refused.status_code, refused.headers["content-type"]) == (429, JSON)
            assert (refused.json()["code"], ME in refused.json()["detail"]) == ("too-many-requests", True)
            assert (await client.head("/events")).status_code == 200  # follows nothing

        async def status() -> int:
            async with client.stream("GET", "/events") as stream:
                return stream.status_code

        await eventually(status, lambda found: found == 200)  # once the server has noticed that pages were closed


async def _until(last: str, stream: httpx.Response) -> AsyncIterator[str]:
    async for line in stream.aiter_lines():
        yield line
        if line == last:
            return


async def test_without_a_control_database_the_page_says_what_to_do(installation: Installation) -> None:
    gone = {"url": f"postgresql://nobody@127.0.0.1:{free_port()}/none"}
    settings = installation.settings.model_copy(
        update={"control": type(installation.settings.control).model_validate(gone)}
    )
    async with dashboard(settings) as url, browser(url) as client:
        client.cookies.set(f"standfast-session-{client.base_url.port}", "x")
        answer = await client.get("/")
        assert answer.status_code == 503
        assert "standfast doctor" in answer.text
        problem = await client.get("/api/tickets")
        assert problem.json()["code"] == "service-unavailable"


async def test_a_control_database_that_was_not_migrated_is_no_defect(installation: Installation) -> None:
    async with dashboard(_with_control(installation, "postgres")) as url, browser(url) as client:
        client.cookies.set(f"standfast-session-{client.base_url.port}", "x")
        answer = await client.get("/")
        problem = await client.get("/api/tickets")
    assert (answer.status_code, "standfast migrate" in answer.text) == (503, True)
    assert (problem.status_code, problem.json()["code"]) == (503, "not-migrated")


async def test_a_defect_is_a_page_without_details(installation: Installation) -> None:
    broken = f"t{uuid4().hex[:8]}"
    with psycopg.connect(installation.owner_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {broken}".encode())
    settings = _with_control(installation, broken)
    await migrate_control(make_conninfo(installation.owner_url, dbname=broken))
    with psycopg.connect(installation.owner_url, dbname=broken) as connection:
        connection.execute("ALTER TABLE standfast.session RENAME TO kept")
        connection.execute("CREATE VIEW standfast.session AS SELECT * FROM standfast.kept WHERE 1 / 0 = 1")
        connection.execute("GRANT SELECT ON standfast.session TO PUBLIC")
    async with dashboard(settings) as url, browser(url) as client:
        client.cookies.set(f"standfast-session-{client.base_url.port}", "x")
        answer = await client.get("/")
    assert answer.status_code == 500
    assert "division by zero" not in answer.text
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


def _with_control(installation: Installation, database: str) -> Settings:
    control = {"url": make_conninfo(installation.control_url, dbname=database)}
    return installation.settings.model_copy(
        update={"control": type(installation.settings.control).model_validate(control)}
    )


async def test_all_of_the_dashboard_shares_its_connections(installation: Installation) -> None:
    view = await waiting(installation, refund(1090), **about(1090))

    def sessions() -> set[tuple[object, ...]]:
        named = "SELECT pid, split_part(application_name, ' ', 1) FROM pg_stat_activity WHERE application_name ~ %s"
        return set(installation.query(named, "^standfast( |-dashboard)"))  # workers are standfast-test

    before = sessions()
    async with dashboard(installation.settings) as url, browser(url) as client:
        await sign_in(installation.settings, client)
        for path in ("/", page(view), "/stats"):
            assert (await client.get(path)).status_code == 200
        assert {name for _, name in sessions() - before} == {"standfast-dashboard"}
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])  # noqa: S104
async def test_an_address_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(InvalidInput, match="because its login is made for people on this machine"):
        await serve(Settings(dashboard={"host": host}))


async def test_a_port_that_is_taken_is_named(installation: Installation, url: str) -> None:
    port = httpx.URL(url).port
    settings = installation.settings.model_copy(
        update={"dashboard": installation.settings.dashboard.model_copy(update={"port": port})}
    )
    with pytest.raises(InvalidInput, match=f"127.0.0.1:{port} can't be used"):
        await serve(settings)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_server_though_streams_are_open(
    installation: Installation, tmp_path: Path, signum: signal.Signals
) -> None:
    port = free_port()
    settings = installation.settings.model_copy(
        update={"dashboard": installation.settings.dashboard.model_copy(update={"port": port})}
    )
    file = tmp_path / "dashboard.toml"
    file.write_text(configuration.to_toml(configuration.dashboard(settings)))
    program = (
        "import asyncio, pathlib, sys; from standfast.layers import load_settings; "
        "from standfast.dashboard.server import serve; asyncio.run(serve(load_settings(pathlib.Path(sys.argv[1]))))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(file))
    async with browser(f"http://127.0.0.1:{port}") as client:
        await until_healthy(client)
        await sign_in(settings, client)
        async with client.stream("GET", "/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            process.send_signal(signum)
            async with asyncio.timeout(4):  # less than what the server would wait for streams that don't end
                assert await process.wait() == 0


async def until_healthy(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await client.get("/healthz")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return
