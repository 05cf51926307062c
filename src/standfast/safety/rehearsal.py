"""Rehearsal: the whole plan in one transaction that is always rolled back, once more to see what differs, and back."""

import asyncio
from dataclasses import dataclass, replace

import psycopg

from standfast import steps
from standfast.errors import ServiceUnavailable
from standfast.plan import Plan
from standfast.report import Undo
from standfast.safety.constraints import Limits
from standfast.safety.effect import Effect, volatile_columns
from standfast.safety.measurement import Meter, apply, begin_again, twin
from standfast.safety.undo import prove
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "rehearsal.sql")
LOCK_TIMEOUT_MS = 1000  # a rehearsal that waits for a lock makes others wait behind it


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a plan would do, and how it could be taken back."""

    effect: Effect
    undo: Undo | None
    """None if nothing was rehearsed."""
    undo_proved: bool
    in_time: bool = True
    """False if it was broken off."""


async def rehearse(
    plan: Plan,
    change: Connection,
    observer: Connection,
    *,
    limits: Limits,
    targets: list[frozenset[str]],
    kept: frozenset[str] = frozenset(),
    hidden: frozenset[str] = frozenset(),
    session: str | None = None,
) -> Rehearsal:
    """Return what the plan would do. The transaction is rolled back, whatever happens.

    `targets` are the tables that each statement names as the ones it writes, `kept` those that only triggers write and
    that no undo touches; values of `hidden` columns are masked in the undo. `session` is the transaction's application
    name, by which a later attempt finds it, see `standfast.store.takeover`.

    The plan runs twice on the same snapshot. New values that differ between the two (of sequences and clocks) will
    differ when it is executed, too; all others have to be the same then.

    What a rollback doesn't take back: values of sequences are used up.

    Raises:
        OperationRefused: the server refused an operation.
        TimeoutError: all of it takes longer than `steps.LONGEST_REHEARSAL`.
        ServiceUnavailable: others hold locks on the rows, or changed them meanwhile, or the server is too slow to
            measure the effect in time; try again.
    """
    bounds = {"statement": str(limits.statement_timeout_ms), "lock": str(LOCK_TIMEOUT_MS), "session": session}
    try:
        async with asyncio.timeout(steps.LONGEST_REHEARSAL.total_seconds()):
            await change.rollback()
            await change.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await change.execute(_SQL["bounds"], bounds)
            async with twin(change, observer):
                meter = await Meter.started(change, observer)
                first = await apply(plan, meter, row_limit=0)
                await begin_again(change, observer)
                await change.execute(_SQL["bounds"], bounds)
                meter = await meter.started_again()
                second = await apply(plan, meter, row_limit=limits.approval_rows_per_operation, targets=targets)
                effect = replace(second, volatile=volatile_columns(first, second))
                undo, proved = await prove(effect, meter, change, kept=kept, hidden=hidden)
        return Rehearsal(effect=effect, undo=undo, undo_proved=proved)
    except psycopg.errors.IdleInTransactionSessionTimeout as error:  # the observer had nothing to look at meanwhile
        raise TimeoutError from error
    except (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.SerializationFailure,
    ) as error:
        raise ServiceUnavailable(f"the rows are busy: {error.diag.message_primary}") from error
    except psycopg.errors.QueryCanceled as error:  # by then the plan itself has run
        raise ServiceUnavailable(f"measuring the effect took too long: {error.diag.message_primary}") from error
    finally:
        if not change.closed:
            await change.rollback()
