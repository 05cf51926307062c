"""The database roles of Standfast and their rights: each may do what its step needs, and nothing else."""

from collections.abc import Mapping, Sequence

from psycopg import sql

from standfast.errors import InvalidInput
from standfast.store.connections import Connection, Role
from standfast.store.sql import statements

CONTROL_ROLE = "standfast_control"
JOURNAL_ROLE = "standfast_journal"
CONTROL_ROLES = (CONTROL_ROLE, JOURNAL_ROLE)
_MAX_NAME_BYTES = 63  # PostgreSQL cuts longer names without a word
_SQL = statements(__package__, "roles.sql")


def role_name(target: str, role: Role) -> str:
    """Return the name of a target's database role.

    Raises:
        InvalidInput: it would be longer than PostgreSQL's 63 bytes.
    """
    name = f"standfast_{target}_{role}"
    if len(name) > _MAX_NAME_BYTES:
        longest = _MAX_NAME_BYTES - len(name) + len(target)
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


async def grant_target(connection: Connection, target: str, schemas: Sequence[str]) -> None:
    """Give a target's three roles their rights on `schemas` and the ledger, and take every other right from them."""
    everyone = [role_name(target, role) for role in Role]
    writers = _names([role_name(target, role) for role in (Role.REHEARSER, Role.WRITER)])
    await _start_from_nothing(connection, everyone)
    for schema in map(sql.Identifier, schemas):
        await _run(connection, "grant_read", schema=schema, roles=_names(everyone))
        await _run(connection, "grant_write", schema=schema, roles=writers)
    await _run(connection, "grant_ledger", roles=sql.Identifier(role_name(target, Role.WRITER)))
    await _run(connection, "read_only", role=sql.Identifier(role_name(target, Role.READER)))


async def grant_control(connection: Connection) -> None:
    """Give the control database's roles their rights, and take every other right from them."""
    await _start_from_nothing(connection, list(CONTROL_ROLES))
    await _run(connection, "grant_control", roles=sql.Identifier(CONTROL_ROLE))
    await _run(connection, "grant_journal", roles=sql.Identifier(JOURNAL_ROLE))


async def _start_from_nothing(connection: Connection, roles: list[str]) -> None:
    cursor = await connection.execute(_SQL["granted_schemas"], {"roles": roles})
    for row in await cursor.fetchall():
        await _run(connection, "revoke", schema=sql.Identifier(row["name"]), roles=_names(roles))
    await _run(connection, "connect", database=_database(connection), roles=_names(roles))


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
