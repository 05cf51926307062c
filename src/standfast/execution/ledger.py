"""The ledger of a target: which plans were executed, with the images of the rows that they changed."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from standfast.outcome import Execution
from standfast.report import Undo
from standfast.safety.effect import Effect, TableChange
from standfast.safety.undo import rows_digest
from standfast.steps import ExecuteRequest, Recalled
from standfast.store.connections import Connection
from standfast.store.sql import statements
from standfast.store.takeover import session_name, take_over

_SQL = statements(__package__, "ledger.sql")


async def begin(connection: Connection, request: ExecuteRequest) -> None:
    """Begin the transaction that executes a plan."""
    await connection.execute(_SQL["begin"])
    await connection.execute(_SQL["bounds"], {"session": session_name(request.workflow_id)})


async def overtake(connection: Connection, request: ExecuteRequest, *, attempt: int) -> None:
    """Let no older attempt execute the plan, once this is committed. What one has begun is undone.

    Raises:
        psycopg.errors.LockNotAvailable: its session doesn't end.
    """
    await take_over(connection, request.workflow_id)
    await connection.execute(_SQL["overtake"], _key(request) | {"execution": request.execution, "attempt": attempt})


async def claim(connection: Connection, request: ExecuteRequest, *, attempt: int) -> datetime | None:
    """Insert the plan's ledger row and return the server's time.

    None if the plan was executed before, or if a newer attempt is at it.

    Raises:
        psycopg.errors.SerializationFailure: one of them happened while this transaction ran; a new one can tell.
    """
    operations = [{"sql": operation.sql, "params": operation.params} for operation in request.plan.operations]
    row = {
        **_key(request),
        "execution": request.execution,
        "target": request.target,
        "statements": Jsonb(operations),
        "fingerprint": request.fingerprint,
        "approved_by": list(request.approved_by),
        "attempt": attempt,
    }
    claimed = await (await connection.execute(_SQL["claim"], row)).fetchone()
    return None if claimed is None else claimed["claimed_at"]


async def record(connection: Connection, request: ExecuteRequest, effect: Effect) -> None:
    """Insert what the plan changed."""
    async with connection.cursor() as cursor:
        await cursor.executemany(_SQL["record_count"], [_key(request) | count for count in _counts(effect)])
        await cursor.executemany(_SQL["record_row"], [_key(request) | row for row in _rows(effect)])


async def record_undo(
    connection: Connection, request: ExecuteRequest, changes: Sequence[TableChange], undo: Undo
) -> None:
    """Insert how the plan can be taken back, for the rows that it really changed."""
    operations = [operation.model_dump() for operation in undo.operations]
    row = {
        **_key(request),
        "operations": Jsonb(operations) if request.undo_proved else None,
        "left": list(undo.left),
        "remarks": list(undo.remarks),
        "rows_digest": rows_digest((c.table, c.after) for c in changes if c.table not in undo.left),
    }
    await connection.execute(_SQL["record_undo"], row)


async def recall(connection: Connection, workflow_id: str) -> Recalled | None:
    """Return how the plan of a ticket can be taken back, None if it was not executed."""
    row = await (await connection.execute(_SQL["recall"], {"workflow_id": workflow_id})).fetchone()
    return None if row is None else Recalled.model_validate(row)


async def read(connection: Connection, request: ExecuteRequest) -> Execution | None:
    """Return what the ledger says about a plan, None if it was not executed."""
    row = await (await connection.execute(_SQL["read"], _key(request))).fetchone()
    return None if row is None else Execution.model_validate(row)


def _key(request: ExecuteRequest) -> dict[str, Any]:
    return {"workflow_id": request.workflow_id, "plan_digest": request.plan_digest}


def _counts(effect: Effect) -> Iterator[dict[str, Any]]:
    for number, operation in enumerate(effect.operations):
        for table, counts in operation.counts.items():
            yield {"operation": number, "table": table, **counts.model_dump()}


def _rows(effect: Effect) -> Iterator[dict[str, Any]]:
    for number, operation in enumerate(effect.operations):
        for position, row in enumerate(operation.rows):
            yield {
                "operation": number,
                "position": position,
                "table": row.table,
                "key": Jsonb(row.key),
                "before": None if row.before is None else Jsonb(row.before),
                "after": None if row.after is None else Jsonb(row.after),
            }
