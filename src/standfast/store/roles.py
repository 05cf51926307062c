"""The database roles of Standfast and their rights: each may do what its step needs, and nothing else.

The reader reads. The rehearser and the writer run the statements of plans, with the same rights on the target's tables;
the writer keeps the ledger, too, and the rehearser may see which plans are in it. To measure what a statement changed,
whole rows have to be looked at, and columns that no statement may read: for that alone, and for as long as it takes,
both become the observer, see `standfast.store.observing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql

from standfast.errors import InvalidInput
from standfast.store.connections import PINNED, Connection
from standfast.store.databases import Role
from standfast.store.names import too_many_bytes
from standfast.store.sql import statements

CONTROL_ROLE = "standfast_control"
JOURNAL_ROLE = "standfast_journal"
STORAGE_ROLE = "standfast_storage"
CONTROL_ROLES = (CONTROL_ROLE, JOURNAL_ROLE, STORAGE_ROLE)
OBSERVER = "observer"
RUNS_PLANS = (Role.REHEARSER, Role.WRITER)
_TABLES = frozenset({"r", "p"})
_WRITABLE = _TABLES | {"v"}
_SQL = statements(__package__, "roles.sql")


class Privilege(StrEnum):
    """A right on a table."""

    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


_WRITES = (Privilege.INSERT, Privilege.UPDATE, Privilege.DELETE)


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a target leaves open of one table or view."""

    schema: str
    name: str
    columns: tuple[str, ...]
    """Those that statements may read; none if the relation is closed to them."""
    whole: bool = True
    """Whether these are all of its columns."""
    writes: tuple[Privilege, ...] = ()
    observed: bool
    """Whether its rows are looked at when they have changed."""

    @property
    def full_name(self) -> str:
        """`schema.name`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Right:
    """One right of one role."""

    schema: str
    name: str
    privilege: Privilege
    columns: tuple[str, ...] = ()
    """Empty: on the whole of it."""


def role_name(target: str, role: Role | str) -> str:
    """Return the name of a target's database role: of a `Role`, or of the `OBSERVER`.

    Raises:
        InvalidInput: it would be too long for PostgreSQL.
    """
    name = f"standfast_{target}_{role}"
    if excess := too_many_bytes(name):
        longest = len(target) - excess
        raise InvalidInput(f"target name {target!r} is too long for a role's name; use at most {longest} characters")
    return name


async def create_roles(connection: Connection, passwords: Mapping[str, str | None]) -> tuple[str, ...]:
    """Create the roles that are missing, set the passwords that are given, and return the names of the created ones."""
    cursor = await connection.execute(_SQL["existing"], {"roles": list(passwords)})
    existing = {row["name"] for row in await cursor.fetchall()}
    for name, password in passwords.items():
        if name not in existing:
            await _run(connection, "create", role=sql.Identifier(name))
        if password is not None:
            verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
            await _run(connection, "set_password", role=sql.Identifier(name), verifier=sql.Literal(verifier.decode()))
    return tuple(name for name in passwords if name not in existing)


async def create_observer(connection: Connection, name: str) -> None:
    """Create the role whose rights others may use for a while, unless it is there."""
    cursor = await connection.execute(_SQL["existing"], {"roles": [name]})
    if not await cursor.fetchall():
        await _run(connection, "create_observer", role=sql.Identifier(name))


async def close_to_public(connection: Connection) -> None:
    """Take from PUBLIC what would let our roles create objects; other roles keep it by a grant of their own."""
    cursor = await connection.execute(_SQL["others"])
    others = _names([row["name"] for row in await cursor.fetchall()])
    cursor = await connection.execute(_SQL["open_to_public"])
    for row in await cursor.fetchall():
        if row["temporary"]:
            await _keep_and_close(connection, "temporary", others, database=_database(connection))
        for schema in row["schemas"]:
            await _keep_and_close(connection, "create", others, schema=sql.Identifier(schema))


async def open_access(connection: Connection, schemas: Sequence[str]) -> list[Access]:
    """Return what is open where no constraint closes anything."""
    cursor = await connection.execute(_SQL["relations"], {"schemas": list(schemas)})
    return [
        Access(
            schema=row["schema"],
            name=row["name"],
            columns=tuple(row["columns"]),
            writes=_WRITES if row["kind"] in _WRITABLE else (),
            observed=row["kind"] in _TABLES,
        )
        for row in await cursor.fetchall()
    ]


def rights(accesses: Sequence[Access]) -> Mapping[str, tuple[Right, ...]]:
    """Return the rights on a target's own tables and views, by role: each `Role`, and the `OBSERVER`."""
    reads = tuple(
        Right(schema=a.schema, name=a.name, privilege=Privilege.SELECT, columns=() if a.whole else a.columns)
        for a in accesses
        if a.columns
    )
    writes = tuple(Right(schema=a.schema, name=a.name, privilege=p) for a in accesses for p in a.writes)
    looks = tuple(Right(schema=a.schema, name=a.name, privilege=Privilege.SELECT) for a in accesses if a.observed)
    return {Role.READER: reads, **dict.fromkeys(RUNS_PLANS, reads + writes), OBSERVER: looks}


