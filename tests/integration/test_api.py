"""The API over real HTTP: what programs get, and an exact answer for everything that is wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio

from standfast.decision import Decision, DecisionVerdict, Mode
from standfast.errors import DecisionRefused
from standfast.outcome import State
from standfast.verification.verify import verify
from standfast.view import TicketView
from standfast.workflow import MAX_REFUSED_OF_ONE
from tests.integration.installation import Installation, installed
from tests.integration.test_dashboard import (
    ME,
    about,
    browser,
    dashboard,
    delete,
    form,
    refund,
    sign_in,
    until_listed,
    waiting,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(installation: Installation) -> AsyncIterator[httpx.AsyncClient]:
    async with dashboard(installation.settings) as url, browser(url) as client:
        await sign_in(installation.settings, client)
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str, *words: str, reason: str | None = None) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    problem = answer.json()
    assert (problem["type"], problem["status"], problem["code"]) == ("about:blank", status, code)
    assert (problem["title"], problem.get("reason")) == (answer.reason_phrase, reason)
    for word in words:
        assert word in problem["detail"]


def new(**changes: Any) -> dict[str, Any]:
    return {"id": f"A-{uuid4().hex[:12]}", "body": "please", "requester": ME, "metadata": {"plan": {}}} | changes


def api(view: TicketView) -> str:
    return f"/api/tickets/{view.workflow_id}"


def audited(installation: Installation, view: TicketView, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Return who did what of a kind with a ticket."""
    query = "SELECT actor, content FROM standfast.audit WHERE workflow_id = %s AND kind = %s ORDER BY sequence"
    with psycopg.connect(installation.control_url) as connection:
        return connection.execute(query, [view.workflow_id, kind]).fetchall()


# --- what can't be read ----------------------------------------------------------------------------------------------


NO_TICKETS = (
    (b"", "is empty; expected JSON"),
    (b"{", "line 1, column 2: not valid JSON"),
    (b'{"id": "a", "id": "b"}', "the key 'id' occurs twice"),
    (b'{"id": NaN}', "NaN is not a JSON number"),
    (b'{"id": 1e999}', "1e999 is larger than any number of 64 bits"),
    (b'{"metadata": {"n": 1e300}}', "1e+300 is beyond 2^53 - 1; write it as a string"),
    (b'{"id": "\xff"}', "is not UTF-8: invalid start byte at byte 8"),
    (b"[" * 100_000, "line 1: not valid JSON: nested too deeply"),
    (b'{"metadata": {"n": ' + b"[" * 400 + b"]" * 400 + b"}}", "field (whole): nested too deeply"),
    (b'{"id": "a", "metadata": {"n": "\\ud800"}}', "contains half a surrogate pair, got"),
    (b'{"id": "a", "body": "", "requester": "r", "\\ud800": 1}', "field (whole): contains half a surrogate pair"),
    (b'{"id": "a", "body": "x", "requester": "r", "title": "\\u0000"}', "field title: "),
    (b'"a ticket"', "line 1: field (whole): Input should be an object"),
    (b'[{"id": "a", "body": "x", "requester": "r"}]', "Input should be an object, got [{"),
)


@pytest.mark.parametrize(("body", "words"), NO_TICKETS, ids=[words for _, words in NO_TICKETS])
async def test_a_body_that_is_no_ticket_is_explained(program: httpx.AsyncClient, body: bytes, words: str) -> None:
    answer = await program.post("/api/tickets", content=body, headers=JSON)
    assert_problem(answer, 400, "invalid-input", "the request's body", words)


@pytest.mark.parametrize("depth", [150, 190, 250, 900, 960, 980, 1000, 5000])
async def test_no_depth_of_nesting_is_a_defect(program: httpx.AsyncClient, depth: int) -> None:
    deep = b'{"id": "a", "body": "x", "requester": "r", "metadata": {"n": ' + b"[" * depth + b"]" * depth + b"}}"
    answer = await program.post("/api/tickets", content=deep, headers=JSON)
    assert answer.status_code in {400, 403}, "403: it can be read, and is another person's"


@pytest.mark.parametrize("path", ["/api/tickets", "/api/tickets/ticket/shop/any/decision"])
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "send Content-Type: application/json"),
        ({"Content-Type": "text/plain"}, "send application/json, not 'text/plain'"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "send application/json"),
        ({**JSON, "Content-Encoding": "gzip"}, "without Content-Encoding, not as 'gzip'"),
    ],
)
async def test_what_is_not_said_to_be_json_is_refused(
    program: httpx.AsyncClient, path: str, headers: dict[str, str], words: str
) -> None:
    answer = await program.post(path, content=b"{}", headers=headers)
    assert_problem(answer, 415, "unsupported-media-type", words)
    assert answer.headers.keys() & {"accept", "accept-encoding"}


