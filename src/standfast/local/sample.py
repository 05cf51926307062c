"""The sample shop as a target: its database, its roles, its constraints."""

from importlib.resources import files
from pathlib import Path

from pydantic import SecretStr

from standfast.local.home import Secrets
from standfast.local.postgres import Postgres
from standfast.local.shop import load_shop
from standfast.safety.access import constrained
from standfast.safety.constraints import parse_constraints
from standfast.safety.versions import append, read_latest
from standfast.settings import Settings, Target
from standfast.store.connections import open_connection
from standfast.store.databases import Databases, Role
from standfast.store.migrate import migrate_target
from standfast.store.roles import role_name

TARGET = "shop"
_SCHEMA = "shop"
_FOLDER = Path(str(files("standfast.local.shop")))
PLAYBOOKS = _FOLDER / "playbooks"
TICKETS = _FOLDER / "tickets"


def target(postgres: Postgres, kept: Secrets) -> Target:
    """Return the shop with the URLs of its roles."""
    urls = {
        role.value: SecretStr(postgres.url(TARGET, user=role_name(TARGET, role), password=password))
        for role, password in _passwords(kept).items()
    }
    return Target(schemas=(_SCHEMA,), owner=SecretStr(postgres.url(TARGET)), **urls)


async def prepare(postgres: Postgres, kept: Secrets, settings: Settings) -> None:
    """Create what is missing of the shop, and bring its ledger and its roles up to date.

    Raises:
        ServiceUnavailable: a database can't be reached.
    """
    owner = postgres.url(TARGET)
    await postgres.create_database(TARGET)
    if not await _is_loaded(owner):
        # The constraints come first: if this is interrupted, both are made again, and no shop goes without.
        await _store_constraints(settings)
        await load_shop(owner)
    async with Databases(settings, application="standfast up") as databases, databases.control() as connection:
        constraints = await read_latest(connection, TARGET, (_SCHEMA,))
    await migrate_target(owner, TARGET, (_SCHEMA,), _passwords(kept), accesses=constrained(constraints))


def _passwords(kept: Secrets) -> dict[Role, str]:
    return {Role.READER: kept.reader, Role.REHEARSER: kept.rehearser, Role.WRITER: kept.writer}


async def _is_loaded(owner: str) -> bool:
    async with await open_connection(owner, application="standfast up") as connection:
        cursor = await connection.execute("SELECT to_regnamespace(%s) IS NOT NULL AS loaded", (_SCHEMA,))
        row = await cursor.fetchone()
    return row is not None and bool(row["loaded"])


async def _store_constraints(settings: Settings) -> None:
    file = _FOLDER / "constraints.yaml"
    constraints = parse_constraints(file.read_text("utf-8"), source=str(file))
    async with Databases(settings, application="standfast up") as databases, databases.control() as connection:
        await append(connection, constraints, created_by="standfast up", note="the sample shop's")