def pinned(role: Role, schemas: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the settings that sessions of a role begin with, each with its value or values."""
    settings = {name: (value,) for name, value in PINNED.items()} | {"search_path": (*schemas, "pg_temp")}
    return settings | ({"default_transaction_read_only": ("on",)} if role is Role.READER else {})


async def grant_target(connection: Connection, target: str, schemas: Sequence[str], accesses: Sequence[Access]) -> None:
    """Give a target's roles their rights on `schemas` and the ledger, and take every other right from them."""
    observer = sql.Identifier(role_name(target, OBSERVER))
    await create_observer(connection, role_name(target, OBSERVER))
    everyone = [role_name(target, role) for role in (*Role, OBSERVER)]
    runners = _names([role_name(target, role) for role in RUNS_PLANS])
    await _start_from_nothing(connection, everyone)
    for schema in map(sql.Identifier, schemas):
        await _run(connection, "grant_schema", schema=schema, roles=_names(everyone))
    for role, granted in rights(accesses).items():
        await _grant(connection, sql.Identifier(role_name(target, role)), granted)
    for sequence in await _sequences(connection, schemas, accesses):
        await _run(connection, "grant_sequence", relation=sequence, roles=runners)
    for role in RUNS_PLANS:
        await _run(connection, "let_observe", observer=observer, role=sql.Identifier(role_name(target, role)))
    for role in Role:
        await _pin(connection, sql.Identifier(role_name(target, role)), pinned(role, schemas))
    await _run(connection, "grant_ledger", roles=sql.Identifier(role_name(target, Role.WRITER)))
    await _run(connection, "grant_executed", role=sql.Identifier(role_name(target, Role.REHEARSER)))


async def grant_control(connection: Connection) -> None:
    """Give the control database's roles their rights, and take every other right from them."""
    await _start_from_nothing(connection, list(CONTROL_ROLES))
    await _run(connection, "grant_control", roles=sql.Identifier(CONTROL_ROLE))
    await _run(connection, "grant_journal", roles=sql.Identifier(JOURNAL_ROLE))
    await _run(connection, "grant_storage", roles=_names([STORAGE_ROLE, CONTROL_ROLE]))


async def _start_from_nothing(connection: Connection, roles: list[str]) -> None:
    cursor = await connection.execute(_SQL["granted_schemas"], {"roles": roles})
    for row in await cursor.fetchall():
        await _run(connection, "revoke", schema=sql.Identifier(row["name"]), roles=_names(roles))
    await _run(connection, "connect", database=_database(connection), roles=_names(roles))


async def _grant(connection: Connection, role: sql.Identifier, granted: Sequence[Right]) -> None:
    whole: dict[tuple[str, str], list[Privilege]] = {}
    for right in granted:
        if right.columns:
            relation = sql.Identifier(right.schema, right.name)
            await _run(connection, "grant_columns", columns=_names(right.columns), relation=relation, role=role)
        else:
            whole.setdefault((right.schema, right.name), []).append(right.privilege)
    for name, privileges in whole.items():
        listed = sql.SQL(", ").join(sql.SQL(privilege.value) for privilege in privileges)
        await _run(connection, "grant", privileges=listed, relation=sql.Identifier(*name), role=role)


async def _sequences(
    connection: Connection, schemas: Sequence[str], accesses: Sequence[Access]
) -> list[sql.Identifier]:
    """Return the sequences that inserts need: those of tables that take some, and those of no table."""
    filled = {(access.schema, access.name) for access in accesses if Privilege.INSERT in access.writes}
    cursor = await connection.execute(_SQL["sequences"], {"schemas": list(schemas)})
    return [
        sql.Identifier(row["schema"], row["name"])
        for row in await cursor.fetchall()
        if row["table_name"] is None or (row["table_schema"], row["table_name"]) in filled
    ]


async def _pin(connection: Connection, role: sql.Identifier, settings: Mapping[str, tuple[str, ...]]) -> None:
    database = _database(connection)
    await _run(connection, "unpin", role=role, database=database)
    for name, values in settings.items():
        value = sql.SQL(", ").join(map(sql.Literal, values))
        await _run(connection, "pin", role=role, database=database, setting=sql.Identifier(name), value=value)


async def _keep_and_close(connection: Connection, right: str, others: sql.Composed, **names: sql.Composable) -> None:
    if list(others):
        await _run(connection, f"keep_{right}", roles=others, **names)
    await _run(connection, f"close_{right}", **names)


async def _run(connection: Connection, statement: str, **names: sql.Composable) -> None:
    await connection.execute(sql.SQL(_SQL[statement]).format(**names))


def _names(roles: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, roles))


def _database(connection: Connection) -> sql.Identifier:
    return sql.Identifier(connection.info.dbname)
