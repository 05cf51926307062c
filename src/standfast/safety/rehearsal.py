"""Rehearsal: the whole plan in one transaction that is always rolled back."""

import psycopg

from standfast.errors import ServiceUnavailable
from standfast.plan import Plan
from standfast.safety.constraints import Limits
from standfast.safety.effect import Effect, apply, twin
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "rehearsal.sql")
LOCK_TIMEOUT_MS = 1000  # a rehearsal that waits for a lock makes others wait behind it


async def rehearse(
    plan: Plan, change: Connection, observer: Connection, *, limits: Limits, targets: list[frozenset[str]]
) -> Effect:
    """Return what the plan would do. The transaction is rolled back, whatever happens.

    What a rollback doesn't take back: values of sequences are used up.

    Raises:
        OperationRefused: the server refused an operation.
        ServiceUnavailable: others hold locks on the rows, or changed them meanwhile, or the server is too slow to
            measure the effect in time; try again.
    """
    try:
        await change.rollback()
        await change.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await change.execute(
            _SQL["bounds"], {"statement": str(limits.statement_timeout_ms), "lock": str(LOCK_TIMEOUT_MS)}
        )
        async with twin(change, observer):
            return await apply(plan, change, observer, row_limit=limits.approval_rows_per_operation, targets=targets)
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
