"""Execution: the approved plan on the approved rows, exactly once, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from standfast import steps
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.execution.activity import Executor
from standfast.outcome import Execution
from standfast.plan import Operation, Plan
from standfast.report import RowCounts
from standfast.safety.protocol import OperationRefused
from standfast.steps import ExecuteRequest
from tests.integration.bank import DONE, NOTHING, PLAN, Bank
from tests.integration.wire import Fate, Wire


@pytest.fixture
async def wire(bank: Bank) -> AsyncIterator[Wire]:
    async with Wire(bank.writer_url).open() as wire:
        yield wire


async def test_the_change_its_ledger_row_and_its_images_are_one(bank: Bank) -> None:
    request = await bank.request()
    execution = await bank.execute(request)
    bank.assert_done_once(request)
    assert execution.counts == (
        {"shop.accounts": RowCounts(updated=1)},
        {"shop.payouts": RowCounts(inserted=1)},
    )
    assert (execution.plan_digest, execution.fingerprint) == (request.plan_digest, request.fingerprint)
    assert execution.approved_by == ("ben@example.com",)
    (row,) = bank.query("SELECT target, statements, fingerprint, approved_by, executed_at FROM standfast.ledger")
    assert row == (
        "bank",
        [{"sql": operation.sql, "params": list(operation.params)} for operation in PLAN.operations],
        request.fingerprint,
        ["ben@example.com"],
        execution.executed_at,
    )
    images = bank.query(
        "SELECT operation, position, table_name, key, before, after FROM standfast.ledger_row ORDER BY 1, 2"
    )
    assert images[0] == (0, 0, "shop.accounts", {"id": 1}, {"balance": 100}, {"balance": 90})
    assert images[1][:3] == (1, 0, "shop.payouts")
    assert (images[1][4], images[1][5]["amount"]) == (None, 10)


async def test_a_retry_gets_the_recorded_execution(bank: Bank) -> None:
    request = await bank.request()
    first = await bank.execute(request)
    assert await bank.execute(request) == first
    bank.assert_done_once(request)


async def test_two_tickets_with_the_same_plan_are_two_executions(bank: Bank) -> None:
    plan = Plan(operations=(Operation(sql="UPDATE accounts SET balance = balance - 1 WHERE id = 2"),))
    await bank.execute(await bank.request(plan))
    await bank.execute(await bank.request(plan))
    assert bank.balance(2) == 98


async def test_executors_at_once_execute_once(bank: Bank) -> None:
    for _ in range(5):
        request = await bank.request()
        executions = await asyncio.gather(*(bank.execute(request) for _ in range(4)))
        assert len(set(map(repr, executions))) == 1
        bank.assert_done_once(request)
        bank.reset()


async def test_one_worker_executes_more_plans_at_once_than_it_has_connections(bank: Bank) -> None:
    plan = Plan(operations=(Operation(sql="INSERT INTO accounts VALUES ($1, 0)", params=(1_000,)),))
    request = await bank.request(plan)
    async with bank.databases() as databases:
        executor = Executor(databases)
        await asyncio.gather(*(ActivityEnvironment().run(executor.execute, request) for _ in range(20)))
    assert len(bank.ledger(request)) == 1


async def test_a_session_killed_in_the_middle_leaves_nothing_and_the_retry_executes(bank: Bank) -> None:
    request = await bank.request()
    async with bank.locked():
        running = asyncio.create_task(bank.execute(request))
        (pid,) = await bank.until_blocked()
        bank.query("SELECT pg_terminate_backend(%s)", pid)
        with pytest.raises(ServiceUnavailable):
            await running
    bank.assert_untouched(request)
    await bank.execute(request)
    bank.assert_done_once(request)


@pytest.mark.parametrize("fate", [Fate.CUT, Fate.CUT_ANSWER])
async def test_a_connection_lost_around_the_commit_is_settled_by_the_ledger(bank: Bank, wire: Wire, fate: Fate) -> None:
    request = await bank.request()
    cuts = 0

    async def cut_first_commit(message: bytes) -> Fate:
        nonlocal cuts
        if not is_commit(message) or cuts:
            return Fate.PASS
        cuts += 1
        return fate

    wire.watch = after_claim(cut_first_commit)
    execution = await bank.execute(request, wire.url)
    assert cuts == 1
    bank.assert_done_once(request)
    assert await bank.execute(request) == execution


async def test_a_database_that_stays_away_after_the_commit_answers_the_retry(bank: Bank, wire: Wire) -> None:
    request = await bank.request()
    away = False

    async def cut_from_commit_on(message: bytes) -> Fate:
        nonlocal away
        if away:
            return Fate.CUT
        away = is_commit(message)
        return Fate.CUT_ANSWER if away else Fate.PASS

    wire.watch = after_claim(cut_from_commit_on)
    with pytest.raises(ServiceUnavailable):
        await bank.execute(request, wire.url)
    execution = await bank.execute(request)
    bank.assert_done_once(request)
    assert execution.counts[0] == {"shop.accounts": RowCounts(updated=1)}


async def test_a_connection_cut_at_any_message_changes_all_or_nothing(bank: Bank, wire: Wire) -> None:
    for fate in (Fate.CUT, Fate.CUT_ANSWER):
        for number in range(await messages_of_one_execution(bank, wire)):
            request = await bank.request()
            wire.watch = after_claim(at_message(number, fate))
            try:
                execution = await bank.execute(request, wire.url)
            except ServiceUnavailable:
                assert (bank.balance(), bank.recorded(request)) in [(100, NOTHING), (90, DONE)]
                execution = await bank.execute(request)
            bank.assert_done_once(request)
            assert execution == await bank.execute(request)
            bank.reset()


async def test_a_cancellation_in_the_middle_leaves_nothing(bank: Bank) -> None:
    request = await bank.request()
    async with bank.locked():
        running = asyncio.create_task(bank.execute(request))
        await bank.until_blocked()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert bank.query("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [(0,)]
    bank.assert_untouched(request)


async def test_a_cancellation_during_the_commit_comes_too_late(bank: Bank, wire: Wire) -> None:
    request = await bank.request()
    committing, go_on = asyncio.Event(), asyncio.Event()

    async def hold_commit(message: bytes) -> Fate:
        if is_commit(message):
            committing.set()
            await go_on.wait()
        return Fate.PASS

    async with bank.databases(wire.url) as databases:
        wire.watch = after_claim(hold_commit)
        running = asyncio.create_task(ActivityEnvironment().run(Executor(databases).execute, request))
        await committing.wait()
        for _ in range(3):
            running.cancel()
            await asyncio.sleep(0)
        go_on.set()
        execution = await running
    bank.assert_done_once(request)
    assert await bank.execute(request) == execution


async def test_a_cancellation_at_any_message_is_all_or_nothing_and_known(bank: Bank, wire: Wire) -> None:
    outcomes: set[str] = set()
    for number in range(await messages_of_one_execution(bank, wire)):
        request = await bank.request()
        async with bank.databases(wire.url) as databases:
            running = asyncio.create_task(ActivityEnvironment().run(Executor(databases).execute, request))
            wire.watch = after_claim(at_message(number, Fate.PASS, running.cancel))
            try:
                await running
            except asyncio.CancelledError:
                outcomes.add("nothing")
                bank.assert_untouched(request)
            else:
                outcomes.add("all")
                bank.assert_done_once(request)
        bank.reset()
    assert outcomes == {"all", "nothing"}


async def test_rows_that_moved_on_are_refused(bank: Bank) -> None:
    request = await bank.request()
    bank.query("UPDATE shop.accounts SET owner = 'eve' WHERE id = 1 RETURNING id")
    with pytest.raises(ApplicationError, match=r"nothing was changed.*Updates 1 row in shop.accounts") as caught:
        await bank.execute(request)
    assert (caught.value.type, caught.value.non_retryable) == (steps.DRIFTED, True)
    bank.assert_untouched(request)


async def test_rows_that_move_on_while_the_plan_runs_are_refused(bank: Bank) -> None:
    request = await bank.request()
    async with bank.locked("UPDATE shop.accounts SET balance = 500 WHERE id = 1") as other:
        running = asyncio.create_task(bank.execute(request))
        await bank.until_blocked()
        await other.commit()
        with pytest.raises(ApplicationError) as caught:
            await running
    assert caught.value.type == steps.DRIFTED
    assert (bank.balance(), bank.ledger(request)) == (500, [])


async def test_what_would_be_written_now_is_compared_too(bank: Bank) -> None:
    copy = Operation(
        sql="INSERT INTO accounts (id, owner, balance) SELECT 99, owner, balance FROM accounts WHERE id = 2"
    )
    request = await bank.request(Plan(operations=(copy,)))
    bank.query("UPDATE shop.accounts SET balance = 1000000 WHERE id = 2 RETURNING id")
    with pytest.raises(ApplicationError, match="nothing was changed") as caught:
        await bank.execute(request)
    assert caught.value.type == steps.DRIFTED
    assert bank.query("SELECT count(*) FROM shop.accounts WHERE id = 99") == [(0,)]


async def test_a_report_that_is_too_old_is_not_executed_any_more_but_what_was_executed_is_found(bank: Bank) -> None:
    late = {"not_after": datetime.now(UTC) - timedelta(seconds=1)}
    request = await bank.request()
    with pytest.raises(ApplicationError, match="the report was good until") as caught:
        await bank.execute(request.model_copy(update=late))
    assert (caught.value.type, bank.ledger(request)) == (steps.DRIFTED, [])
    executed = await bank.execute(request)
    assert await bank.execute(request.model_copy(update=late)) == executed


async def test_the_ledger_settles_what_became_of_an_execution(bank: Bank) -> None:
    request = await bank.request()
    executed = await bank.execute(request)
    assert await bank.settle(request) == executed


async def test_what_the_ledger_settled_stays_so(bank: Bank) -> None:
    request = await bank.request()
    assert await bank.settle(request) is None
    with pytest.raises(ApplicationError, match="nothing was changed") as caught:
        await bank.execute(request)
    assert caught.value.type == steps.OVERTAKEN
    bank.assert_untouched(request)


async def test_a_worker_that_froze_before_its_commit_can_not_commit_when_it_wakes_up(bank: Bank, wire: Wire) -> None:
    request = await bank.request()
    async with frozen(bank, wire, request, at=once_claimed(is_commit)) as first:
        second = await bank.execute(request, attempt=2)  # Temporal handed the work on
        first.wake()
        assert await first.task == second
    assert bank.ledger(request) == [(2,)]
    bank.assert_done_once(request)


async def test_a_worker_that_froze_before_its_ticket_ended_changes_nothing_when_it_wakes_up(
    bank: Bank, wire: Wire
) -> None:
    request = await bank.request()
    async with frozen(bank, wire, request, at=is_begin) as first:
        assert await bank.settle(request) is None
        first.wake()
        with pytest.raises(ApplicationError, match="a newer attempt") as caught:
            await first.task
    assert caught.value.type == steps.OVERTAKEN
    bank.assert_untouched(request)


async def test_a_worker_that_froze_before_its_rows_moved_leaves_them_to_the_next_execution(
    bank: Bank, wire: Wire
) -> None:
    request = await bank.request()
    async with frozen(bank, wire, request, at=is_begin) as first:
        bank.query("UPDATE shop.accounts SET balance = 500 WHERE id = 1 RETURNING id")
        with pytest.raises(ApplicationError) as caught:
            await bank.execute(request, attempt=2)
        assert caught.value.type == steps.DRIFTED
        bank.query("UPDATE shop.accounts SET balance = 100 WHERE id = 1 RETURNING id")  # and back, as in the report
        first.wake()
        with pytest.raises(ApplicationError) as caught:
            await first.task
    assert caught.value.type == steps.OVERTAKEN
    bank.assert_untouched(request)
    await bank.execute(request.model_copy(update={"execution": 2}))
    bank.assert_done_once(request)


async def test_attempts_of_an_earlier_execution_come_too_late(bank: Bank) -> None:
    request = await bank.request()
    async with bank.locked():
        with pytest.raises(ServiceUnavailable):
            await bank.execute(request.model_copy(update={"execution": 2}))
    with pytest.raises(ApplicationError) as caught:
        await bank.execute(request, attempt=7)
    assert caught.value.type == steps.OVERTAKEN
    bank.assert_untouched(request)


async def test_other_rows_may_move_on(bank: Bank) -> None:
    request = await bank.request()
    bank.query("UPDATE shop.accounts SET balance = 7 WHERE id = 2 RETURNING id")
    await bank.execute(request)
    bank.assert_done_once(request)


async def test_a_deadlock_is_tried_again(bank: Bank) -> None:
    plan = Plan(
        operations=(
            Operation(sql="UPDATE accounts SET balance = balance - 1 WHERE id = 1"),
            Operation(sql="UPDATE accounts SET balance = balance - 1 WHERE id = 2"),
        )
    )
    request = await bank.request(plan)
    async with bank.locked("SET deadlock_timeout = '1min'") as other:  # the server picks the other one as its victim
        await other.execute("SELECT FROM shop.accounts WHERE id = 2 FOR UPDATE")
        running = asyncio.create_task(bank.execute(request))
        await bank.until_blocked()
        await other.execute("SELECT FROM shop.accounts WHERE id = 1 FOR UPDATE")
        await other.rollback()
        await running
    assert (bank.balance(1), bank.balance(2), len(bank.ledger(request))) == (99, 99, 1)


async def test_a_lock_that_is_held_too_long_is_the_services_trouble(bank: Bank) -> None:
    request = await bank.request()
    async with bank.locked():
        with pytest.raises(ServiceUnavailable, match="lock timeout"):
            await bank.execute(request)
    bank.assert_untouched(request)


async def test_an_operation_that_the_server_refuses_undoes_the_others(bank: Bank) -> None:
    request = await bank.request()
    bank.query("INSERT INTO shop.payouts (account_id, amount) VALUES (1, 5) RETURNING id")
    with pytest.raises(OperationRefused, match=r"operation 1: duplicate key value .*\(23505\)"):
        await bank.execute(request)
    assert (bank.balance(), bank.ledger(request)) == (100, [])


async def test_another_plan_than_the_approved_one_is_refused(bank: Bank) -> None:
    request = await bank.request()
    other = Plan(operations=(Operation(sql="UPDATE accounts SET balance = 0"),))
    with pytest.raises(InvalidInput, match="digest"):
        await bank.execute(request.model_copy(update={"plan": other}))
    bank.assert_untouched(request)


async def test_several_statements_in_one_operation_are_refused(bank: Bank) -> None:
    plan = Plan(operations=(Operation(sql="UPDATE accounts SET balance = 0; DELETE FROM payouts"),))
    request = (await bank.request()).model_copy(update={"plan": plan, "plan_digest": plan.digest("bank")})
    with pytest.raises(OperationRefused, match="multiple commands"):
        await bank.execute(request)
    bank.assert_untouched(request)


@dataclass
class Frozen:
    """A worker that froze in the middle of an execution."""

    task: asyncio.Task[Execution]
    wake: Callable[[], None]


@asynccontextmanager
async def frozen(
    bank: Bank, wire: Wire, request: ExecuteRequest, *, at: Callable[[bytes], bool]
) -> AsyncIterator[Frozen]:
    """Let a worker execute, and freeze it right before it sends a message."""
    reached, awake = asyncio.Event(), asyncio.Event()

    async def hold(message: bytes) -> Fate:
        if at(message):
            reached.set()
            await awake.wait()
        return Fate.PASS

    wire.watch = hold
    task = asyncio.create_task(bank.execute(request, wire.url))
    waiting = asyncio.create_task(reached.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield Frozen(task, awake.set)
    finally:
        awake.set()
        await asyncio.wait({task, waiting})


def is_begin(message: bytes) -> bool:
    return b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ" in message


def is_claim(message: bytes) -> bool:
    return b"INSERT INTO standfast.ledger " in message


def is_commit(message: bytes) -> bool:
    return message.startswith(b"Q") and b"COMMIT" in message


def once_claimed(matches: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    """Match from the ledger row on."""
    claimed = False

    def check(message: bytes) -> bool:
        nonlocal claimed
        claimed = claimed or is_claim(message)
        return claimed and matches(message)

    return check


def after_claim(watch: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Watch from the ledger row on."""
    claimed = once_claimed(lambda _: True)

    async def decide(message: bytes) -> Fate:
        fate: Fate = await watch(message) if claimed(message) else Fate.PASS
        return fate

    return decide


def at_message(number: int, fate: Fate, then: Callable[[], object] = lambda: None) -> Callable[[bytes], Any]:
    seen = -1

    async def decide(message: bytes) -> Fate:
        nonlocal seen
        del message
        seen += 1
        if seen != number:
            return Fate.PASS
        then()
        return fate

    return decide


async def messages_of_one_execution(bank: Bank, wire: Wire) -> int:
    count = 0

    async def counting(message: bytes) -> Fate:
        nonlocal count
        del message
        count += 1
        return Fate.PASS

    wire.watch = after_claim(counting)
    await bank.execute(await bank.request(), wire.url)
    bank.reset()
    return count
