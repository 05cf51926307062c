"""Whether constraints fit the target: what they name has to be there."""

from collections.abc import Collection, Iterator

from standfast.decision import fits
from standfast.errors import InvalidInput
from standfast.safety.constraints import Constraints
from standfast.safety.rules import RULES
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "schema_check.sql")


async def check_against_schema(connection: Connection, constraints: Constraints, *, source: str) -> None:
    """Refuse constraints on tables and columns that the target doesn't have: a typing error must not unprotect.

    Raises:
        InvalidInput: naming source, place and name.
    """
    starred = [table.name.removesuffix(".*") for table in constraints.tables if table.name.endswith(".*")]
    schemas = [*constraints.schemas, *starred]
    cursor = await connection.execute(_SQL["missing_schemas"], {"schemas": schemas})
    if missing := [row["name"] for row in await cursor.fetchall()]:
        raise InvalidInput(f"{source}: the database has no schema {', '.join(map(repr, missing))}")
    cursor = await connection.execute(_SQL["columns"], {"schemas": list(constraints.schemas)})
    known = {row["table"]: row for row in await cursor.fetchall()}
    problems = list(_fitting_nothing(constraints, known))
    for place, table, column in _named(constraints):
        if table not in known:
            problems.append(f"{place}: no table {table!r} in the target's schemas")
        elif known[table]["root"] != table:
            problems.append(f"{place}: table {table!r} is a partition, name {known[table]['root']!r} instead")
        elif column is not None and column not in known[table]["columns"]:
            problems.append(f"{place}: table {table!r} has no column {column!r}")
    if problems:
        raise InvalidInput(f"{source}: {'; '.join(problems)}")


def _fitting_nothing(constraints: Constraints, tables: Collection[str]) -> Iterator[str]:
    """Yield the patterns of approvers' scopes that fit no table or no rule of all."""
    rules = [rule.id for rule in RULES]
    for place, scope in enumerate(constraints.approvers):
        for what, patterns, known in (("table", scope.tables, tables), ("rule", scope.rules, rules)):
            for pattern in patterns:
                if not any(fits(name, [pattern]) for name in known):
                    yield f"approvers.{place}.{what}s: {pattern!r} fits no {what}"


def _named(constraints: Constraints) -> Iterator[tuple[str, str, str | None]]:
    """Yield place, table and column of all that the constraints name."""
    yield from ((f"tables.{n}", t.name, None) for n, t in enumerate(constraints.tables) if not t.name.endswith(".*"))
    yield from ((f"columns.{n}", c.table, c.name) for n, c in enumerate(constraints.columns))
    yield from ((f"values.{n}", v.table, v.column) for n, v in enumerate(constraints.values))
    yield from ((f"predicates.{n}", p.table, c) for n, p in enumerate(constraints.predicates) for c in p.columns)
