"""The self-test: hostile statements, made for a target's own schema, and what stops each of them there.

Two locks are tried. The first one is the way of every plan: parser, rules, and a rehearsal that is rolled back. The
second one is the role alone, as if no rule existed. Nothing that a rollback wouldn't take back is ever run.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

import yaml
from psycopg import sql
from pydantic import BaseModel, ConfigDict

from standfast.domain import Record
from standfast.plan import Operation, Plan
from standfast.report import Finding, Verdict
from standfast.safety.constraints import ColumnClass, Constraints
from standfast.safety.grammar.parsing import parse_statement
from standfast.safety.grammar.statement import StatementRefused
from standfast.safety.protocol import OperationRefused, run_operation
from standfast.safety.resolution import resolve
from standfast.safety.rules import Case
from standfast.safety.validation import Circumstances, Twins, assess, judge_statement
from standfast.store.connections import Connection
from standfast.store.roles import Access, open_access
from standfast.store.sql import statements

PARSER, SERVER, PRIVILEGE, REHEARSAL = "parser", "server (protocol)", "privilege (role)", "rehearsal"
_SQL = statements(__package__, "self_test.sql")
_FORBIDDEN, _SYNTAX = "42501", "42601"  # SQLSTATE: insufficient_privilege, syntax_error
_SQLSTATE = re.compile(r"\((\w{5})\)$")
_Names = Mapping[str, sql.Composable]


class _Template(BaseModel):
    """A hostile statement before it knows the target's names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    sql: str
    escapes: bool = False
    right: str | None = None


class Attempt(Record):
    """One hostile statement, and what stopped it."""

    kind: str
    sql: str
    stopped_by: str | None
    """The first layer that did: `parser`, `rule ID`, `server (protocol)`, `privilege (role)` or `rehearsal`."""
    verdict: Verdict
    """`approval` if it was stopped until a person decides."""
    message: str
    stopped_by_role: bool
    """Whether the role, and the protocol it is spoken to by, would have stopped it with no rule before them."""


@dataclass(frozen=True, kw_only=True)
class _Hostile:
    template: _Template
    names: _Names

    def text(self, connection: Connection) -> str:
        return sql.SQL(self.template.sql).format(**self.names).as_string(connection)


async def self_test(target: str, constraints: Constraints, twins: Callable[[], Twins]) -> list[Attempt]:
    """Return what stopped each statement. `twins` opens two connections to the target, as the rehearser.

    Raises:
        ServiceUnavailable: the target's rows are locked by others.
        psycopg.Error: the connection was lost.
    """
    circumstances = Circumstances(target=target, constraints=constraints, ground=None, now=datetime.now(UTC))
    async with twins() as (connection, _):
        hostile = list(await _hostile(connection, constraints))
        await connection.rollback()
    return [await _attempt(statement, circumstances, twins) for statement in hostile]


async def _attempt(hostile: _Hostile, circumstances: Circumstances, twins: Callable[[], Twins]) -> Attempt:
    template = hostile.template
    async with twins() as (connection, _):
        text = hostile.text(connection)
        by_role = not await _allowed(connection, hostile, text)
        layer, finding = await _judged(connection, text, circumstances)
    settled = finding is not None and finding.verdict is Verdict.BLOCK
    if not settled and not template.escapes:
        layer, finding = await _rehearsed(text, circumstances, twins) or (layer, finding)
    if finding is None and by_role and template.escapes:
        layer, finding = PRIVILEGE, Finding(rule="", verdict=Verdict.BLOCK, message="the role may not do it")
    return Attempt(
        kind=template.kind,
        sql=text,
        stopped_by=layer,
        verdict=finding.verdict if finding else Verdict.AUTO,
        message=finding.message if finding else "nothing stopped it",
        stopped_by_role=by_role,
    )


async def _judged(connection: Connection, text: str, circumstances: Circumstances) -> tuple[str | None, Finding | None]:
    """Return what parser and rules have against the text of a statement; nothing is run."""
    constraints = circumstances.constraints
    try:
        statement = parse_statement(text, max_bytes=constraints.limits.statement_bytes)
    except StatementRefused as refused:
        return PARSER, Finding(rule=refused.rule, verdict=Verdict.BLOCK, message=refused.message)
    resolution = await resolve(connection, [statement])
    await connection.rollback()
    case = Case(
        operation=Operation(sql=text),
        statement=statement,
        resolution=resolution,
        constraints=constraints,
        now=circumstances.now,
    )
    finding = _worst(await judge_statement(case))
    return (f"rule {finding.rule}" if finding else None), finding


