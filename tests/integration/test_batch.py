"""Thousands of tickets by one durable workflow: each once, in any weather, and the results say exactly what became."""

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType

from standfast import batch, cluster
from standfast.batch import BatchState, Pace, TicketState
from standfast.batching import activities, client
from standfast.batching.client import Batches
from standfast.batching.register import MAX_TICKET_BYTES, Register
from standfast.carried import Start
from standfast.codec.encryption import is_encrypted
from standfast.decision import DecisionVerdict
from standfast.errors import BatchConflict, BatchEnded, InvalidInput, NotMigrated, UnknownBatch, UnknownTarget
from standfast.settings import Control, Encryption
from standfast.storage.contents import MARK
from standfast.storage.external import external_storage
from standfast.store.databases import Databases
from standfast.submission import start_options
from standfast.workflow import TicketWorkflow
from tests.integration.batching import Batching, automatic, batching, forbidden, once, risky, ticket
from tests.integration.installation import installed

pytestmark = pytest.mark.asyncio(loop_scope="module")

_ACTIVITIES = (EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str, temporal_server: str) -> AsyncIterator[Batching]:
    async with installed(postgres, temporal_server) as installation, batching(installation) as shop:
        yield shop


async def test_the_results_say_of_each_ticket_what_became_of_it(shop: Batching) -> None:
    done, rejected, blocked, failed = automatic(1), risky(), forbidden(), ticket({"operations": "none"})
    batch_id = await shop.start([done, rejected, blocked, failed])
    await shop.decide(rejected, DecisionVerdict.REJECT)
    end = await shop.end(batch_id)
    kinds = (TicketState.DONE, TicketState.REJECTED, TicketState.BLOCKED, TicketState.FAILED)
    assert (end.state, end.states) == (BatchState.DONE, dict.fromkeys(kinds, 1))
    results = await shop.results(batch_id)
    assert [(one.line, one.workflow_id, one.state) for one in results] == [
        (line, ticket.workflow_id, state)
        for line, ticket, state in zip(range(1, 5), (done, rejected, blocked, failed), kinds, strict=True)
    ]
    endings = [one.ending for one in results if one.ending is not None]
    assert [ending.reason.partition(" ")[0] for ending in endings[:3]] == ["Updates", "Rejected", "statement.kind:"]
    assert "validation error for Plan" in endings[3].reason
    assert endings[0].execution is not None
    assert endings[0].execution.counts[0]["shop.orders"].updated == 1
    for one, ending in zip(results, endings, strict=True):
        outcome = await shop.shop.client.wait(one.workflow_id)
        assert (outcome.state.value, outcome.reason, outcome.execution) == (one.state, ending.reason, ending.execution)


async def test_tickets_that_are_submitted_one_by_one_go_first(shop: Batching) -> None:
    many, one = automatic(1), automatic(2)
    await shop.end(await shop.start([many]))
    await shop.shop.client.wait((await shop.shop.client.submit(one)).workflow_id)
    described = [await shop.temporal.get_workflow_handle(ticket.workflow_id).describe() for ticket in (one, many)]
    first, later = (one.raw_description.workflow_execution_info.priority.priority_key for one in described)
    assert (first, later) == (0, 4)  # 0 is the default, which is 3; then come those with higher numbers


async def test_its_history_begins_anew_all_the_time_and_nothing_is_lost_or_done_twice(shop: Batching) -> None:
    tickets = [automatic(number) for number in range(40)]
    batch_id = await shop.start(tickets, pace=Pace(at_once=8), events_per_run=60)
    end = await shop.end(batch_id)
    assert end.states == {TicketState.DONE: len(tickets)}
    assert shop.executed(tickets) == once(tickets)
    assert [one.workflow_id for one in await shop.results(batch_id)] == [one.workflow_id for one in tickets]
    runs = await shop.runs(batch_id)
    assert len(runs) >= 3
    assert max(len(run.events) for run in runs) < 120
    await shop.replay(batch_id)


