"""Constraints: what a target allows, as its owners wrote it down."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from standfast.documents import read_yaml
from standfast.domain import Submission
from standfast.errors import InvalidInput
from standfast.report import Verdict
from standfast.safety.people import ApproverScope, Condition
from standfast.safety.schedule import Freeze, Window

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


class Limits(Submission):
    """How much at once."""

    auto_rows_per_operation: Annotated[int, Field(ge=0)] = 5
    auto_rows_per_plan: Annotated[int, Field(ge=0)] = 15
    approval_rows_per_operation: Annotated[int, Field(ge=0)] = 6000
    operations_per_plan: Annotated[int, Field(ge=1)] = 50
    statement_bytes: Annotated[int, Field(ge=1, le=65536)] = 65536
    statement_timeout_ms: Annotated[int, Field(ge=1, le=15_000)] = 2000
    """Of a rehearsal; the execution allows the highest value, so that what was rehearsed can be executed."""


class Statements(Submission):
    """Which kinds of statements; what is not named is blocked."""

    auto: tuple[StatementKind, ...] = ("select", "explain")
    approval: tuple[StatementKind, ...] = ("insert", "update", "delete", "merge")

    @model_validator(mode="before")
    @classmethod
    def _said(cls, value: Any) -> Any:
        """Who names kinds in one of the lists means the other one to be empty."""
        return {"auto": (), "approval": ()} | value if isinstance(value, dict) and value else value


class TableConstraint(Submission):
    """What may be done with one table, or with all tables of a schema that have no entry of their own."""

    name: QualifiedName
    """`schema.table`, or `schema.*`."""
    writes: Verdict | None = None
    """None: as `tables_default` says."""
    protected: bool = False
    """Any write, direct or by cascade, is blocked. A protected `schema.*` protects tables with own entries, too."""
    trigger_writes: Literal["allowed"] | None = None
    """Rows that triggers write there neither count nor need a person."""
    auto: tuple[StatementKind, ...] = ()
    """Kinds of statements that are lifted to auto for this table."""
    approval: tuple[StatementKind, ...] = ()
    """Kinds that need a person here. `select` is every statement that names the table, or a view on it, anywhere but as
    what it writes; rows that cascades and triggers insert, update or delete count as those kinds."""
    block: tuple[StatementKind, ...] = ()
    """Kinds that are blocked here; the same rules."""
    auto_rows_per_operation: Annotated[int, Field(ge=0)] | None = None
    """Instead of the target's limit: rows of this table count against this one alone."""
    approval_rows_per_operation: Annotated[int, Field(ge=0)] | None = None
    """Beside the target's limit, which holds for the rows of all tables together and can't be exceeded."""

    @model_validator(mode="after")
    def _unambiguous(self) -> "TableConstraint":
        named = [kind for kinds in (self.auto, self.approval, self.block) for kind in set(kinds)]
        if twice := {kind for kind in named if named.count(kind) > 1}:
            msg = f"auto, approval and block name {', '.join(sorted(twice))} twice"
            raise ValueError(msg)
        return self


class ColumnClass(StrEnum):
    """How sensitive a column is."""

    SECRET = "secret"  # noqa: S105 - a class of columns, not a secret
    PII = "pii"
    MONEY = "money"


class ColumnConstraint(Submission):
    """How sensitive one column is, or that it is protected."""

    table: QualifiedName
    name: str
    protected: bool = False
    """Never written: no UPDATE sets it, no INSERT gives it a value, no cascade or trigger changes it. A new row has its
    default, and a row may be deleted as a whole."""
    column_class: Annotated[ColumnClass | None, Field(alias="class")] = None

    @model_validator(mode="after")
    def _says_something(self) -> "ColumnConstraint":
        if self.column_class is None and not self.protected:
            msg = "class is required, unless the column is protected"
            raise ValueError(msg)
        return self


Number = Annotated[float, Field(allow_inf_nan=False)]


