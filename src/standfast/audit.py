"""The audit chain: an append-only record in the control database, each row hashed together with the one before."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from standfast.domain import digest
from standfast.store.connections import Connection

GENESIS = "0" * 64


def row_hash(
    *, key: str, at: datetime, kind: str, workflow_id: str, actor: str, content: Mapping[str, Any], previous: str
) -> str:
    """Return the hash of one row: SHA-256 over its canonical JSON, the previous row's hash included."""
    return digest(
        {
            "key": key,
            "at": at.isoformat(),
            "kind": kind,
            "workflow_id": workflow_id,
            "actor": actor,
            "content": dict(content),
            "previous": previous,
        }
    )


async def append(
    connection: Connection,
    *,
    key: str,
    at: datetime,
    kind: str,
    workflow_id: str,
    actor: str,
    content: Mapping[str, Any],
) -> None:
    """Append one row; the same `key` again changes nothing, so that a retried activity records once."""
    async with connection.transaction():
        # One writer at a time: each row needs the hash of the one before. One that freezes must not keep the others.
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '2s'")
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('standfast.audit'))")
        known = await connection.execute("SELECT 1 FROM standfast.audit WHERE key = %s", (key,))
        if await known.fetchone() is not None:
            return
        last = await connection.execute("SELECT hash FROM standfast.audit ORDER BY sequence DESC LIMIT 1")
        row = await last.fetchone()
        previous = row["hash"] if row else GENESIS
        new = row_hash(
            key=key, at=at, kind=kind, workflow_id=workflow_id, actor=actor, content=content, previous=previous
        )
        await connection.execute(
            "INSERT INTO standfast.audit (key, at, kind, workflow_id, actor, content, previous_hash, hash)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (key, at, kind, workflow_id, actor, Jsonb(dict(content)), previous, new),
        )


async def verify(connection: Connection) -> list[str]:
    """Recompute the whole chain, and return what is wrong with it: nothing if it is as it was written."""
    cursor = await connection.execute("SELECT * FROM standfast.audit ORDER BY sequence")
    return list(breaks(await cursor.fetchall()))


def breaks(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each row whose content is not what was hashed, or that does not follow on the one before."""
    previous = GENESIS
    for row in rows:
        named = f"row {row['sequence']} ({row['kind']} of {row['workflow_id']})"
        if row["previous_hash"] != previous:
            yield f"{named} does not follow on the row before it; one was removed, added or moved"
        fields = {name: row[name] for name in ("key", "at", "kind", "workflow_id", "actor", "content")}
        if row["hash"] != row_hash(**fields, previous=row["previous_hash"]):
            yield f"{named} was changed after it was written"
        previous = row["hash"]
