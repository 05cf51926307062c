"""Conflicts: waiting plans that change the same rows. Whichever is executed first makes the other one stale."""

import hashlib
from collections.abc import Iterable
from datetime import timedelta

from standfast.safety.effect import TableChange
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "conflicts.sql")


async def note_rows(
    connection: Connection, *, target: str, workflow_id: str, changes: Iterable[TableChange], waits: timedelta
) -> None:
    """Note in the control database which rows a plan changes that waits for a person, in place of earlier ones."""
    rows = sorted(
        {_hash(change.table, key) for change in changes for key in change.before.keys() | change.after.keys()}
    )
    parameters = {"target": target, "workflow_id": workflow_id, "rows": rows, "waits": waits}
    async with connection.transaction():
        await connection.execute(_SQL["forget"], parameters)
        await connection.execute(_SQL["note"], parameters)


async def on_the_same_rows(connection: Connection, workflow_id: str) -> tuple[str, ...]:
    """Return the workflow ids of other tickets that were noted with a row of this one; some may have ended since."""
    cursor = await connection.execute(_SQL["others"], {"workflow_id": workflow_id})
    return tuple(row["workflow_id"] for row in await cursor.fetchall())


def _hash(table: str, key: str) -> bytes:
    return hashlib.sha256(f"{table} {key}".encode()).digest()[:16]