class ValueConstraint(Submission):
    """A number that needs more care outside of its limits, in each row that changes, whatever changes it."""

    table: QualifiedName
    column: str
    above: Number | None = None
    """The new value is greater."""
    below: Number | None = None
    """The new value is less."""
    change_above: Annotated[Number, Field(ge=0)] | None = None
    """The difference between old and new value is greater, up or down. NULL and what isn't there count as 0: the
    difference of a new row is its value, and so is that of a deleted one."""
    verdict: Verdict = Verdict.APPROVAL

    @model_validator(mode="after")
    def _limits(self) -> "ValueConstraint":
        if self.above is None and self.below is None and self.change_above is None:
            msg = "one of above, below and change_above is required"
            raise ValueError(msg)
        return self


class Predicate(Submission):
    """Columns that each write to a table must hold to one given value each: a tenant's key.

    An UPDATE, a DELETE and the part of an ON CONFLICT or MERGE that does one must say `column = value`, joined by AND,
    in its own condition; an INSERT must name the column and give it a value. A value is a literal or a parameter. Who
    writes through a view can't show it. Reading is not restricted. Else the write is blocked, and the agent may mend
    it.
    """

    table: QualifiedName
    columns: Annotated[tuple[str, ...], Field(min_length=1)]


class Functions(Submission):
    """Functions by `schema.name` or `schema.*`; built-in immutable and stable ones are auto."""

    auto: tuple[QualifiedName, ...] = ()
    approval: tuple[QualifiedName, ...] = ()
    block: tuple[QualifiedName, ...] = ()


class Quorum(Submission):
    """How many different people must approve."""

    approval: Annotated[int, Field(ge=1)] = 1
    critical: Annotated[int, Field(ge=1)] = 2
    """For plans that delete rows in tables which their statements don't name."""


class Constraints(Submission):
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
    predicates: tuple[Predicate, ...] = ()
    functions: Functions = Functions()
    freezes: tuple[Freeze, ...] = ()
    windows: tuple[Window, ...] = ()
    conditions: tuple[Condition, ...] = ()
    quorum: Quorum = Quorum()
    approvers: tuple[ApproverScope, ...] = ()

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

    @model_validator(mode="after")
    def _seen(self) -> "Constraints":
        most = self.limits.approval_rows_per_operation
        for place, table in enumerate(self.tables):
            rows = table.approval_rows_per_operation
            if rows is not None and rows > most:
                msg = f"tables.{place}.approval_rows_per_operation: {rows} is above the limit of all tables, {most}"
                raise ValueError(msg)
        return self

    def table(self, name: str) -> TableConstraint:
        """Return what holds for `schema.table`: its own entry, or else that of its schema."""
        entries = {table.name: table for table in self.tables}
        return entries.get(name) or entries.get(_schema(name)) or TableConstraint(name=name)

    def protected(self, name: str) -> bool:
        """Tell whether `schema.table` is protected, or its schema."""
        return any(table.protected for table in self.tables if table.name in (name, _schema(name)))

    def writes(self, name: str) -> Verdict:
        """Return the verdict on writes to `schema.table`."""
        return Verdict.BLOCK if self.protected(name) else self.table(name).writes or self.tables_default


def _schema(table: str) -> str:
    return f"{table.partition('.')[0]}.*"


def default_constraints(target: str, schemas: Sequence[str]) -> Constraints:
    """Return the strict document of a target that has none: reading is automatic, every write needs a person."""
    return Constraints(version=1, target=target, schemas=tuple(schemas))


def parse_constraints(text: str, *, source: str) -> Constraints:
    """Return the constraints in a YAML document.

    Raises:
        InvalidInput: naming source, place, value and what was expected.
    """
    return validate_constraints(read_yaml(text, source=source), source=source)


def validate_constraints(document: Any, *, source: str) -> Constraints:
    """Return the constraints that a document is, once YAML or JSON is read.

    Raises:
        InvalidInput: naming source, place, value and what was expected.
    """
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
    if "statements" in document:  # whole: a list that is left out means an empty one there
        document["statements"] = constraints.statements.model_dump(mode="json")
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