async def test_the_same_batch_is_found_again_also_after_its_end(shop: Batching) -> None:
    tickets = [automatic(number) for number in range(3)]
    first, again = await shop.found(tickets), await shop.found(tickets)
    assert (first.started, again.started) == (True, False)
    assert first.batch_id == again.batch_id
    end = await shop.end(first.batch_id)
    assert not (await shop.found(tickets)).started
    assert await shop.batches.progress(first.batch_id) == end
    with pytest.raises(BatchEnded):
        await shop.batches.pause(first.batch_id)


async def test_an_id_stands_for_one_batch_only(shop: Batching) -> None:
    name = f"refunds-{uuid4().hex[:8]}"
    assert await shop.start([automatic(1)], batch_id=name) == name
    with pytest.raises(BatchConflict, match="has other tickets"):
        await shop.start([automatic(2)], batch_id=name)
    await shop.end(name)


async def test_what_is_no_batch_is_refused(shop: Batching) -> None:
    with pytest.raises(InvalidInput, match="id"):
        await shop.start([automatic(1)], batch_id="../x")
    with pytest.raises(InvalidInput, match="too many"):
        await shop.batches.start([(1, automatic(1))] * (batch.MAX_TICKETS + 1))
    with pytest.raises(InvalidInput, match=r"tickets: .*greater than or equal to 1"):
        await shop.start([])
    large = automatic(1).model_copy(update={"metadata": {"x": "y" * MAX_TICKET_BYTES}})
    with pytest.raises(InvalidInput, match=r"the batch, line 2: .* bytes, at most"):
        await shop.start([automatic(2), large])
    for asked in (shop.batches.progress("none"), shop.batches.pause("none"), shop.results("none")):
        with pytest.raises(UnknownBatch):
            await asked


async def test_a_target_that_the_settings_do_not_name_is_named_with_its_line_and_nothing_is_started(
    shop: Batching,
) -> None:
    batch_id = f"elsewhere-{uuid4().hex[:8]}"
    lost = automatic(2).model_copy(update={"target": "elsewhere"})
    with pytest.raises(UnknownTarget, match=r"the batch, line 2: .*elsewhere"):
        await shop.start([automatic(1), lost], batch_id=batch_id)
    with pytest.raises(UnknownBatch):
        await shop.results(batch_id)


async def test_tickets_that_were_there_before_are_found_and_others_under_their_ids_refused(shop: Batching) -> None:
    ended, waiting, other, new = automatic(1), risky(), automatic(2), automatic(3)
    for one in (ended, waiting, other):
        await shop.shop.client.submit(one)
    await shop.shop.client.wait(ended.workflow_id)
    refused = other.model_copy(update={"body": "something else"})
    batch_id = await shop.start([ended, waiting, refused, new])
    await shop.decide(waiting, DecisionVerdict.REJECT)
    await shop.end(batch_id)
    results = await shop.results(batch_id)
    assert [(one.state.value, one.submitted_before) for one in results] == [
        ("done", True),
        ("rejected", True),
        ("refused", False),
        ("done", False),
    ]
    assert results[2].ending is not None
    assert "submitted before with other content" in results[2].ending.reason


async def test_tickets_that_can_not_be_read_fail_and_keep_no_others_from_their_ends(shop: Batching) -> None:
    """Somebody without the key can start workflows under tickets' ids, and end them with words of their own."""
    settings = shop.shop.settings
    stranger = await cluster.connect(settings.model_copy(update={"encryption": Encryption(enabled=False)}))
    foreign, ended, other = risky(), risky(), automatic(1)
    handle = await stranger.start_workflow(TicketWorkflow.run, Start(foreign), **start_options(foreign, ""))
    await handle.terminate()
    await shop.shop.client.submit(ended)
    await shop.until_waiting(ended)
    batch_id = await shop.start([foreign, ended, other])
    await shop.until(batch_id, lambda progress: progress.states.get(TicketState.WAITING) == 1)
    await stranger.get_workflow_handle(ended.workflow_id).terminate("a word")
    assert (await shop.end(batch_id)).states == {TicketState.FAILED: 2, TicketState.DONE: 1}
    for one in (await shop.results(batch_id))[:2]:
        assert one.ending is not None
        assert "is refused: it is not encrypted" in one.ending.reason


