"""Conflicts: waiting plans that change the same rows. Whichever is executed first makes the other one stale."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import timedelta

from standfast.safety.effect import TableChange
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "conflicts.sql")
# Thousands of tickets may be after one row, and a plan may change thousands of rows.
_LOOKED_AT = {"of_a_row": 10, "of_a_ticket": 5_000, "others": 50}


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


async def forget_rows(connection: Connection, workflow_id: str) -> None:
    """Forget which rows a ticket would have changed: it has ended."""
    await connection.execute(_SQL["forget"], {"workflow_id": workflow_id})


async def on_the_same_rows(connection: Connection, workflow_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return, by workflow id, the workflow ids of other tickets that were noted with some of the same rows.

    Some of them, if many are after one row, or many are found. One that was ended from outside is among them until it
    would have expired.
    """
    cursor = await connection.execute(_SQL["others"], _LOOKED_AT | {"workflow_ids": list(workflow_ids)})
    return {row["workflow_id"]: tuple(row["others"]) for row in await cursor.fetchall()}


def _hash(table: str, key: str) -> bytes:
    return hashlib.sha256(f"{table} {key}".encode()).digest()[:16]
