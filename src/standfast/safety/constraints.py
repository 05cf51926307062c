"""Constraints: what a target allows, as its owners wrote it down. Versioned in the control database."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import yaml
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from standfast.domain import Record
from standfast.errors import InvalidInput
from standfast.report import Verdict
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "constraints.sql")

KNOWN_KINDS = (
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "explain",
    "create_index",
    "add_column",
    "add_enum_value",
)
"""Kinds of statements that can be allowed at all; every other one can escape the transaction or hide its effect."""
StatementKind = Literal[
    "select", "insert", "update", "delete", "merge", "explain", "create_index", "add_column", "add_enum_value"
]
QualifiedName = Annotated[str, StringConstraints(pattern=r"^[^.\s]+\.[^.\s]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Section):
    """How much at once."""

    auto_rows_per_operation: Annotated[int, Field(ge=0)] = 5
    auto_rows_per_plan: Annotated[int, Field(ge=0)] = 15
    approval_rows_per_operation: Annotated[int, Field(ge=0)] = 6000
    operations_per_plan: Annotated[int, Field(ge=1)] = 50
    statement_bytes: Annotated[int, Field(ge=1, le=65536)] = 65536
    statement_timeout_ms: Annotated[int, Field(ge=1, le=15_000)] = 2000
    """Of a rehearsal; the execution allows the highest value, so that what was rehearsed can be executed."""


class Statements(_Section):
    """Which kinds of statements; what is not named is blocked."""

    auto: tuple[StatementKind, ...] = ("select", "explain")
    approval: tuple[StatementKind, ...] = ("insert", "update", "delete", "merge")

    @model_validator(mode="before")
    @classmethod
    def _said(cls, value: Any) -> Any:
        """Who names kinds in one of the lists means the other one to be empty."""
        return {"auto": (), "approval": ()} | value if isinstance(value, dict) and value else value


class TableConstraint(_Section):
    """What may be done with one table."""

    name: QualifiedName
    writes: Verdict | None = None
    """None: as `tables_default` says."""
    protected: bool = False
    """Any write, direct or by cascade, is blocked."""
    trigger_writes: Literal["allowed"] | None = None
    """Rows that triggers write there neither count nor need a person."""
    auto: tuple[StatementKind, ...] = ()
    """Kinds of statements that are lifted to auto for this table."""


class ColumnClass(StrEnum):
    """How sensitive a column is."""

    SECRET = "secret"  # noqa: S105 - a class of columns, not a secret
    PII = "pii"
    MONEY = "money"


class ColumnConstraint(_Section):
    """How sensitive one column is."""

    table: QualifiedName
    name: str
    column_class: Annotated[ColumnClass, Field(alias="class")]


class ValueConstraint(_Section):
    """A number that needs more care above a limit."""

    table: QualifiedName
    column: str
    above: Annotated[float, Field(allow_inf_nan=False)]
    verdict: Verdict = Verdict.APPROVAL


class Functions(_Section):
    """Functions by `schema.name` or `schema.*`; built-in immutable and stable ones are auto."""

    auto: tuple[QualifiedName, ...] = ()
    approval: tuple[QualifiedName, ...] = ()
    block: tuple[QualifiedName, ...] = ()


class Freeze(_Section):
    """A time in which writes need more care."""

    start: Annotated[datetime, Field(alias="from")]
    end: Annotated[datetime, Field(alias="to")]
    verdict: Literal[Verdict.APPROVAL, Verdict.BLOCK] = Verdict.APPROVAL
    reason: str = ""

    @field_validator("start", "end", mode="before")
    @classmethod
    def _iso(cls, value: Any) -> Any:
        """Take times without a zone as UTC; YAML turns some of them into dates and times by itself."""
        if isinstance(value, date) and not isinstance(value, datetime):
            value = value.isoformat()
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value

    @model_validator(mode="after")
    def _in_order(self) -> "Freeze":
        if self.end <= self.start:
            msg = f"ends at {self.end} before it begins at {self.start}"
            raise ValueError(msg)
        return self


class Quorum(_Section):
    """How many different people must approve."""

    approval: Annotated[int, Field(ge=1)] = 1
    critical: Annotated[int, Field(ge=1)] = 2
    """For plans that delete rows in tables which their statements don't name."""


