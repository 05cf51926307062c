"""The timeline of a real ticket: on its page, as a file and on the command line, with links into Temporal's own UI."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo

from standfast.client import Standfast
from standfast.dashboard import freshness, looks
from standfast.dashboard.story import ENTRIES_SHOWN, story
from standfast.decision import DecisionVerdict
from standfast.errors import DecisionRefused
from standfast.local.fake_provider import Answers, Calls, FakeProvider, Raw
from standfast.outcome import State
from standfast.plan import Operation, Plan
from standfast.settings import Control
from standfast.steps import Pool
from standfast.timeline import TimelineEntry
from standfast.view import TicketView
from tests.integration.installation import CONSTRAINTS, Installation, database_name, prepare, serving
from tests.integration.test_dashboard import about, browser, dashboard, sign_in
from tests.processes import LIMIT

pytestmark = pytest.mark.asyncio(loop_scope="module")

UI = "http://127.0.0.1:8233"
APPROVE = DecisionVerdict.APPROVE
REFUND = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider({}) as provider:
        patch.setenv("OPENAI_BASE_URL", provider.url)
        patch.setenv("OPENAI_API_KEY", "none")
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str, temporal_server: str, provider: FakeProvider) -> AsyncIterator[Installation]:
    """A shop for which a model plans."""
    del provider
    temporal = {"address": temporal_server, "ui": UI}
    settings, owner = await prepare(
        postgres, temporal_server, f"t{uuid4().hex[:8]}", planner={"model": "openai:fake"}, temporal=temporal
    )
    async with serving(settings, *Pool), Standfast.connect(settings) as client:
        shop = Installation(settings, client, owner)
        await shop.constrain(CONSTRAINTS)
        yield shop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(shop: Installation) -> AsyncIterator[httpx.AsyncClient]:
    async with dashboard(shop.settings) as address, browser(address) as client:
        await sign_in(shop.settings, client)
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executed(shop: Installation, provider: FakeProvider) -> TicketView:
    """A ticket that was looked up, planned, refused to its requester, approved, executed, and is to be undone."""
    name = f"T-{uuid4().hex[:12]}"
    plan = Plan(operations=(Operation(sql=REFUND, params=(1001,)),))
    provider.script[name] = [
        Calls("look_up_rows", table="orders", equals={"id": 1001}),
        Calls("describe_table", table="nowhere"),
        Answers(plan),
    ]
    view = await shop.until_waiting(await shop.submit({}, id=name, **about(1001)))
    with pytest.raises(DecisionRefused, match="requester"):
        await shop.decide(view, APPROVE, by="ana@example.com")
    await shop.decide(view, APPROVE, comment="the parcel is lost")
    assert (await shop.client.wait(view.workflow_id)).state is State.DONE
    undo = await shop.client.undo(view.workflow_id, by="cy@example.com")
    await shop.until_waiting(undo.workflow_id)
    return view


async def test_the_page_tells_what_happened_step_by_step(page: httpx.AsyncClient, executed: TicketView) -> None:
    text = " ".join(re.sub(r"<[^>]+>", " ", (await page.get(f"/tickets/{executed.workflow_id}")).text).split())
    for promised in (
        "for ana@example.com",
        "1 row by 1 query, 2 tables described",
        "request model: openai:fake fake: 10 tokens in, 5 out, price not known",
        "call tool: database:look_up_rows 1 row",
        "call tool: database:describe_table sent back: there is no table &#39;nowhere&#39;",
        "plan 1 1 operation",
        "check and rehearse plan 1 approval: table.writes",
        "table.writes (approval): writes to shop.refunds need a person",
        "approve by ana@example.com (cli): refused, own-ticket",
        "approve by ben@example.com (cli): counts",
        "1 row changed, on the ledger as plan",
        "done: Inserts 1 row in shop.refunds, deletes nothing, in shop.",
        "undo asked for by cy@example.com",
    ):
        assert promised in text


async def test_page_file_and_command_line_tell_the_same(
    shop: Installation, page: httpx.AsyncClient, executed: TicketView
) -> None:
    entries = await shop.client.history(executed.workflow_id)
    file = (await page.get(f"/tickets/{executed.workflow_id}/history.json")).json()
    assert file == [entry.model_dump(mode="json") for entry in entries]
    shown = (await page.get(f"/tickets/{executed.workflow_id}")).text
    assert all(entry.link and entry.link in shown for entry in entries)


async def test_an_open_page_is_told_that_the_model_provider_fails_again_and_again(
    shop: Installation, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (freshness, looks):
        monkeypatch.setattr(module, "TICKET_SECONDS", 0.1)
    name = f"T-{uuid4().hex[:12]}"
    provider.script[name] = [Raw(500)]
    workflow_id = await shop.submit({}, id=name, **about(1004))
    await shop.until(workflow_id, lambda view: view.state is State.PLANNING)
    address, events = f"/tickets/{workflow_id}", f"/tickets/{workflow_id}/events"
    async with dashboard(shop.settings) as url, browser(url) as page:
        await sign_in(shop.settings, page)
        told: list[str] = []
        async with page.stream("GET", events) as stream, asyncio.timeout(LIMIT):
            lines = (line async for line in stream.aiter_lines() if line.startswith("data:"))
            while "fails, attempt 3 " not in "".join(told):
                await anext(lines)
                told.append((await page.get(address)).text)
    assert "fails, attempt 3 " not in told[0]
    await shop.client.cancel(workflow_id)
    await shop.client.wait(workflow_id)


async def test_each_entry_leads_to_its_event_in_temporals_ui(shop: Installation, executed: TicketView) -> None:
    entries = await shop.client.history(executed.workflow_id)
    start = entries[0]
    workflow = executed.workflow_id.replace("/", "%2F")
    assert start.link == f"{UI}/namespaces/default/workflows/{workflow}/{start.run_id}/history/events/1"
    planners = {entry.link for entry in entries if entry.step == "model"}
    assert len(planners) == 3
    assert all(f"{workflow}%2Fplan%2F1/" in str(link) for link in planners)


async def test_the_undo_and_what_it_takes_back_lead_to_each_other(
    shop: Installation, page: httpx.AsyncClient, executed: TicketView
) -> None:
    undo = f"{executed.workflow_id}-undo"
    asked = next(e for e in await shop.client.history(executed.workflow_id) if e.step == "undo")
    assert (asked.workflow_id, asked.detail["undo_ticket"]) == (undo, undo)
    assert f'href="/tickets/{undo}"' in (await page.get(f"/tickets/{executed.workflow_id}")).text
    assert f'href="/tickets/{executed.workflow_id}"' in (await page.get(f"/tickets/{undo}")).text


async def test_of_many_findings_the_page_shows_a_few_and_the_file_has_all(
    shop: Installation, provider: FakeProvider, page: httpx.AsyncClient
) -> None:
    name = f"T-{uuid4().hex[:12]}"
    refunds = tuple(Operation(sql=REFUND, params=(order,)) for order in range(1010, 1018))
    provider.script[name] = [Answers(Plan(operations=refunds))]
    view = await shop.until_waiting(await shop.submit({}, id=name, **about(*range(1010, 1018))))
    file = (await page.get(f"/tickets/{view.workflow_id}/history.json")).json()
    (findings,) = [entry["detail"]["findings"] for entry in file if "findings" in entry["detail"]]
    serious = [finding for finding in findings if finding["verdict"] != "auto"]
    shown = (await page.get(f"/tickets/{view.workflow_id}")).text
    assert len(serious) >= len(refunds)
    assert f"and {len(serious) - 5} more, in the download" in shown
    await shop.client.cancel(view.workflow_id)


async def test_another_ticket_that_is_only_called_like_an_undo_is_none(
    shop: Installation, provider: FakeProvider
) -> None:
    name = f"T-{uuid4().hex[:12]}"
    settle = Operation(sql="UPDATE shop.orders SET status = $1 WHERE id = $2", params=("please", 1002))
    provider.script[name] = [Answers(Plan(operations=(settle,)))]
    workflow_id = await shop.submit({}, id=name, **about(1002))
    assert (await shop.client.wait(workflow_id)).state is State.DONE
    other = await shop.submit({}, id=f"{name}-undo", **about(1002))
    await shop.client.wait(other)
    assert "undo" not in {entry.step for entry in await shop.client.history(workflow_id)}


async def test_without_the_control_database_the_rest_is_told_and_what_is_missing_is_said(
    shop: Installation, executed: TicketView
) -> None:
    without = shop.settings.model_copy(update={"control": Control()})
    async with Standfast.connect(without) as client:
        models = [entry for entry in await client.history(executed.workflow_id) if entry.step == "model"]
    assert {entry.outcome for entry in models} == {"this process can't know tokens and price"}
    assert "input_tokens" not in models[0].detail


async def test_what_was_large_is_told_as_long_as_it_is_stored(shop: Installation, provider: FakeProvider) -> None:
    name = f"T-{uuid4().hex[:12]}"
    provider.script[name] = [Answers(Plan())]
    workflow_id = await shop.submit({}, id=name, metadata={"rows": ["Parcel never came. "] * 20_000}, **about(1003))
    assert (await shop.client.wait(workflow_id)).state is State.DONE
    stored = await shop.client.history(workflow_id)
    assert stored[0].outcome == "for ana@example.com"
    control = make_conninfo(shop.owner_url, dbname=database_name(shop.control_url))
    with psycopg.connect(control) as connection:
        connection.execute("DELETE FROM standfast.payload WHERE starts_with(workflow_id, %s)", [workflow_id])
    left = await shop.client.history(workflow_id)
    assert left[0].outcome == "what it said is not stored any more"
    assert [entry.what for entry in left] == [entry.what for entry in stored]


async def test_a_long_timeline_is_folded_by_step_and_hides_no_failure(shop: Installation, executed: TicketView) -> None:
    entries = await shop.client.history(executed.workflow_id)
    assert not any(stretch.folded for stretch in story(entries, str).stretches[:1])
    many = _repeated(entries, step="model", times=ENTRIES_SHOWN + 50)
    long = story(many, str)
    folded = [entry for stretch in long.stretches if stretch.folded for entry in stretch.entries]
    told = [entry for stretch in long.stretches for entry in stretch.entries]
    assert folded
    assert not any(entry.failed for entry in folded)
    assert [e.event_id for e in told if e.failed] == [e.event_id for e in many if e.failed]
    assert long.left_out == len(many) - len(told) > 0
    assert any(re.fullmatch(r"\d+ entries: .*\d+ model.*, within [\d,.]+ s", s.summary) for s in long.stretches)


def _repeated(entries: list[TimelineEntry], *, step: str, times: int) -> list[TimelineEntry]:
    """Return the timeline of a ticket whose agent went round in circles."""
    first = next(number for number, entry in enumerate(entries) if entry.step == step)
    return entries[:first] + [entries[first]] * times + entries[first:]