async def test_tickets_that_wait_for_people_keep_no_others_from_being_started(shop: Batching) -> None:
    waiting, others = [risky() for _ in range(3)], [automatic(number) for number in range(4)]
    batch_id = await shop.start([*waiting, *others], pace=Pace(at_once=len(waiting)))
    both = {TicketState.WAITING: len(waiting), TicketState.DONE: len(others)}
    await shop.until(batch_id, lambda progress: progress.states == both)
    for one in waiting:
        await shop.decide(one, DecisionVerdict.APPROVE)
    assert (await shop.end(batch_id)).states == {TicketState.DONE: 7}


async def test_many_tickets_that_wait_are_looked_at_together_a_few_at_a_time_until_all_have_ended(
    shop: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities, "_FEW", 0)
    monkeypatch.setattr(activities, "LOOKED_AT", 2)
    waiting = [risky() for _ in range(5)]  # no children of the batch, which therefore has to look how they end
    for one in waiting:
        await shop.shop.client.submit(one)
    batch_id = await shop.start(waiting)
    await shop.until(batch_id, lambda progress: progress.states == {TicketState.WAITING: len(waiting)})
    for some in (waiting[2:], waiting[:2]):  # those that are looked at first have not ended then
        for one in some:
            await shop.decide(one, DecisionVerdict.REJECT)
        await shop.until_ended(batch_id, len(some))
    assert (await shop.end(batch_id)).states == {TicketState.REJECTED: len(waiting)}
    results = await shop.results(batch_id)
    assert all(one.submitted_before and one.ending and one.ending.reason.startswith("Rejected") for one in results)


async def test_a_later_run_learns_what_became_of_the_tickets_of_an_earlier_one(shop: Batching) -> None:
    waiting = [risky() for _ in range(12)]
    batch_id = await shop.start(waiting, events_per_run=50)
    await shop.until(batch_id, lambda progress: progress.states == {TicketState.WAITING: len(waiting)})
    assert len(await shop.runs(batch_id)) >= 2
    for one in waiting[1:]:
        await shop.decide(one, DecisionVerdict.APPROVE)
    await shop.temporal.get_workflow_handle(waiting[0].workflow_id).terminate("by hand")
    assert (await shop.end(batch_id)).states == {TicketState.DONE: 11, TicketState.FAILED: 1}
    first, *_ = await shop.results(batch_id)
    assert first.ending is not None
    assert "terminated" in first.ending.reason


async def test_a_paused_batch_starts_nothing_until_it_is_resumed(shop: Batching) -> None:
    tickets = [automatic(number) for number in range(6)]
    batch_id = await shop.start(tickets, pace=Pace(at_once=1))
    assert (await shop.batches.pause(batch_id)).state is BatchState.PAUSED
    under_way = (TicketState.RUNNING, TicketState.WAITING)
    paused = await shop.until(batch_id, lambda p: not any(p.states.get(state) for state in under_way))
    for number in range(3):  # meanwhile others are done
        await shop.shop.client.wait((await shop.shop.client.submit(automatic(number))).workflow_id)
    assert await shop.batches.progress(batch_id) == paused
    assert paused.states[TicketState.READY] >= 4
    assert (await shop.batches.resume(batch_id)).state is BatchState.RUNNING
    assert (await shop.end(batch_id)).states == {TicketState.DONE: 6}
    assert shop.executed(tickets) == once(tickets)


