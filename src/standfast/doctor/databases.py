"""The database part of `standfast doctor`: can each role connect, may it do what it needs, and nothing else."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from psycopg.types.json import Jsonb
from pydantic import SecretStr

from standfast.doctor.check import Check
from standfast.doctor.server import inspect_server
from standfast.errors import StandfastError
from standfast.safety.access import constrained
from standfast.safety.constraints import Constraints, default_constraints
from standfast.settings import Control, Settings, Target
from standfast.store.connections import Connection, open_connection
from standfast.store.databases import Role
from standfast.store.migrate import Kind, require_schema
from standfast.store.roles import OBSERVER, RUNS_PLANS, Privilege, Right, pinned, rights, role_name
from standfast.store.sql import statements

_SQL = statements(__package__, "databases.sql")
_SHOWN = 5
_Inspection = Callable[[str, Connection], Awaitable[list[Check]]]
_READ = (Privilege.SELECT,)
_APPEND = (Privilege.SELECT, Privilege.INSERT)
_MOVE = (Privilege.SELECT, Privilege.INSERT, Privilege.UPDATE)


def _ours(table: str, privileges: Sequence[Privilege]) -> list[Right]:
    return [Right(schema="standfast", name=table, privilege=privilege) for privilege in privileges]


_LEDGER = (
    *_ours("migration", _READ),
    *(right for table in ("ledger", "ledger_count", "ledger_row", "ledger_undo") for right in _ours(table, _APPEND)),
    *_ours("fence", _MOVE),
)
_EXECUTED = Right(
    schema="standfast",
    name="ledger",
    privilege=Privilege.SELECT,
    columns=("workflow_id", "plan_digest", "target", "fingerprint", "approved_by", "executed_at"),
)
_OURS: Mapping[Role, Sequence[Right]] = {Role.WRITER: _LEDGER, Role.REHEARSER: (_EXECUTED,)}
# Who may get in, and what happens to it: used, revoked, and never given anything else.
_ACCESS = {"session": ("revoked_at",), "login_link": ("used_at",), "api_token": ("revoked_at", "used_at")}
_CONTROL = (
    *(right for table in ("migration", "model_call", "audit") for right in _ours(table, _READ)),
    *(
        right
        for table in ("constraints", "namespace", "shown", "payload", "batch", "batch_ticket", *_ACCESS)
        for right in _ours(table, _APPEND)
    ),
    *(
        Right(schema="standfast", name=table, privilege=Privilege.UPDATE, columns=columns)
        for table, columns in _ACCESS.items()
    ),
    *_ours("touched_row", (*_APPEND, Privilege.DELETE)),
    Right(
        schema="standfast",
        name="batch_ticket",
        privilege=Privilege.UPDATE,
        columns=("ended_at", "ending", "state", "submitted_before"),
    ),
)
_JOURNAL = (
    *_ours("migration", _READ),
    *_ours("model_call", _APPEND),
    Right(schema="standfast", name="model_call", privilege=Privilege.UPDATE, columns=("reused",)),
)


_STORAGE = (*_ours("migration", _READ), *_ours("payload", _APPEND))


async def inspect_target(name: str, target: Target, constraints: Constraints | None = None) -> list[Check]:
    """Check every role of a target whose URL this process has.

    Without its constraints, which not every process may read, only rights that no constraints would give are found.
    """
    checks: list[Check] = []
    for role in Role:
        url: SecretStr | None = getattr(target, role.value)
        if url is not None:
            inspection = _TargetRole(name, target, role, constraints)
            checks += await _inspect(f"targets.{name}.{role}", url, inspection, writes=role is not Role.READER)
    return checks or [Check(name=f"targets.{name}", ok=False, message="no URL is set; set at least one role's")]


async def inspect_control(control: Control) -> list[Check]:
    """Check the control database, as each role whose URL this process has."""
    checks: list[Check] = []
    if control.url is not None:
        checks += await _inspect(
            "control.url", control.url, partial(_control_role, _CONTROL, appends=True), writes=True
        )
    if control.journal is not None:
        checks += await _inspect("control.journal", control.journal, partial(_control_role, _JOURNAL), writes=True)
    return checks or [Check(name="control.url", ok=False, message="is not set; set the URL of the control database")]


async def inspect_storage(settings: Settings) -> list[Check]:
    """Check that this process can reach what is too large for Temporal."""
    if settings.storage.url is not None:
        return await _inspect("storage.url", settings.storage.url, _storage_role, writes=True)
    if settings.control.url is None:
        advice = "large payloads can't be read; set it to the control database's URL as standfast_storage"
        return [Check(name="storage.url", ok=False, message=f"is not set: {advice}")]
    return []


async def _inspect(setting: str, secret: SecretStr, inspection: _Inspection, *, writes: bool) -> list[Check]:
    url = secret.get_secret_value()
    try:
        connection = await open_connection(url, schemas=("pg_catalog",), application="standfast doctor")
    except StandfastError as error:
        return [Check(name=f"{setting} connection", ok=False, message=str(error))]
    async with connection:
        return [
            *await inspect_server(setting, url, connection, writes=writes),
            *await inspection(setting, connection),
        ]


async def _control_role(
    rights: Sequence[Right], setting: str, connection: Connection, *, appends: bool = False
) -> list[Check]:
    excess, missing = await _differences(connection, rights)
    row = await (await connection.execute(_SQL["appends"])).fetchone()
    if row is not None and row["may"] != appends:
        (missing if appends else excess).append("EXECUTE on standfast.append_audit")
    return [
        await _powers(setting, connection),
        _rights(setting, excess, missing, advice="revoke it"),
        await _schema(setting, connection, Kind.CONTROL),
    ]


async def _storage_role(setting: str, connection: Connection) -> list[Check]:
    checks = await _control_role(_STORAGE, setting, connection)
    if all(check.ok for check in checks):
        row = await (await connection.execute(_SQL["kept"])).fetchone() or {}
        since = f", the oldest of {row['oldest']:%Y-%m-%d}; see `standfast purge`" if row["payloads"] else ""
        message = f"keeps {row['payloads']} large payloads, {row['bytes'] / 2**20:.1f} MiB{since}"
        checks.append(Check(name=f"{setting} content", ok=True, message=message))
    return checks


@dataclass(frozen=True)
class _TargetRole:
    """One role of a target, and how to inspect it."""

    target_name: str
    target: Target
    role: Role
    constraints: Constraints | None

    async def __call__(self, setting: str, connection: Connection) -> list[Check]:
        observer = role_name(self.target_name, OBSERVER) if self.role in RUNS_PLANS else None
        checks = [
            await _powers(setting, connection, observer),
            await self._rights(setting, connection, observer),
            await self._pins(setting, connection),
        ]
        if self.role is Role.WRITER:
            checks.append(await _schema(setting, connection, Kind.TARGET))
        return checks

    async def _rights(self, setting: str, connection: Connection, observer: str | None) -> Check:
        schemas = self.target.schemas
        known = self.constraints or default_constraints(self.target_name, schemas)
        wanted = rights(await constrained(known)(connection, schemas))
        own = (*wanted[self.role], *_OURS.get(self.role, ()))
        excess, missing = await _differences(connection, own)
        if observer is not None:
            row = await (await connection.execute(_SQL["observer"], {"observer": observer})).fetchone() or {}
            if not row["may_become"]:
                missing.append(f"membership in {observer}")
            beyond, short = await _differences(connection, wanted[OBSERVER], role=observer)
            excess += [f"{right} as {observer}" for right in beyond]
            missing += [f"{right} as {observer}" for right in short]
        if self.constraints is None:
            missing = [right for right in missing if " on standfast." in right]
        advice = "`standfast migrate` takes away what the constraints don't give, unless PUBLIC has it"
        return _rights(setting, excess, missing, advice=advice)

    async def _pins(self, setting: str, connection: Connection) -> Check:
        pins = Jsonb({name: list(values) for name, values in pinned(self.role, self.target.schemas).items()})
        rows = await (await connection.execute(_SQL["pins"], {"pins": pins})).fetchall()
        name = f"{setting} settings"
        if rows:
            found = _some([f"{row['name']} = {row['kept'] or '(not set)'}, not {row['wanted']}" for row in rows])
            return Check(name=name, ok=False, message=f"sessions begin with {found}; run `standfast migrate`")
        return Check(name=name, ok=True, message="every session begins with the pinned ones")


async def _powers(setting: str, connection: Connection, observer: str | None = None) -> Check:
    rows = await (await connection.execute(_SQL["powers"], {"observer": observer})).fetchall()
    if rows:
        advice = "use the role that `standfast migrate` creates, or take it away as the database's owner"
        return Check(name=f"{setting} role", ok=False, message=f"{_some([row['power'] for row in rows])}; {advice}")
    return Check(name=f"{setting} role", ok=True, message="has no power beyond its rights on tables")


async def _differences(
    connection: Connection, wanted: Sequence[Right], *, role: str | None = None
) -> tuple[list[str], list[str]]:
    """Return the rights that a role, by default the present one, has beyond the wanted ones, and those it lacks."""
    parameters = {"rights": Jsonb([vars(right) for right in wanted]), "role": role}
    rows = await (await connection.execute(_SQL["differences"], parameters)).fetchall()
    excess = [f"{row['privilege']} on {row['table']}" for row in rows if not row["expected"]]
    missing = [f"{row['privilege']} on {row['table']}" for row in rows if row["expected"]]
    return excess, missing


def _rights(setting: str, excess: Sequence[str], missing: Sequence[str], *, advice: str) -> Check:
    name = f"{setting} rights"
    if excess:
        return Check(name=name, ok=False, message=f"may do more than it needs: {_some(excess)}; {advice}")
    if missing:
        return Check(name=name, ok=False, message=f"lacks {_some(missing)}; run `standfast migrate`")
    return Check(name=name, ok=True, message="has the rights it needs and no others")


async def _schema(setting: str, connection: Connection, kind: Kind) -> Check:
    name = f"{setting} schema"
    try:
        version = await require_schema(connection, kind)
    except StandfastError as error:
        return Check(name=name, ok=False, message=str(error))
    return Check(name=name, ok=True, message=f"is at version {version}, the newest")


def _some(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