async def _rehearsed(text: str, circumstances: Circumstances, twins: Callable[[], Twins]) -> tuple[str, Finding] | None:
    """Return what a rehearsal, which is rolled back, adds to what the text gave away."""
    assessment = await assess(Plan(operations=(Operation(sql=text),)), circumstances, twins)
    finding = _worst(assessment.report.all_findings)
    if finding is None or finding.verdict is not Verdict.BLOCK:
        return None if finding is None else (f"rule {finding.rule}", finding)
    state = _SQLSTATE.search(finding.message)
    if finding.rule != "operation.refused" or state is None:
        return REHEARSAL, finding
    return {_FORBIDDEN: PRIVILEGE, _SYNTAX: SERVER}.get(state[1], REHEARSAL), finding


def _worst(findings: Sequence[Finding]) -> Finding | None:
    worst = Verdict.worst(finding.verdict for finding in findings)
    found = (finding for finding in findings if finding.verdict is worst)
    return None if worst is Verdict.AUTO else next(found)


async def _allowed(connection: Connection, hostile: _Hostile, text: str) -> bool:
    """Tell whether the role alone would let the statement pass; nothing of it is run."""
    right = hostile.template.right
    try:
        if right is not None:
            row = await (await connection.execute(sql.SQL(right).format(**hostile.names))).fetchone() or {}
            return bool(next(iter(row.values())))
        await connection.execute(_SQL["bounds"])
        await run_operation(connection, Operation(sql=f"EXPLAIN {text}"), 0)
    except OperationRefused:
        return False
    finally:
        await connection.rollback()
    return True


async def _hostile(connection: Connection, constraints: Constraints) -> Iterator[_Hostile]:
    document = yaml.safe_load(files(__package__).joinpath("self_test.yaml").read_text("utf-8"))
    templates = {place: [_Template.model_validate(t) for t in listed] for place, listed in document.items()}
    accesses = await open_access(connection, constraints.schemas)
    tables = {access.full_name: access for access in accesses if access.observed and access.columns}
    places: dict[str, list[_Names]] = {
        "secret": [
            _column(tables[column.table], column.name)
            for column in constraints.columns
            if column.column_class is ColumnClass.SECRET and column.table in tables
        ],
        "protected": [_column(tables[t.name]) for t in constraints.tables if t.protected and t.name in tables],
        "table": await _table(connection, constraints, list(tables.values())),
        "sequence": [],
        "always": [{}],
    }
    sequence = await (await connection.execute(_SQL["sequence"], {"schemas": list(constraints.schemas)})).fetchone()
    if sequence is not None:
        places["sequence"] = [{"sequence_name": _quoted(sequence["schema"], sequence["name"])}]
    return (
        _Hostile(template=template, names=names)
        for place, listed in templates.items()
        for names in places[place]
        for template in listed
    )


async def _table(connection: Connection, constraints: Constraints, tables: Sequence[Access]) -> list[_Names]:
    """Return the names of a table that plans may write, if there is one."""
    for table in sorted(tables, key=lambda table: constraints.writes(table.full_name) is not Verdict.AUTO):
        if constraints.writes(table.full_name) is not Verdict.BLOCK:
            row = (
                await (await connection.execute(_SQL["owner"], {"schema": table.schema, "name": table.name})).fetchone()
                or {}
            )
            owner = {"owner": sql.Identifier(row["owner"]), "owner_name": sql.Literal(row["owner"])}
            return [{**_column(table), **owner}]
    return []


def _column(table: Access, column: str | None = None) -> _Names:
    name = column if column in table.columns else table.columns[0]
    aliases = [f"c{number}" for number in range(len(table.columns))]
    query = sql.SQL("SELECT {} FROM {}").format(sql.Identifier(name), sql.Identifier(table.schema, table.name))
    return {
        "query": sql.Literal(query.as_string()),
        "table": sql.Identifier(table.schema, table.name),
        "table_name": _quoted(table.schema, table.name),
        "column": sql.Identifier(name),
        "column_name": sql.Literal(name),
        "alias": sql.Identifier(aliases[table.columns.index(name)]),
        "aliases": sql.SQL(", ").join(map(sql.Identifier, aliases)),
    }


def _quoted(*parts: str) -> sql.Literal:
    """Return a qualified name as text that the server reads as that name, whatever is in it."""
    return sql.Literal(".".join('"' + part.replace('"', '""') + '"' for part in parts))