async def test_json_may_be_said_to_be_utf8(program: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    answer = await program.post("/api/tickets", content=json.dumps(new()), headers=headers)
    assert answer.status_code == 201


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65536 + 1):
        yield b" " * 65536


async def test_a_body_that_is_too_large_is_refused_whether_or_not_its_length_is_announced(
    program: httpx.AsyncClient,
) -> None:
    limit = 1024 * 1024
    announced = await program.post("/api/tickets", content=b" " * (limit + 1), headers=JSON)
    assert_problem(announced, 413, "content-too-large", f"has {limit + 1} bytes, at most {limit} are taken")
    streamed = await program.post("/api/tickets", content=pieces(limit), headers=JSON)
    assert_problem(streamed, 413, "content-too-large")
    fits = await program.post("/api/tickets", content=b" " * limit, headers=JSON)
    assert_problem(fits, 400, "invalid-input", "is empty")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/openapi.json"),
        ("GET", "/api/tickets"),
        ("POST", "/api/tickets"),
        ("GET", "/api/tickets/ticket/shop/any"),
        ("GET", "/api/tickets/ticket/shop/any/history"),
        ("POST", "/api/tickets/ticket/shop/any/decision"),
        ("POST", "/api/tickets/ticket/shop/any/cancel"),
    ],
)
async def test_a_query_with_a_name_that_is_not_known_is_refused_by_that_name(
    program: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await program.request(method, path, params={"statte": "done"}, headers=JSON, content=b"")
    assert_problem(answer, 400, "invalid-input", 'the query: field statte: unknown field, got "done"')


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("state=lost", "invalid-input", "field state.0: Input should be 'gathering', 'planning'"),
        ("state=", "invalid-input", "field state.0"),
        ("target=crm", "unknown-target", "unknown target 'crm'; the settings name: shop"),
        ("target=%00", "invalid-input", "field target.0"),
        ("limit=0", "invalid-input", "field limit: Input should be greater than or equal to 1"),
        ("limit=1001", "invalid-input", "field limit: Input should be less than or equal to 1000"),
        ("limit=many", "invalid-input", "field limit: Input should be a valid integer"),
        ("limit=5&limit=6", "invalid-input", "limit is given 2 times; give it once"),
        ("after=", "invalid-input", "field after"),
        ("after=AAAA", "invalid-input", "after 'AAAA' is the `next` of no page"),
        ("after=AAAAA", "invalid-input", "is the `next` of no page"),
    ],
)
async def test_a_query_with_a_value_that_is_none_is_refused(
    program: httpx.AsyncClient, query: str, code: str, words: str
) -> None:
    assert_problem(await program.get(f"/api/tickets?{query}"), 400, code, words)


# --- methods and paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/openapi.json", {"GET", "HEAD"}),
        ("/api/tickets", {"GET", "HEAD", "POST"}),
        ("/api/tickets/ticket/shop/any", {"GET", "HEAD"}),
        ("/api/tickets/ticket/shop/any/history", {"GET", "HEAD"}),
        ("/api/tickets/ticket/shop/any/decision", {"POST"}),
        ("/api/tickets/ticket/shop/any/cancel", {"POST"}),
        ("/api/tickets/any/decision", {"POST"}),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_another_method_is_refused_and_told_which_there_are(
    program: httpx.AsyncClient, path: str, allowed: set[str], method: str
) -> None:
    answer = await program.request(method, path)
    assert_problem(answer, 405, "method-not-allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/api/nothing", "/api/tickets/ticket/shop", "/api/tickets/ticket/shop/a/b"])
async def test_a_path_that_is_none_is_a_problem(program: httpx.AsyncClient, path: str) -> None:
    assert_problem(await program.get(path), 404, "not-found")


@pytest.mark.parametrize("name", ["shop/nope", "Shop/nope", "shop/-nope", "shop/a%00b", "shop/%ED%A0%80", "shop/a b"])
async def test_a_ticket_that_is_not_there_or_cannot_be_is_unknown(program: httpx.AsyncClient, name: str) -> None:
    path = f"/api/tickets/ticket/{name}"
    seen = {"verdict": "approve", "plan_digest": "d", "fingerprint": "f"}
    for answer in (
        await program.get(path),
        await program.get(f"{path}/history"),
        await program.post(f"{path}/decision", json=seen),
        await program.post(f"{path}/cancel"),
    ):
        assert_problem(answer, 404, "unknown-ticket")


