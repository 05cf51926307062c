"""Rehearsal: the whole plan in one transaction that is always rolled back, and once more to see what differs."""

from dataclasses import replace

import psycopg

from standfast.errors import ServiceUnavailable
from standfast.plan import Plan
from standfast.safety.constraints import Limits
from standfast.safety.effect import Effect, apply, begin_again, twin, volatile_columns
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "rehearsal.sql")
LOCK_TIMEOUT_MS = 1000  # a rehearsal that waits for a lock makes others wait behind it


async def rehearse(
    plan: Plan,
    change: Connection,
    observer: Connection,
    *,
    limits: Limits,
    targets: list[frozenset[str]],
    session: str | None = None,
) -> Effect:
    """Return what the plan would do. The transaction is rolled back, whatever happens.

    `session` is its application name, by which a later attempt finds it, see `standfast.store.takeover`.

    The plan runs twice on the same snapshot. New values that differ between the two (of sequences and clocks) will
    differ when it is executed, too; all others have to be the same then.

    What a rollback doesn't take back: values of sequences are used up.

    Raises:
        OperationRefused: the server refused an operation.
        ServiceUnavailable: others hold locks on the rows, or changed them meanwhile, or the server is too slow to
            measure the effect in time; try again.
    """
    bounds = {"statement": str(limits.statement_timeout_ms), "lock": str(LOCK_TIMEOUT_MS), "session": session}
    try:
        await change.rollback()
        await change.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await change.execute(_SQL["bounds"], bounds)
        async with twin(change, observer):
            first = await apply(plan, change, observer, row_limit=0, targets=targets)
            await begin_again(change, observer)
            await change.execute(_SQL["bounds"], bounds)
            second = await apply(plan, change, observer, row_limit=limits.approval_rows_per_operation, targets=targets)
        return replace(second, volatile=volatile_columns(first, second))
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
