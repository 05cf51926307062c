"""The inbox: complete and in order, however many wait; from the visibility store alone, where nobody can read names."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from html import unescape
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from temporalio.client import Client

from standfast import cluster, visibility
from standfast.client import Standfast
from standfast.codec.keyring import KeyRing
from standfast.codec.requesters import requester_marks
from standfast.dashboard.inbox import Filter, Listing, load
from standfast.dashboard.live import LIST_SECONDS
from standfast.dashboard.looks import Looks
from standfast.dashboard.sessions import local_session
from standfast.decision import DecisionVerdict, Mode
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.listing import Narrowed, WaitingPage
from standfast.outcome import State
from standfast.report import Danger
from standfast.settings import Encryption, Settings
from standfast.ticket import Ticket
from standfast.view import TicketView
from tests.integration.batching import batching
from tests.integration.installation import CONSTRAINTS, Installation, installed
from tests.integration.listed import NOBODY, report, wait_in_vain
from tests.integration.test_dashboard import about, browser, dashboard, delete, refund, sign_in, waiting
from tests.processes import LIMIT, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<script>alert(1)</script> \u202eevil \"'><a href=/x>"
MANY = 100


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        shop = installation.settings.targets["shop"]
        settings = installation.settings.model_copy(update={"targets": {"shop": shop, "bank": shop}})
        async with Standfast.connect(settings) as client:
            yield replace(installation, settings=settings, client=client)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def temporal(installation: Installation) -> AsyncIterator[Client]:
    temporal = await cluster.connect(installation.settings)
    yield temporal
    left = [one.id async for one in temporal.list_workflows(f'TaskQueue = "{NOBODY}" AND ExecutionStatus = "Running"')]
    await asyncio.gather(*(temporal.get_workflow_handle(one).terminate() for one in left))


@pytest_asyncio.fixture(loop_scope="module")
async def approver(installation: Installation) -> AsyncIterator[httpx.AsyncClient]:
    async with dashboard(installation.settings) as url, browser(url) as client:
        await sign_in(installation.settings, client)
        yield client


@pytest.fixture
def somebody() -> str:
    """A requester of this test's own: what else waits on the server is not theirs."""
    return f"{uuid4().hex[:12]}@example.com"


def ticket(requester: str, title: str = "", **changes: Any) -> Ticket:
    fields = {"id": f"I-{uuid4().hex[:12]}", "body": "please", "target": "shop"}
    return Ticket.model_validate(fields | {"title": title, "requester": requester} | changes)