async def test_an_id_alone_is_a_ticket_of_the_default_target(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1069), **about(1069))
    path = f"/api/tickets/{view.ticket.id}"
    assert (await program.get(path)).json() == (await program.get(api(view))).json()
    assert (await program.get(f"{path}/history")).json()["workflow_id"] == view.workflow_id
    decided = await program.post(f"{path}/decision", json=form(view, "reject", comment="no", by=ME.upper()))
    assert (decided.status_code, decided.json()["verdict"]) == (200, "reject")
    assert_problem(await program.get(f"{path}x"), 404, "unknown-ticket")


async def test_head_is_answered_as_get_is_but_shows_nobody_a_plan(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1050), **about(1050))
    for path in ("/api/openapi.json", "/api/tickets?limit=1", api(view), f"{api(view)}/history"):
        head = await program.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == "application/json"
        assert int(head.headers["content-length"]) > 2
    assert (await program.head(f"{api(view)}x")).status_code == 404
    assert audited(installation, view, "view") == []
    await program.get(api(view))
    assert [actor for actor, _ in audited(installation, view, "view")] == [ME]
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_the_document_is_for_who_is_signed_in(program: httpx.AsyncClient) -> None:
    document = (await program.get("/api/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    ((cookie, _),) = program.cookies.items()
    assert document["components"]["securitySchemes"]["session"]["name"] == cookie
    async with browser(str(program.base_url)) as stranger:
        assert_problem(await stranger.get("/api/openapi.json"), 401, "not-signed-in")


# --- tickets ---------------------------------------------------------------------------------------------------------


async def test_a_new_ticket_is_told_where_it_is(program: httpx.AsyncClient) -> None:
    ticket = new()
    first, again = [await program.post("/api/tickets", json=ticket) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200)
    assert (await program.get(first.headers["location"])).json()["ticket"]["id"] == ticket["id"]
    assert "location" not in again.headers
    other = await program.post("/api/tickets", json=ticket | {"body": "something else"})
    assert_problem(other, 409, "ticket-conflict", "was submitted before with other content")


async def test_a_list_is_read_page_by_page_each_ticket_once(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    views = [await waiting(installation, refund(order), **about(order)) for order in (1051, 1052, 1053)]
    await until_listed(installation, *views)
    query: dict[str, Any] = {"state": "waiting", "target": "shop", "limit": 2}
    pages = [(await program.get("/api/tickets", params=query)).json()]
    while pages[-1]["next"]:
        pages.append((await program.get("/api/tickets", params=query | {"after": pages[-1]["next"]})).json())
    found = [row["workflow_id"] for page in pages for row in page["tickets"]]
    assert [len(page["tickets"]) for page in pages[:-1]] == [2] * (len(pages) - 1)
    assert len(found) == len(set(found))
    assert {view.workflow_id for view in views} <= set(found)
    for view in views:
        await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


@pytest.mark.parametrize("spoilt", ["x", ""])
async def test_where_a_page_ends_cannot_be_made_up(
    installation: Installation, program: httpx.AsyncClient, spoilt: str
) -> None:
    for _ in range(2):
        await installation.client.wait(await installation.submit({}))
    async with asyncio.timeout(30):
        # The visibility store lags behind, and tells nobody.
        while not (after := (await program.get("/api/tickets?limit=1")).json()["next"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    answer = await program.get("/api/tickets", params={"after": spoilt + after[:-8] + "AAAAAAA="})
    assert_problem(answer, 400, "invalid-input", "take it from the page before, unchanged")


async def test_the_history_is_the_timeline_oldest_first(installation: Installation, program: httpx.AsyncClient) -> None:
    view = await waiting(installation, refund(1054), **about(1054))
    history = (await program.get(f"{api(view)}/history")).json()
    assert history["workflow_id"] == view.workflow_id
    assert {"start", "context", "planning", "validation"} <= {entry["step"] for entry in history["entries"]}
    assert history["entries"] == sorted(history["entries"], key=lambda entry: entry["at"])
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_who_cancels_a_ticket_is_on_record(installation: Installation, program: httpx.AsyncClient) -> None:
    view = await waiting(installation, refund(1055), **about(1055))
    full = await program.post(f"{api(view)}/cancel", content=b"now")
    assert_problem(full, 400, "invalid-input", "has to be empty here")
    assert audited(installation, view, "cancel") == []
    answer = await program.post(f"{api(view)}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"workflow_id": view.workflow_id, "cancel_requested": True})
    assert (await installation.client.wait(view.workflow_id)).state is State.CANCELLED
    assert audited(installation, view, "cancel") == [(ME, {})]
    again = await program.post(f"{api(view)}/cancel")
    assert_problem(again, 409, "decision-refused", "has ended already", reason="not-waiting")
    assert len(audited(installation, view, "cancel")) == 1


# --- decisions -------------------------------------------------------------------------------------------------------


async def test_an_early_decision_is_refused_and_on_record(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    with psycopg.connect(installation.owner_url) as held:
        held.execute("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE")  # whoever reads the context has to wait
        workflow_id = await installation.submit(refund(1060), **about(1060))
        seen = {"verdict": "approve", "plan_digest": "d", "fingerprint": "f"}
        answer = await program.post(f"/api/tickets/{workflow_id}/decision", json=seen)
        held.rollback()
    assert_problem(answer, 409, "decision-refused", "not waiting for a decision", reason="not-waiting")
    view = await installation.until_waiting(workflow_id)
    ((actor, content),) = audited(installation, view, "decision.refused")
    assert (actor, content["refused"]) == (ME, "not-waiting")
    assert view.approvals == ()
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_a_late_decision_is_refused_and_on_record_though_the_ticket_has_ended(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1061), **about(1061))
    await installation.decide(view, DecisionVerdict.REJECT, comment="no")
    await installation.client.wait(view.workflow_id)
    answer = await program.post(f"{api(view)}/decision", json=form(view, "approve", comment="yes"))
    assert_problem(answer, 409, "decision-refused", "already", reason="not-waiting")
    ((actor, content),) = audited(installation, view, "decision.unheard")
    assert view.report is not None
    assert (actor, content["by"], content["mode"], content["comment"]) == (ME, ME, Mode.SOLO, "yes")
    assert (content["refused"], content["verdict"]) == ("not-waiting", "approve")
    assert (content["plan_digest"], content["fingerprint"]) == (view.report.plan_digest, view.report.fingerprint)
    verified = await verify(installation.settings, on_progress=lambda _: None)
    assert [problem for problem in verified.problems if problem.where == view.workflow_id] == []


async def test_a_duplicate_decision_is_refused_and_on_record(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1062), **about(1062))
    body = form(view, "approve")
    first, second = await asyncio.gather(*(program.post(f"{api(view)}/decision", json=body) for _ in range(2)))
    refused, accepted = sorted((first, second), key=lambda answer: answer.status_code, reverse=True)
    assert (accepted.status_code, accepted.json()["by"], accepted.json()["refused"]) == (200, ME, None)
    assert_problem(refused, 409, "decision-refused", reason="not-waiting")
    assert (await installation.client.wait(view.workflow_id)).state is State.DONE
    assert len(audited(installation, view, "decision")) == 1
    on_record = [audited(installation, view, f"decision.{kind}") for kind in ("refused", "unheard")]
    assert sum(map(len, on_record)) == 1, "unheard: the ticket may have ended before the second one came"
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1062") == [(1,)]


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"plan_digest": "0" * 64}, "stale-plan", "has another plan now"),
        ({"fingerprint": "0" * 64}, "stale-rows", "the rows have changed"),
        ({"verdict": "reject"}, "comment-required", "say why in a comment"),
        ({"verdict": "revise", "comment": " \n"}, "comment-required", "say why in a comment"),
    ],
)
async def test_a_decision_on_something_else_than_is_there_is_refused_and_on_record(
    installation: Installation, program: httpx.AsyncClient, changes: dict[str, str], reason: str, words: str
) -> None:
    view = await waiting(installation, refund(1063), **about(1063))
    answer = await program.post(f"{api(view)}/decision", json=form(view, "approve") | changes)
    assert_problem(answer, 409, "decision-refused", words, reason=reason)
    ((actor, content),) = audited(installation, view, "decision.refused")
    assert (actor, content["refused"]) == (ME, reason)
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_who_opened_a_ticket_is_refused_and_on_record(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1064), requester=ME, **about(1064))
    answer = await program.post(f"{api(view)}/decision", json=form(view, "approve"))
    assert_problem(answer, 409, "decision-refused", "the requester of a ticket may not", reason="own-ticket")
    assert [content["refused"] for _, content in audited(installation, view, "decision.refused")] == ["own-ticket"]
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