class Constraints(_Section):
    """The constraints file. What it doesn't allow is not automatic."""

    version: Literal[1]
    target: str
    schemas: tuple[str, ...] = ("public",)
    tables_default: Verdict = Verdict.APPROVAL
    limits: Limits = Limits()
    statements: Statements = Statements()
    tables: tuple[TableConstraint, ...] = ()
    columns: tuple[ColumnConstraint, ...] = ()
    values: tuple[ValueConstraint, ...] = ()
    functions: Functions = Functions()
    freezes: tuple[Freeze, ...] = ()
    quorum: Quorum = Quorum()

    @model_validator(mode="after")
    def _unambiguous(self) -> "Constraints":
        both = set(self.statements.auto) & set(self.statements.approval)
        if both:
            msg = f"statements.auto and statements.approval both name {', '.join(sorted(both))}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _once(self) -> "Constraints":
        names = [table.name for table in self.tables]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            msg = f"tables are named twice: {', '.join(sorted(twice))}"
            raise ValueError(msg)
        return self

    def table(self, name: str) -> TableConstraint:
        """Return what holds for `schema.table`."""
        return next((table for table in self.tables if table.name == name), TableConstraint(name=name))

    def writes(self, name: str) -> Verdict:
        """Return the verdict on writes to `schema.table`."""
        table = self.table(name)
        return Verdict.BLOCK if table.protected else table.writes or self.tables_default


def default_constraints(target: str, schemas: Sequence[str]) -> Constraints:
    """Return the strict document of a target that has none: reading is automatic, every write needs a person."""
    return Constraints(version=1, target=target, schemas=tuple(schemas))


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice: YAML would let the second one win, and drop what the first one protects."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for position, (key, _) in enumerate(node.value):
            if any(earlier.value == key.value for earlier, _ in node.value[:position]):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} occurs twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def parse_constraints(text: str, *, source: str) -> Constraints:
    """Return the constraints in a YAML document.

    Raises:
        InvalidInput: naming source, place, value and what was expected.
    """
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise InvalidInput(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return Constraints.model_validate(document)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or '(whole)'}: {e['msg']}, got {e['input']!r:.120}" for e in error.errors()
        ]
        raise InvalidInput(f"{source}: {'; '.join(problems)}") from None


def dump_constraints(constraints: Constraints) -> str:
    """Return the YAML document of `constraints`."""
    document = constraints.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"version": 1}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


async def check_against_schema(connection: Connection, constraints: Constraints, *, source: str) -> None:
    """Refuse constraints on tables and columns that the target doesn't have: a typing error must not unprotect.

    Raises:
        InvalidInput: naming source, place and name.
    """
    cursor = await connection.execute(_SQL["missing_schemas"], {"schemas": list(constraints.schemas)})
    if missing := [row["name"] for row in await cursor.fetchall()]:
        raise InvalidInput(f"{source}: the database has no schema {', '.join(map(repr, missing))}")
    cursor = await connection.execute(_SQL["columns"], {"schemas": list(constraints.schemas)})
    known = {row["table"]: row for row in await cursor.fetchall()}
    named: list[tuple[str, str, str | None]] = [(f"tables.{n}", t.name, None) for n, t in enumerate(constraints.tables)]
    named += [(f"columns.{n}", c.table, c.name) for n, c in enumerate(constraints.columns)]
    named += [(f"values.{n}", v.table, v.column) for n, v in enumerate(constraints.values)]
    problems = []
    for place, table, column in named:
        if table not in known:
            problems.append(f"{place}: no table {table!r} in the target's schemas")
        elif known[table]["root"] != table:
            problems.append(f"{place}: table {table!r} is a partition, name {known[table]['root']!r} instead")
        elif column is not None and column not in known[table]["columns"]:
            problems.append(f"{place}: table {table!r} has no column {column!r}")
    if problems:
        raise InvalidInput(f"{source}: {'; '.join(problems)}")


async def read_latest(connection: Connection, target: str, schemas: Sequence[str]) -> Constraints:
    """Return the newest constraints of a target from the control database, the default ones if it has none."""
    cursor = await connection.execute(_SQL["latest"], {"target": target})
    row = await cursor.fetchone()
    if row is None:
        return default_constraints(target, schemas)
    return Constraints.model_validate_json(json.dumps(row["document"]))


async def append(connection: Connection, constraints: Constraints, *, created_by: str, note: str = "") -> int:
    """Store a new version in the control database and return its number; older versions stay."""
    document = constraints.model_dump(mode="json", by_alias=True)
    parameters = {"target": constraints.target, "document": Jsonb(document), "created_by": created_by, "note": note}
    async with connection.transaction():
        await connection.execute(_SQL["lock"], {"target": constraints.target})
        row = await (await connection.execute(_SQL["append"], parameters)).fetchone()
    return int(row["version"]) if row else 0


class Version(Record):
    """One version of a target's constraints in the control database; the newest holds."""

    target: str
    version: int
    created_at: datetime
    created_by: str
    note: str


async def versions(connection: Connection) -> list[Version]:
    """Return all versions, by target, newest first."""
    cursor = await connection.execute(_SQL["versions"])
    return [Version.model_validate(row) for row in await cursor.fetchall()]