async def until(condition: Callable[[], Any]) -> Any:
    """The visibility store lags behind, and tells nobody."""
    async with asyncio.timeout(LIMIT):
        while not (found := await condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def until_count(installation: Installation, narrowed: Narrowed, number: int) -> None:
    async def counted() -> bool:
        return await installation.client.lists.waiting_count(narrowed) == number

    await until(counted)


async def shown(approver: httpx.AsyncClient, number: int, **query: str) -> str:
    """Return the inbox once so many tickets pass the filter."""

    async def complete() -> str:
        text = unescape((await approver.get("/", params=query)).text)
        return text if f"({number}) Inbox" in text else ""

    return str(await until(complete))


def titles(text: str) -> list[str]:
    return re.findall(r"<h3><a href=\"[^\"]+\">(.*?)</a></h3>", text)


# --- order and pages -------------------------------------------------------------------------------------------------


async def test_the_most_dangerous_come_first_and_then_those_that_wait_longest(
    temporal: Client, approver: httpx.AsyncClient, somebody: str
) -> None:
    in_order = [
        (Danger.LASTING, 5, "lasting, for long"),
        (Danger.LASTING, 1, "lasting"),
        (Danger.DELETING, 900, "deleting, for very long"),
        (Danger.DELETING, 2, "deleting"),
        (Danger.ORDINARY, 3000, "ordinary, for days"),
        (Danger.ORDINARY, 3, "ordinary"),
    ]
    for danger, minutes, title in sorted(in_order, key=lambda one: one[2]):
        await wait_in_vain(temporal, ticket(somebody, title), report(danger), waited=timedelta(minutes=minutes))
    text = await shown(approver, len(in_order), requester=somebody)
    assert titles(text) == [title for _, _, title in in_order]
    assert "1\N{EN DASH}6 of 6" in text
    assert text.count("cannot be undone") == 2
    assert text.count("deletes 2 rows<") == 2
    assert "waits for <time" in text
    assert {"2 d", "21 h"} <= set(re.findall(r"expires in <time [^>]* data-left>([^<]*)</time>", text))


async def test_what_a_ticket_would_change_is_listed_though_no_worker_serves_it(
    temporal: Client, approver: httpx.AsyncClient, somebody: str
) -> None:
    await wait_in_vain(temporal, ticket(somebody, "Of nobody's queue"), report())
    text = await shown(approver, 1, requester=somebody)
    assert titles(text) == ["Of nobody's queue"]
    assert "Updates 3 rows in shop.orders, deletes nothing, in shop." in text


async def test_a_decision_that_no_worker_hears_says_for_how_long_it_was_waited_for(
    installation: Installation, temporal: Client, somebody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("standfast.client._ON_RECORD", timedelta(seconds=1))
    unheard = ticket(somebody, "Of nobody's queue")
    await wait_in_vain(temporal, unheard, report())
    seen = {"plan_digest": "0" * 64, "fingerprint": "0" * 64}
    with pytest.raises(ServiceUnavailable, match=f"no core worker answered for {unheard.workflow_id} within 1 s"):
        await installation.client.decide(
            unheard.workflow_id, verdict=DecisionVerdict.APPROVE, by="ben@example.com", mode=Mode.CLI, **seen
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(installation: Installation, temporal: Client) -> tuple[Narrowed, list[str]]:
    """Tickets of all dangers, bunched and at one time, and how they should be listed."""
    requester = f"{uuid4().hex[:12]}@example.com"
    narrowed = installation.client.lists.narrowed(requester=requester)
    dangers = [Danger.LASTING] * 9 + [Danger.DELETING] * 11 + [Danger.ORDINARY] * (MANY - 20)
    days = [4] + [3] * 30 + [0] * (MANY - 31)
    tickets = [ticket(requester, f"{number}") for number in range(MANY)]

    async def start(number: int) -> None:
        waited = timedelta(days=days[number], milliseconds=100 * (MANY - number // 3 * 3))
        await wait_in_vain(temporal, tickets[number], report(dangers[number]), waited=waited)

    for some in range(0, MANY, 10):
        await asyncio.gather(*map(start, range(some, min(MANY, some + 10))))
    await until_count(installation, narrowed, MANY)
    found = (await installation.client.lists.waiting(narrowed, MANY)).tickets
    assert {one.workflow_id for one in found} == {one.workflow_id for one in tickets}
    assert [one.place for one in found] == sorted(one.place for one in found)
    return narrowed, [one.workflow_id for one in found]


def ids(page: WaitingPage) -> list[str]:
    return [one.workflow_id for one in page.tickets]


@pytest.mark.parametrize("size", [4, 25])
async def test_every_ticket_is_on_one_page_there_and_back(
    installation: Installation, crowd: tuple[Narrowed, list[str]], size: int
) -> None:
    narrowed, in_order = crowd
    pages = [await installation.client.lists.waiting(narrowed, size)]
    while pages[-1].following:
        pages.append(await installation.client.lists.waiting(narrowed, size, after=pages[-1].tickets[-1].place))
    assert [one for page in pages for one in ids(page)] == in_order
    assert all(page.total == MANY for page in pages)
    seen = 0
    for page in pages:
        assert page.skipped == seen
        assert len(page.tickets) <= size + 2  # three began to wait within one millisecond, at most
        seen += len(page.tickets)
    page, back = pages[-1], ids(pages[-1])
    while page.skipped:
        page = await installation.client.lists.waiting(narrowed, size, before=page.tickets[0].place)
        back = ids(page) + back if page.skipped else back
    assert back == in_order[-len(back) :]
    assert len(back) >= MANY - size - 2
    assert ids(page) == ids(pages[0])


async def test_pages_are_plain_links(
    installation: Installation, crowd: tuple[Narrowed, list[str]], approver: httpx.AsyncClient
) -> None:
    narrowed, in_order = crowd
    page = await installation.client.lists.waiting(narrowed, 1)
    assert page.tickets[0].summary is not None
    requester = page.tickets[0].summary.requester
    text = await shown(approver, MANY, requester=requester)
    found: list[str] = []
    while True:
        found += re.findall(r"<h3><a href=\"/tickets/([^\"]+)\"", text)
        assert f"\N{EN DASH}{len(found)} of {MANY}" in text
        following = re.search(r"<a rel=\"next\" href=\"([^\"]+)\"", text)
        if following is None:
            break
        text = unescape((await approver.get(following[1])).text)
    assert found == in_order
    previous = re.search(r"<a rel=\"prev\" href=\"([^\"]+)\"", text)
    assert previous is not None
    assert (await approver.get(previous[1])).status_code == 200


async def test_a_page_whose_tickets_were_all_decided_meanwhile_is_the_last_one(
    installation: Installation, crowd: tuple[Narrowed, list[str]]
) -> None:
    narrowed, in_order = crowd
    page = await installation.client.lists.waiting(narrowed, 20, after=10**15 - 1)
    assert ids(page) == in_order[-len(page.tickets) :]
    assert page.following == 0


@pytest.mark.parametrize(
    "query",
    [{"after": "x"}, {"before": "-1"}, {"after": "0" * 40}, {"state": "lost"}, {"rule": 'x" OR 1'}, {"target": "x"}],
)
async def test_an_address_that_we_never_gave_out_is_refused_in_words(
    approver: httpx.AsyncClient, query: dict[str, str]
) -> None:
    answer = await approver.get("/", params=query)
    assert answer.status_code in (400, 404)
    assert next(iter(query.values()))[:1] in answer.text


# --- filters ---------------------------------------------------------------------------------------------------------


async def test_a_namespace_that_is_none_is_named_whatever_is_asked_for(installation: Installation) -> None:
    config = (await cluster.connect(installation.settings)).config() | {"namespace": "nowhere"}
    elsewhere = Standfast(Client(**config), installation.settings)
    for question in (
        elsewhere.lists.tickets(),
        elsewhere.lists.page(limit=1),
        elsewhere.lists.rows(["ticket/shop/1"]),
        elsewhere.lists.waiting_count(elsewhere.lists.narrowed()),
        elsewhere.view("ticket/shop/1"),
    ):
        with pytest.raises(InvalidInput, match=r"Temporal has no namespace 'nowhere'; .* temporal\.namespace"):
            await question


async def test_each_filter_shows_what_passes_it_and_nothing_else(
    temporal: Client, approver: httpx.AsyncClient, somebody: str
) -> None:
    await wait_in_vain(temporal, ticket(somebody, "Of the bank", target="bank"), report())
    await wait_in_vain(temporal, ticket(somebody, "Of the shop"), report(rules=["value.limit", "rows.limit"]))
    await wait_in_vain(
        temporal, ticket(f"other-{somebody}", "Of somebody else"), report(rules=[f"own.{somebody[:12]}"])
    )
    assert titles(await shown(approver, 1, requester=somebody, target="bank")) == ["Of the bank"]
    assert titles(await shown(approver, 1, requester=somebody, rule="value.limit")) == ["Of the shop"]
    assert titles(await shown(approver, 1, rule=f"own.{somebody[:12]}")) == ["Of somebody else"]
    assert sorted(titles(await shown(approver, 2, requester=f" {somebody.upper()} "))) == ["Of the bank", "Of the shop"]
    assert "No such ticket waits." in (await approver.get("/", params={"requester": f"nobody-{somebody}"})).text


async def test_what_does_not_wait_is_found_by_its_state(
    installation: Installation, approver: httpx.AsyncClient, somebody: str
) -> None:
    set_status = {"operations": [{"sql": "UPDATE shop.orders SET status = $1 WHERE id = 1020", "params": ["please"]}]}
    fields = {"title": "Well done", "requester": somebody, "subject": {"order_id": 1020}}
    workflow_id = await installation.submit(set_status, **fields)
    assert (await installation.client.wait(workflow_id)).state is State.DONE

    async def listed() -> bool:
        texts = [(await approver.get("/", params={"requester": somebody, "state": s})).text for s in ("ended", "done")]
        return all("Well done" in text for text in texts)

    await until(listed)
    for state in ("", "running", "failed"):
        assert "Well done" not in (await approver.get("/", params={"requester": somebody, "state": state})).text


async def test_after_a_rotation_of_keys_a_requester_is_found_by_old_and_new_ones(
    installation: Installation, somebody: str
) -> None:
    old = KeyRing.new()
    new = old.rotated()
    for ring in (old, new):
        temporal = await cluster.connect(with_ring(installation.settings, ring))
        await wait_in_vain(temporal, ticket(somebody), report())
    async with Standfast.connect(with_ring(installation.settings, new)) as client:
        narrowed = client.lists.narrowed(requester=somebody)
        assert len(set(narrowed.requester_marks)) == 2

        async def both() -> bool:
            return len((await client.lists.waiting(narrowed, 10)).tickets) == 2

        await until(both)


def with_ring(settings: Settings, ring: KeyRing) -> Settings:
    keys = {key_id: base64.b64encode(key).decode() for key_id, key in ring.keys.items()}
    encryption = Encryption.model_validate({"keys": keys, "active": ring.active})
    return settings.model_copy(update={"encryption": encryption})


async def test_tickets_of_a_batch_are_found_by_their_requester(installation: Installation, somebody: str) -> None:
    risky = {"operations": [{"sql": "DELETE FROM shop.refunds WHERE order_id = $1", "params": [1]}]}
    tickets = [ticket(somebody, metadata={"plan": risky}) for _ in range(2)]
    narrowed = installation.client.lists.narrowed(requester=somebody)
    async with batching(installation) as batches:
        batch = await batches.start(tickets)
        await until_count(installation, narrowed, 2)
        assert set(ids(await installation.client.lists.waiting(narrowed, 10))) == {one.workflow_id for one in tickets}
        for one in tickets:
            await batches.decide(one, DecisionVerdict.REJECT)
        await batches.end(batch)
    await until_count(installation, narrowed, 0)


# --- what is shown ---------------------------------------------------------------------------------------------------


async def test_a_real_ticket_tells_the_list_what_it_would_change(
    installation: Installation, approver: httpx.AsyncClient, somebody: str
) -> None:
    risky = await waiting(installation, refund(1021), title="A lost parcel", requester=somebody, **about(1021))
    worse = await waiting(installation, delete(1022), title="To delete", requester=somebody, **about(1022))
    text = await shown(approver, 2, requester=somebody)
    assert titles(text)[0] == "To delete"
    assert "Inserts 1 row in shop.refunds, deletes nothing, in shop." in text
    assert "deletes 1 row<" in text
    assert risky.report is not None
    for finding in risky.report.all_findings:
        assert f">{finding.rule}</a>" in text
    await clean_up(installation, risky, worse)
    assert titles(await shown_none(approver, somebody)) == []


async def shown_none(approver: httpx.AsyncClient, requester: str) -> str:
    async def empty() -> str:
        text = (await approver.get("/", params={"requester": requester})).text
        return text if "No such ticket waits." in text else ""

    return str(await until(empty))


async def clean_up(installation: Installation, *views: TicketView) -> None:
    for view in views:
        await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_approvals_are_counted_and_who_cannot_approve_is_told(
    installation: Installation, approver: httpx.AsyncClient, somebody: str
) -> None:
    me = local_session().user
    await installation.constrain(f"{CONSTRAINTS}quorum: {{approval: 2, critical: 2}}\n")
    view = await waiting(installation, refund(1023), requester=somebody, **about(1023))
    mine = await waiting(installation, refund(1024), title=somebody, requester=me, **about(1024))
    await installation.constrain(CONSTRAINTS)
    assert "0 of 2 approvals" in await shown(approver, 1, requester=somebody)
    await installation.decide(view, DecisionVerdict.APPROVE, by=me)

    async def counted() -> bool:
        return "1 of 2 approvals" in (await approver.get("/", params={"requester": somebody})).text

    await until(counted)
    assert "you have approved it" in (await approver.get("/", params={"requester": somebody})).text

    async def listed() -> str:
        text = (await approver.get("/", params={"requester": me})).text
        return text if somebody in text else ""

    assert "you opened it" in await until(listed)
    await clean_up(installation, view, mine)


async def test_waiting_plans_that_change_the_same_rows_are_pointed_out_until_one_has_ended(
    installation: Installation, approver: httpx.AsyncClient, somebody: str
) -> None:
    plan = {"operations": [{"sql": "UPDATE shop.orders SET total = $1 WHERE id = $2", "params": [7777, 1025]}]}
    one = await waiting(installation, plan, requester=somebody, **about(1025))
    other = await waiting(installation, plan, requester=f"other-{somebody}", **about(1025))
    warning = "Changes some of the same rows as"
    assert f'{warning} <a href="/tickets/{other.workflow_id}">' in await shown(approver, 1, requester=somebody)
    text = await shown(approver, 1, requester=f"other-{somebody}")
    assert f'{warning} <a href="/tickets/{one.workflow_id}">' in text
    await clean_up(installation, other)
    await installation.client.wait(other.workflow_id)
    assert warning not in await shown(approver, 1, requester=somebody)
    await clean_up(installation, one)


async def test_hostile_titles_and_names_are_shown_and_do_nothing(
    temporal: Client, approver: httpx.AsyncClient, somebody: str
) -> None:
    requester = f"{HOSTILE}{somebody}"
    await wait_in_vain(temporal, ticket(requester, HOSTILE), report())
    await shown(approver, 1, requester=requester)
    text = (await approver.get("/", params={"requester": requester})).text
    assert "<script>alert" not in text
    assert "<a href=/x>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in titles(text)[0]
    assert "U+202E" in titles(text)[0]
    link = re.search(r"from <a href=\"([^\"]+)\"", text)
    assert link is not None
    assert titles((await approver.get(unescape(link[1]))).text) == titles(text)


async def test_a_ticket_whose_summary_cannot_be_read_is_listed_all_the_same(
    installation: Installation, approver: httpx.AsyncClient, somebody: str
) -> None:
    stranger = await cluster.connect(with_ring(installation.settings, KeyRing.new()))
    one = ticket(somebody)
    await wait_in_vain(stranger, one, report(rules=[f"own.{somebody[:12]}"]))
    text = await shown(approver, 1, rule=f"own.{somebody[:12]}")
    assert titles(text) == [one.id]
    assert "its page tells" in text


# --- the newest of all ------------------------------------------------------------------------------------------------


async def test_of_many_tickets_the_newest_are_counted_and_listed_though_older_ones_are_still_open(
    installation: Installation, temporal: Client, somebody: str
) -> None:
    began = datetime.now(UTC)
    tickets = [ticket(somebody, target="bank") for _ in range(30)]
    for number, one in enumerate(tickets):
        await wait_in_vain(temporal, one, report())
        if number >= 15:
            await temporal.get_workflow_handle(one.workflow_id).terminate()

    async def newest(limit: int) -> list[str]:
        return [row.workflow_id for row in await installation.client.lists.tickets((), ["bank"], limit, began)]

    in_order = [one.workflow_id for one in reversed(tickets)]
    assert await eventually(lambda: newest(100), lambda found: len(found) == len(tickets)) == in_order
    await until_count(installation, installation.client.lists.narrowed(requester=somebody), 15)
    for limit in (1, 12, 20, 29, 30):
        assert await newest(limit) == in_order[:limit]
    assert (await installation.client.stats(["bank"], began, 12)).tickets == {State.FAILED: 12}


# --- live ------------------------------------------------------------------------------------------------------------


async def test_those_who_see_the_same_list_share_one_look(installation: Installation, somebody: str) -> None:
    looks = Looks[Filter, Listing](LIST_SECONDS)

    async def newest(wanted: Filter) -> Listing:
        return await looks.newest(wanted, partial(load, installation.client, wanted))

    wanted = Filter(requester=somebody)
    first, second = await asyncio.gather(newest(wanted), newest(wanted))
    assert first is second
    assert await newest(replace(wanted, target="bank")) is not first


async def test_an_open_list_is_told_of_a_new_ticket_and_of_its_end(
    temporal: Client, approver: httpx.AsyncClient, somebody: str
) -> None:
    one = ticket(somebody)
    versions: list[str] = []
    async with approver.stream("GET", "/events", params={"requester": somebody}) as stream, asyncio.timeout(LIMIT):
        async for line in stream.aiter_lines():
            versions += [line] if line.startswith("data: ") else []
            if line.startswith("data: ") and len(versions) == 1:
                await wait_in_vain(temporal, one, report())
            if line.startswith("data: ") and len(versions) == 2:
                await temporal.get_workflow_handle(one.workflow_id).terminate()
            if len(versions) == 3:
                break
    assert versions[0] == versions[2] != versions[1]


# --- what can be read at Temporal ------------------------------------------------------------------------------------


async def test_the_visibility_store_holds_no_personal_data(installation: Installation, somebody: str) -> None:
    view = await waiting(installation, delete(1026), title=f"About {somebody}", requester=somebody, **about(1026))
    temporal = await cluster.connect(installation.settings)
    narrowed = installation.client.lists.narrowed(requester=somebody)
    await until_count(installation, narrowed, 1)
    (found,) = [one async for one in temporal.list_workflows(f'WorkflowId = "{view.workflow_id}"')]
    raw = found.raw_info.SerializeToString()
    for secret in (somebody, "About", "Deletes 1 row", "shop.orders"):
        assert secret.encode() not in raw
    attributes = found.typed_search_attributes
    assert attributes.get(visibility.REQUESTER) == requester_marks(temporal.data_converter, somebody.upper())[0]
    assert {pair.key.name for pair in attributes} >= {key.name for key in visibility.ATTRIBUTES}
    summary = await found.memo_value(visibility.SUMMARY, type_hint=visibility.TicketSummary)
    assert (summary.title, summary.requester, summary.deleted_rows) == (f"About {somebody}", somebody, 1)
    await clean_up(installation, view)
    await installation.client.wait(view.workflow_id)
    ended = await temporal.get_workflow_handle(view.workflow_id).describe()
    assert ended.typed_search_attributes.get(visibility.ORDER) is None
