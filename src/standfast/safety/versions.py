"""The versions of constraints in the control database: who changed them, when and why; each is on the audit chain."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from psycopg.types.json import Jsonb

from standfast import audit
from standfast.domain import Record, digest
from standfast.safety.constraints import Constraints, default_constraints
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "versions.sql")


class Version(Record):
    """One version of a target's constraints; the newest holds."""

    target: str
    version: int
    created_at: datetime
    created_by: str
    note: str


async def read_latest(connection: Connection, target: str, schemas: Sequence[str]) -> Constraints:
    """Return the newest constraints of a target, the default ones if it has none."""
    cursor = await connection.execute(_SQL["latest"], {"target": target})
    row = await cursor.fetchone()
    if row is None:
        return default_constraints(target, schemas)
    return Constraints.model_validate_json(json.dumps(row["document"]))


async def lock(connection: Connection, target: str) -> None:
    """Keep others from storing a version of the target's constraints until the transaction ends."""
    await connection.execute(_SQL["lock"], {"target": target})


async def append(connection: Connection, constraints: Constraints, *, created_by: str, note: str = "") -> int:
    """Store a new version, put it on the audit chain in the same transaction, and return its number."""
    async with connection.transaction():
        await lock(connection, constraints.target)
        return await _append(connection, constraints, created_by=created_by, note=note)


async def append_first(connection: Connection, constraints: Constraints, *, created_by: str) -> bool:
    """Store version 1 as `append` does, unless the target has one; tell whether it had none."""
    async with connection.transaction():
        await lock(connection, constraints.target)
        cursor = await connection.execute(_SQL["latest"], {"target": constraints.target})
        if await cursor.fetchone() is not None:
            return False
        await _append(connection, constraints, created_by=created_by, note="")
    return True


async def versions(connection: Connection) -> list[Version]:
    """Return all versions, by target, newest first."""
    cursor = await connection.execute(_SQL["versions"])
    return [Version.model_validate(row) for row in await cursor.fetchall()]


async def _append(connection: Connection, constraints: Constraints, *, created_by: str, note: str) -> int:
    document = constraints.model_dump(mode="json", by_alias=True)
    parameters = {"target": constraints.target, "document": Jsonb(document), "created_by": created_by, "note": note}
    row = await (await connection.execute(_SQL["append"], parameters)).fetchone()
    if row is None:
        msg = "append returned no row"
        raise RuntimeError(msg)
    version = Version.model_validate(row)
    place = f"constraints/{version.target}"
    await audit.append(
        connection,
        key=f"{place}/{version.version}",
        at=version.created_at.astimezone(UTC),
        kind=audit.Kind.CONSTRAINTS,
        workflow_id=place,
        actor=created_by,
        content={"version": version.version, "note": note, "document_digest": digest(document)},
    )
    return version.version
