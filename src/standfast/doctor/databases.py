"""The database part of `standfast doctor`: can each role connect, may it do what it needs, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb
from pydantic import SecretStr

from standfast.doctor.check import Check
from standfast.doctor.server import inspect_server
from standfast.errors import StandfastError
from standfast.settings import Control, Target
from standfast.store.connections import Connection, Role, open_connection
from standfast.store.migrate import Kind, migrations, schema_version
from standfast.store.sql import statements

_SQL = statements(__package__, "databases.sql")
_SHOWN = 5
_READ = ("SELECT",)
_APPEND = ("SELECT", "INSERT")
_MOVE = ("SELECT", "INSERT", "UPDATE")
_WRITE = ("SELECT", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True)
class _Right:
    schema_name: str
    table_name: str | None
    """None for all tables of the schema."""
    privileges: tuple[str, ...]
    updates: tuple[str, ...] = ()
    """Columns that may be updated although the table as a whole may not."""


_LEDGER = (
    _Right("standfast", "migration", _READ),
    *(_Right("standfast", table, _APPEND) for table in ("ledger", "ledger_count", "ledger_row")),
    _Right("standfast", "fence", _MOVE),
)
_CONTROL = (
    _Right("standfast", "migration", _READ),
    _Right("standfast", "model_call", _READ),
    *(_Right("standfast", table, _APPEND) for table in ("constraints", "audit")),
    *(_Right("standfast", table, _MOVE) for table in ("session", "login_link")),
)
_JOURNAL = (
    _Right("standfast", "migration", _READ),
    _Right("standfast", "model_call", _APPEND, updates=("reused",)),
)


async def inspect_target(name: str, target: Target) -> list[Check]:
    """Check every role of a target whose URL this process has."""
    rights = {
        Role.READER: [_Right(schema, None, _READ) for schema in target.schemas],
        Role.REHEARSER: [_Right(schema, None, _WRITE) for schema in target.schemas],
        Role.WRITER: [*(_Right(schema, None, _WRITE) for schema in target.schemas), *_LEDGER],
    }
    checks: list[Check] = []
    for role in Role:
        url: SecretStr | None = getattr(target, role.value)
        if url is not None:
            kind = Kind.TARGET if role is Role.WRITER else None
            checks += await _inspect(f"targets.{name}.{role}", url, rights[role], kind)
    return checks or [Check(name=f"targets.{name}", ok=False, message="no URL is set; set at least one role's")]


async def inspect_control(control: Control) -> list[Check]:
    """Check the control database, as each role whose URL this process has."""
    checks: list[Check] = []
    if control.url is not None:
        checks += await _inspect("control.url", control.url, _CONTROL, Kind.CONTROL)
    if control.journal is not None:
        checks += await _inspect("control.journal", control.journal, _JOURNAL, Kind.CONTROL)
    return checks or [Check(name="control.url", ok=False, message="is not set; set the URL of the control database")]


async def _inspect(setting: str, secret: SecretStr, rights: Sequence[_Right], kind: Kind | None) -> list[Check]:
    url = secret.get_secret_value()
    try:
        connection = await open_connection(url, application="standfast doctor")
    except StandfastError as error:
        return [Check(name=f"{setting} connection", ok=False, message=str(error))]
    async with connection:
        writes = any("INSERT" in right.privileges for right in rights)
        checks = [
            *await inspect_server(setting, url, connection, writes=writes),
            await _powers(setting, connection),
            await _rights(setting, connection, rights),
        ]
        if kind is not None:
            checks.append(await _schema(setting, connection, kind))
    return checks


async def _powers(setting: str, connection: Connection) -> Check:
    rows = await (await connection.execute(_SQL["powers"])).fetchall()
    if rows:
        advice = "use the role that `standfast migrate` creates, or take it away as the database's owner"
        return Check(name=f"{setting} role", ok=False, message=f"{_some([row['power'] for row in rows])}; {advice}")
    return Check(name=f"{setting} role", ok=True, message="has no power beyond its rights on tables")


async def _rights(setting: str, connection: Connection, rights: Sequence[_Right]) -> Check:
    expected = Jsonb([vars(right) for right in rights])
    rows = await (await connection.execute(_SQL["differences"], {"rights": expected})).fetchall()
    excess = [f"{row['privilege']} on {row['table']}" for row in rows if not row["expected"]]
    missing = [f"{row['privilege']} on {row['table']}" for row in rows if row["expected"]]
    name = f"{setting} rights"
    if excess:
        return Check(name=name, ok=False, message=f"may do more than it needs: {_some(excess)}; revoke it")
    if own := [right for right in missing if " on standfast." in right]:
        return Check(name=name, ok=False, message=f"lacks {_some(own)}; run `standfast migrate`")
    if missing:
        # Not wrong by itself: an administrator may keep a table from the agents on purpose.
        return Check(name=name, ok=True, message=f"lacks {_some(missing)}; for new tables run `standfast migrate`")
    return Check(name=name, ok=True, message="has the rights it needs and no others")


async def _schema(setting: str, connection: Connection, kind: Kind) -> Check:
    name = f"{setting} schema"
    newest = migrations(kind)[-1].number
    try:
        version = await schema_version(connection, kind)
    except StandfastError as error:
        return Check(name=name, ok=False, message=str(error))
    if version < newest:
        return Check(name=name, ok=False, message=f"is at version {version} of {newest}; run `standfast migrate`")
    return Check(name=name, ok=True, message=f"is at version {version}, the newest")


def _some(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