async def test_who_follows_a_batch_asks_more_rarely_while_nothing_happens(
    shop: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, pauses = risky(), list[float]()
    batch_id = await shop.start([waiting])
    await shop.until(batch_id, lambda progress: progress.states == {TicketState.WAITING: 1})

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(client, "sleep", pause)
    async for progress in shop.batches.follow(batch_id):
        if len(pauses) >= 4 and progress.states.get(TicketState.WAITING):
            break
    assert pauses[:4] == [2, 4, 8, 10]
    monkeypatch.undo()
    await shop.decide(waiting, DecisionVerdict.REJECT)
    await shop.end(batch_id)


@pytest.mark.parametrize("by_temporal", [False, True])
async def test_a_cancelled_batch_starts_nothing_more_and_waits_for_what_it_started(
    shop: Batching, *, by_temporal: bool
) -> None:
    waiting, others = risky(), [automatic(number) for number in range(8)]
    batch_id = await shop.start([waiting, *others], pace=Pace(at_once=1, per_minute=30))
    await shop.until_waiting(waiting)
    if by_temporal:
        await shop.temporal.get_workflow_handle(batch.workflow_id(batch_id)).cancel()
    else:
        assert (await shop.batches.cancel(batch_id)).state is BatchState.CANCELLING
    left = await shop.until(batch_id, lambda p: p.ended == len(others))
    assert left.state is BatchState.CANCELLING
    await shop.decide(waiting, DecisionVerdict.APPROVE)
    end = await shop.end(batch_id)
    assert end.state is BatchState.CANCELLED
    started = end.states[TicketState.DONE]
    assert end.states == {TicketState.DONE: started, TicketState.NOT_STARTED: len(others) + 1 - started}
    assert started < len(others)
    assert len(shop.executed([waiting, *others])) == started


async def test_the_tickets_of_a_batch_are_cancelled_with_it_but_not_those_that_were_there_before(
    shop: Batching,
) -> None:
    before, own, never = risky(), [risky(), risky()], [automatic(number) for number in range(4)]
    await shop.shop.client.submit(before)
    batch_id = await shop.start([before, *own, *never], pace=Pace(per_minute=30))
    for one in (before, own[0]):
        await shop.until_waiting(one)
    await shop.batches.cancel(batch_id, tickets=True)
    left = await shop.until_ended(batch_id, 6)
    assert left.states[TicketState.WAITING] == 1
    await shop.decide(before, DecisionVerdict.REJECT)
    assert (await shop.end(batch_id)).state is BatchState.CANCELLED
    first, second, *_, last = [result.state for result in await shop.results(batch_id)]
    assert (first, second, last) == (TicketState.REJECTED, TicketState.CANCELLED, TicketState.NOT_STARTED)


async def test_many_tickets_are_cancelled_a_few_at_a_time_and_what_ended_meanwhile_is_on_record(
    shop: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities, "LOOKED_AT", 2)
    waiting = [risky() for _ in range(5)]
    batch_id = await shop.start(waiting)
    await shop.until(batch_id, lambda progress: progress.states == {TicketState.WAITING: len(waiting)})
    await shop.batches.cancel(batch_id, tickets=True)
    assert (await shop.end(batch_id)).states == {TicketState.CANCELLED: len(waiting)}
    scheduled = [name async for name in shop.scheduled(batch_id)]
    assert scheduled[scheduled.index("batch_cancel") :][:5] == ["batch_cancel", "batch_record"] * 2 + ["batch_cancel"]


async def test_no_more_tickets_are_started_in_a_minute_than_are_wanted(shop: Batching) -> None:
    tickets = [automatic(number) for number in range(6)]
    await shop.end(await shop.start(tickets, pace=Pace(per_minute=120)))
    at = sorted([(await shop.shop.client.row(one.workflow_id)).started_at for one in tickets])
    assert (at[-1] - at[0]).total_seconds() >= 1.9


async def test_a_batch_whose_workflow_was_terminated_goes_on_where_it_was(shop: Batching) -> None:
    waiting, others = risky(), [automatic(number) for number in range(6)]
    tickets = [waiting, *others]
    batch_id = await shop.start(tickets, pace=Pace(per_minute=60))
    await shop.until_ended(batch_id, 1)
    await shop.temporal.get_workflow_handle(batch.workflow_id(batch_id)).terminate("by hand")
    stopped = await shop.batches.progress(batch_id)
    assert stopped.state is BatchState.STOPPED
    assert "terminated" in stopped.reason
    again = await shop.found(tickets)
    assert (again.batch_id, again.started) == (batch_id, True)
    await shop.decide(waiting, DecisionVerdict.APPROVE)
    assert (await shop.end(batch_id)).states == {TicketState.DONE: len(tickets)}
    assert not any(one.submitted_before for one in await shop.results(batch_id))
    assert len(shop.executed(tickets)) == len(tickets)


async def test_tickets_that_were_handed_out_and_never_started_are_taken_back_before_any_is_looked_at(
    shop: Batching,
) -> None:
    tickets, batch_id = [automatic(number) for number in range(3)], f"never-started-{uuid4().hex[:8]}"
    async with (
        Databases(shop.shop.settings, application="test") as databases,
        databases.control() as connection,
    ):
        register = Register(batch_id, connection, shop.temporal)
        await register.create(batch.content_digest(tickets), list(enumerate(tickets, 1)), source="test")
        await register.hand_out(len(tickets))
    await shop.start(tickets, batch_id=batch_id)
    assert (await shop.end(batch_id)).states == {TicketState.DONE: len(tickets)}
    history = await shop.temporal.get_workflow_handle(batch.workflow_id(batch_id)).fetch_history()
    steps = [event.event_type for event in history.events if event.event_type in _ACTIVITIES]
    assert steps[:2] == list(_ACTIVITIES)
    assert [name async for name in shop.scheduled(batch_id)][:2] == ["batch_page", "batch_record"]


async def test_a_record_that_comes_late_looks_at_no_ticket_that_was_handed_out_meanwhile(shop: Batching) -> None:
    tickets, batch_id = [automatic(number) for number in range(4)], f"late-{uuid4().hex[:8]}"
    async with (
        Databases(shop.shop.settings, application="test") as databases,
        databases.control() as connection,
    ):
        register = Register(batch_id, connection, shop.temporal)
        await register.create(batch.content_digest(tickets), list(enumerate(tickets, 1)), source="test")
        await register.hand_out(len(tickets))
        await register.note({3: TicketState.WAITING})  # it was there before
        assert list(await register.others([0], 2, -1, 10)) == [1, 3]


async def test_a_batch_that_can_not_go_on_stops_and_says_why(shop: Batching) -> None:
    tickets, batch_id = [automatic(1)], f"damaged-{uuid4().hex[:8]}"
    plain = Payload(data=b"{}").SerializeToString()
    damaged = {"batch": batch_id, "digest": batch.content_digest(tickets), "ticket": plain}
    with psycopg.connect(shop.shop.control_url) as connection:
        connection.execute("INSERT INTO standfast.batch VALUES (%(batch)s, %(digest)s, 1)", damaged)
        connection.execute(
            "INSERT INTO standfast.batch_ticket VALUES (%(batch)s, 0, 1, 'ticket/shop/x', %(ticket)s)", damaged
        )
    await shop.start(tickets, batch_id=batch_id)
    end = await shop.end(batch_id)
    assert end.state is BatchState.STOPPED
    assert end.reason.startswith("a payload of ticket/shop/x of namespace default is refused: it is not encrypted")


async def test_what_is_large_is_not_to_be_recognized_in_the_register(shop: Batching) -> None:
    batch_id, settings = f"large-{uuid4().hex[:8]}", shop.shop.settings
    everything_is_large = settings.model_copy(update={"storage": settings.storage.model_copy(update={"threshold": 1})})
    async with (
        Databases(settings, application="test") as databases,
        external_storage(everything_is_large, databases) as storage,
        databases.control() as connection,
    ):
        register = Register(batch_id, connection, await cluster.connect(settings, storage))
        await register.create(batch.content_digest([]), [(1, automatic(1))], source="a test")
        query = "SELECT ticket FROM standfast.batch_ticket WHERE batch_id = %s"
        (row,) = await (await connection.execute(query, [batch_id])).fetchall()
        await connection.rollback()
    stored = Payload.FromString(row["ticket"])
    assert is_encrypted(stored)
    assert MARK not in stored.metadata


async def test_a_control_database_that_was_not_migrated_says_what_to_do(shop: Batching, postgres: str) -> None:
    settings = shop.shop.settings.model_copy(update={"control": Control(url=SecretStr(postgres))})
    async with Batches.connect(settings) as batches:
        with pytest.raises(NotMigrated, match=r"standfast\.batch.* does not exist; run `standfast migrate`"):
            await batches.start([(1, automatic(1))])
        with pytest.raises(NotMigrated, match="run `standfast migrate`"):
            await anext(batches.results("nowhere"))


async def test_what_was_asked_for_stays_in_the_register_as_it_was(shop: Batching) -> None:
    batch_id = await shop.start([automatic(1)])
    await shop.end(batch_id)
    with psycopg.connect(shop.shop.control_url) as connection:
        for change in ("DELETE FROM standfast.batch", "UPDATE standfast.batch_ticket SET ticket = ''"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(change.encode())
