"""The agent's read-only tools. They see what the reader role may read of the ticket's target, a few rows at a time."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.errors import QueryCanceled
from pydantic import Field, JsonValue
from pydantic_ai import FunctionToolset, ModelRetry, RunContext
from pydantic_core import to_json

from standfast.context import Table
from standfast.domain import MASK, MAX_SAFE_INTEGER, Record
from standfast.store.catalog import Catalog, Relation, read_catalog
from standfast.store.connections import Connection
from standfast.store.databases import Databases, Role

MAX_ROWS = 20
MAX_BYTES = 16 * 1024
"""Of one answer; answers stay in the conversation and are sent with every later request."""
MAX_TEXT = 500
"""Characters of one value."""
_READ_ONLY: tuple[LiteralString, ...] = (
    "SET TRANSACTION READ ONLY",
    "SET LOCAL statement_timeout = '5s'",  # a search through a huge table is the model's mistake, not worth more
)
_TEXT_TYPES = ("text", "character", "citext", "name")

Scalar = str | int | float | bool | None
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class ToolDeps(Record):
    """What a planner run hands to its tools; copied into every activity."""

    target: str
    masked: tuple[str, ...] = ()
    """Columns, `schema.table.column`, whose values the model doesn't see."""

    def masks(self, relation: Relation) -> frozenset[str]:
        """Return the masked columns of a relation."""
        return frozenset(name for name in relation.column_names if f"{relation.full_name}.{name}" in self.masked)


class Found(Record):
    """Rows that a tool found."""

    rows: tuple[dict[str, JsonValue], ...]
    more: bool = False
    """True if more rows matched than are shown."""


class DatabaseTools:
    """The tools of one worker."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def toolset(self) -> FunctionToolset[ToolDeps]:
        """Return the tools; the id stands in the names of their activities."""
        return FunctionToolset([self.describe_table, self.look_up_rows, self.search_rows], id="database")

    async def describe_table(self, ctx: RunContext[ToolDeps], table: str) -> Table:
        """Describe a table: columns, types, enum labels, primary key, foreign keys.

        Args:
            ctx: The run.
            table: Name of the table, with or without its schema.
        """
        async with self._reading(ctx.deps) as (_, catalog):
            return catalog.table(_relation(catalog, table))

    async def look_up_rows(
        self, ctx: RunContext[ToolDeps], table: str, equals: dict[str, Scalar], limit: Limit = MAX_ROWS
    ) -> Found:
        """Look up rows by the values of some columns.

        Args:
            ctx: The run.
            table: Name of the table, with or without its schema.
            equals: Column name -> value; all have to match. null matches rows without a value.
            limit: At most this many rows.
        """
        async with self._reading(ctx.deps) as (connection, catalog):
            relation = _relation(catalog, table)
            _check_columns(relation, equals)
            conditions = [
                sql.SQL("{} IS NULL" if value is None else "{} = %s").format(sql.Identifier(name))
                for name, value in equals.items()
            ]
            values = [_literal(value) for value in equals.values() if value is not None]
            return await _find(
                connection,
                relation,
                sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true"),
                values,
                limit=limit,
                masked=ctx.deps.masks(relation),
            )

    async def search_rows(self, ctx: RunContext[ToolDeps], table: str, text: str, limit: Limit = 10) -> Found:
        """Find rows that contain a text in any text column, such as earlier tickets in a support history.

        Args:
            ctx: The run.
            table: Name of the table, with or without its schema.
            text: What to look for; upper and lower case are the same.
            limit: At most this many rows.
        """
        if not text.strip():
            raise ModelRetry("text is empty; say what to look for")
        async with self._reading(ctx.deps) as (connection, catalog):
            relation = _relation(catalog, table)
            masked = ctx.deps.masks(relation)  # a search would tell what is in them, letter by letter
            texts = [column.name for column in relation.columns if column.type.startswith(_TEXT_TYPES)]
            columns = [name for name in texts if name not in masked]
            if not columns:
                raise ModelRetry(f"{relation.full_name} has no text columns; use look_up_rows")
            contains = [sql.SQL("strpos(lower({}), lower(%s)) > 0").format(sql.Identifier(name)) for name in columns]
            values = [text] * len(contains)
            return await _find(connection, relation, sql.SQL(" OR ").join(contains), values, limit=limit, masked=masked)

    @asynccontextmanager
    async def _reading(self, deps: ToolDeps) -> AsyncIterator[tuple[Connection, Catalog]]:
        """A read-only transaction and the catalog in it; what the model did wrong goes back to the model."""
        async with self._databases.target(deps.target, Role.READER) as connection:
            for statement in _READ_ONLY:
                await connection.execute(statement)
            try:
                yield connection, await read_catalog(connection, self._databases.schemas(deps.target))
            except QueryCanceled:
                raise ModelRetry("the search took too long; look rows up by an indexed column") from None
            except (psycopg.DataError, psycopg.ProgrammingError) as error:
                raise ModelRetry(f"the database refused: {error.diag.message_primary}") from error


async def _find(
    connection: Connection,
    relation: Relation,
    condition: sql.Composable,
    values: list[str],
    *,
    limit: int,
    masked: frozenset[str],
) -> Found:
    query = sql.SQL("SELECT to_jsonb(r) AS row FROM (SELECT {} FROM {} WHERE {} LIMIT %s) r").format(
        sql.SQL(", ").join(map(sql.Identifier, relation.column_names)), relation.identifier, condition
    )
    cursor = await connection.execute(query, [*values, limit + 1])
    rows = [_shown(record["row"], masked) for record in await cursor.fetchall()]
    kept = rows[:limit]
    while len(kept) > 1 and len(to_json(kept)) > MAX_BYTES:
        kept.pop()
    return Found(rows=tuple(kept), more=len(kept) < len(rows))


def _relation(catalog: Catalog, name: str) -> Relation:
    for relation in catalog.relations:
        if name in (relation.name, relation.full_name):
            return relation
    known = _listed(relation.full_name for relation in catalog.relations)
    raise ModelRetry(f"there is no table {name!r:.200}; there are: {known}")


def _check_columns(relation: Relation, names: Iterable[str]) -> None:
    unknown = [name for name in names if name not in relation.column_names]
    if unknown:
        known = _listed(relation.column_names)
        raise ModelRetry(f"{relation.full_name} has no column {unknown[0]!r:.200}; it has: {known}")


def _literal(value: str | float) -> str:
    """Return the text that PostgreSQL reads as the column's own type."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(row: Mapping[str, Any], masked: frozenset[str]) -> dict[str, JsonValue]:
    return {name: MASK if name in masked and value is not None else _short(value) for name, value in row.items()}


def _short(value: JsonValue) -> JsonValue:
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        return str(value)  # as a plan has to write it
    text = value if isinstance(value, str) else to_json(value).decode()
    return value if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


def _listed(names: Iterable[str], most: int = 100) -> str:
    shown = list(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