@pytest.mark.parametrize("forged", [{"proof": {"signature": "AAAA"}}, {"mode": "cli"}, {"approved": "yes"}])
async def test_nobody_says_for_himself_who_he_is(
    installation: Installation, program: httpx.AsyncClient, forged: dict[str, Any]
) -> None:
    view = await waiting(installation, refund(1065), **about(1065))
    answer = await program.post(f"{api(view)}/decision", json=form(view, "approve") | forged)
    (name,) = forged
    assert_problem(answer, 400, "invalid-input", f"field {name}: unknown field")
    assert (await installation.client.view(view.workflow_id)).state is State.WAITING
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


def unsigned(decision: Decision) -> Decision:
    return decision.model_copy(update={"proof": None})


def of_another_person(decision: Decision) -> Decision:
    return decision.model_copy(update={"by": "boss@example.com"})


def of_another_key(decision: Decision) -> Decision:
    assert decision.proof is not None
    proof = decision.proof.model_copy(update={"key_id": "mine"})
    return decision.model_copy(update={"proof": proof})


@pytest.mark.parametrize(
    ("forged", "reason"),
    [(unsigned, "unsigned"), (of_another_person, "bad-signature"), (of_another_key, "bad-signature")],
)
async def test_a_decision_that_goes_round_the_dashboard_is_refused_and_on_record(
    installation: Installation, forged: Callable[[Decision], Decision], reason: str
) -> None:
    view = await waiting(installation, refund(1068), **about(1068))
    seen = form(view, "approve")
    signed = installation.client.signed(
        view.workflow_id,
        verdict=DecisionVerdict.APPROVE,
        by="ben@example.com",
        mode=Mode.SESSION,
        plan_digest=seen["plan_digest"],
        fingerprint=seen["fingerprint"],
    )
    with pytest.raises(DecisionRefused) as refused:
        await installation.client.deliver(view.workflow_id, forged(signed))
    assert refused.value.reason == reason
    ((actor, content),) = audited(installation, view, "decision.refused")
    assert (actor, content["refused"]) == (forged(signed).by, reason)
    assert (await installation.client.view(view.workflow_id)).state is State.WAITING
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_who_approves_deleted_rows_says_how_many(installation: Installation, program: httpx.AsyncClient) -> None:
    view = await waiting(installation, delete(1066), **about(1066))
    answer = await program.post(f"{api(view)}/decision", json=form(view, "approve", comment="paid twice"))
    assert_problem(answer, 409, "decision-refused", "type 1 to approve", reason="confirmation-required")
    sure = form(view, "approve", comment="paid twice", deleted_rows="1")
    answer = await program.post(f"{api(view)}/decision", json=sure)
    assert answer.status_code == 200
    assert (await installation.client.wait(view.workflow_id)).state is State.DONE


