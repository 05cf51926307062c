"""Migrations: our schema `standfast` in the control database and in each target, and the roles that use it.

Each numbered file runs once, all pending ones and the roles' rights in one transaction under an advisory lock: an
interrupted migration leaves nothing behind, and two at once are as good as one.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import LiteralString

import psycopg

from standfast.errors import InvalidInput, NotMigrated, NotPermitted, ServiceUnavailable
from standfast.store import roles
from standfast.store.connections import Connection, address, open_connection
from standfast.store.databases import Role
from standfast.store.sql import read, statements

Accesses = Callable[[Connection, Sequence[str]], Awaitable[Sequence[roles.Access]]]
"""Tells what is open of the tables and views in some schemas."""
_SQL = statements(__package__, "migrate.sql")
_FILE = re.compile(r"^(\d{3})_(\w+)\.sql$")
_OWN_SCHEMA = "standfast"


class Kind(StrEnum):
    """Which of our schemas a database holds; it may hold both."""

    CONTROL = "control"
    TARGET = "target"


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One step of a schema."""

    number: int
    name: str
    sql: LiteralString

    @property
    def checksum(self) -> str:
        """SHA-256 of the text: tells whether the file was changed after it ran."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """What a run of `migrate` did."""

    applied: tuple[str, ...]
    """Names of the migrations that ran, oldest first; empty if the schema was current."""
    created: tuple[str, ...]
    """Roles that were created."""
    without_password: tuple[str, ...]
    """Created roles that got no password; set one with psql's `\\password ROLE`."""


def migrations(kind: Kind) -> tuple[Migration, ...]:
    """Return the migrations that this code knows, oldest first."""
    package = f"{__package__}.migrations.{kind}"
    matches = [m for entry in files(package).iterdir() if (m := _FILE.match(entry.name))]
    return tuple(
        Migration(number=int(match[1]), name=match[2], sql=read(package, match[0]))
        for match in sorted(matches, key=lambda match: match[0])
    )


async def migrate_control(owner_url: str, passwords: Mapping[str, str] | None = None) -> Migrated:
    """Create or upgrade the control schema, and its roles (`standfast.store.roles.CONTROL_ROLES`) with their rights.

    Raises:
        InvalidInput: the schema is newer than this code, or an applied migration was changed.
        NotPermitted: the URL's role may not create schemas and roles.
        ServiceUnavailable: the server can't be reached, or another migration holds the lock for too long.
    """
    given = passwords or {}
    return await _migrate(owner_url, Kind.CONTROL, {r: given.get(r) for r in roles.CONTROL_ROLES}, roles.grant_control)


async def migrate_target(
    owner_url: str,
    name: str,
    schemas: Sequence[str],
    passwords: Mapping[Role, str] | None = None,
    *,
    accesses: Accesses = roles.open_access,
) -> Migrated:
    """Create or upgrade the ledger's schema in a target, and its roles with their rights on `schemas`.

    `accesses` tells what the target's constraints leave open. The rights are set anew each time: by the constraints
    and on the tables that exist then. Tables that are created later are out of reach for every role until the next run.

    Raises:
        InvalidInput: as for `migrate_control`; also a schema that doesn't exist or is not a target's to name.
        NotPermitted: the URL's role may not create schemas and roles, or doesn't own the tables.
        ServiceUnavailable: as for `migrate_control`.
    """
    for schema in schemas:
        if schema in (_OWN_SCHEMA, "information_schema") or schema.startswith("pg_"):
            raise InvalidInput(f"targets.{name}.schemas: {schema!r} holds no data of yours; remove it")
    given = passwords or {}

    async def grant(connection: Connection) -> None:
        await roles.grant_target(connection, name, schemas, await accesses(connection, schemas))

    return await _migrate(owner_url, Kind.TARGET, {roles.role_name(name, r): given.get(r) for r in Role}, grant)


async def schema_version(connection: Connection, kind: Kind) -> int:
    """Return the number of the newest migration applied, 0 if there is none.

    Raises:
        InvalidInput: the schema is newer than this code, or an applied migration was changed.
        NotPermitted: the connection's role may not read what was applied.
    """
    cursor = await connection.execute(_SQL["prepared"])
    row = await cursor.fetchone()
    if row is None or not row["prepared"]:
        return 0
    try:
        cursor = await connection.execute(_SQL["applied"], {"kind": kind})
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotPermitted(f"{_place(connection)}: {error.diag.message_primary}; run `standfast migrate`") from error
    applied = await cursor.fetchall()
    known = {migration.number: migration for migration in migrations(kind)}
    for row in applied:
        if row["number"] not in known:
            raise InvalidInput(
                f"{_place(connection)}: the {kind} schema is at version {row['number']} ({row['name']}), "
                f"this Standfast knows versions up to {max(known)}; install a newer Standfast"
            )
        if row["checksum"] != known[row["number"]].checksum:
            raise InvalidInput(
                f"{_place(connection)}: {kind} migration {row['number']} ({row['name']}) was applied with other "
                "content than this Standfast has; install the release that applied it"
            )
    return max((row["number"] for row in applied), default=0)


def _place(connection: Connection) -> str:
    """Return host, port and database of an open connection, for messages."""
    return f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"


async def require_schema(connection: Connection, kind: Kind) -> int:
    """Return the number of the newest migration, which was applied.

    Raises:
        NotMigrated: it was not.
        InvalidInput, NotPermitted: as `schema_version` does.
    """
    version, newest = await schema_version(connection, kind), migrations(kind)[-1].number
    if version < newest:
        place = f"{_place(connection)}: the {kind} schema"
        raise NotMigrated(f"{place} is at version {version} of {newest}; run `standfast migrate`")
    return version


async def _migrate(
    owner_url: str,
    kind: Kind,
    passwords: Mapping[str, str | None],
    grant: Callable[[Connection], Awaitable[None]],
) -> Migrated:
    connection = await open_connection(owner_url, schemas=("pg_catalog",), application="standfast migrate")
    try:
        async with connection, connection.transaction():
            await connection.execute(_SQL["lock"])
            applied = await _apply_pending(connection, kind)
            created = await roles.create_roles(connection, passwords)
            await roles.close_to_public(connection)
            await grant(connection)
    except psycopg.errors.InvalidSchemaName as error:
        raise InvalidInput(f"{address(owner_url)}: {error.diag.message_primary}; mend the target's schemas") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotPermitted(
            f"{address(owner_url)}: {error.diag.message_primary}; the owner URL must name a role that may create "
            "schemas and roles and that owns the tables"
        ) from error
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"{address(owner_url)}: {str(error).strip()}; nothing was changed") from error
    return Migrated(
        applied=applied, created=created, without_password=tuple(name for name in created if passwords[name] is None)
    )


async def _apply_pending(connection: Connection, kind: Kind) -> tuple[str, ...]:
    await connection.execute(_SQL["prepare"])
    version = await schema_version(connection, kind)
    pending = [migration for migration in migrations(kind) if migration.number > version]
    for migration in pending:
        await connection.execute(migration.sql)
        record = {"kind": kind, "number": migration.number, "name": migration.name, "checksum": migration.checksum}
        await connection.execute(_SQL["record"], record)
    return tuple(migration.name for migration in pending)