async def test_who_was_refused_too_often_is_heard_no_more_and_others_are(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1067), **about(1067))
    stale = form(view, "approve") | {"plan_digest": "0" * 64}
    for _ in range(MAX_REFUSED_OF_ONE // 5):
        for answer in await asyncio.gather(*(program.post(f"{api(view)}/decision", json=stale) for _ in range(5))):
            assert_problem(answer, 409, "decision-refused", reason="stale-plan")
    one_more = await program.post(f"{api(view)}/decision", json=form(view, "approve"))
    assert_problem(one_more, 409, "decision-refused", "no more of theirs are taken", reason="too-many-refused")
    refused, unheard = (audited(installation, view, f"decision.{kind}") for kind in ("refused", "unheard"))
    assert [content["refused"] for _, content in refused] == ["stale-plan"] * MAX_REFUSED_OF_ONE
    assert [content["refused"] for _, content in unheard] == ["too-many-refused"]
    await installation.decide(view, DecisionVerdict.APPROVE, by="somebody-else@example.com")
    assert (await installation.client.wait(view.workflow_id)).state is State.DONE


async def test_a_decision_that_names_who_decides_names_who_sends_it(
    installation: Installation, program: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1068), **about(1068))
    answer = await program.post(f"{api(view)}/decision", json=form(view, "approve", by="ben@example.com"))
    assert_problem(answer, 403, "not-permitted", "ben@example.com")
    assert audited(installation, view, "decision") == []
