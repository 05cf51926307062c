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

from standfast.context import Column, Table
from standfast.domain import Record
from standfast.settings import Settings
from standfast.store.connections import Connection, Databases, Role
from standfast.store.sql import statements

MAX_ROWS = 20
MAX_BYTES = 16 * 1024
"""Of one answer; answers stay in the conversation and are sent with every later request."""
MAX_TEXT = 500
"""Characters of one value."""
_READ_ONLY: tuple[LiteralString, ...] = (
    "SET TRANSACTION READ ONLY",
    "SET LOCAL statement_timeout = '5s'",  # a search through a huge table is the model's mistake, not worth more
)
_SQL = statements("standfast.planner", "tools.sql")

Scalar = str | int | float | bool | None
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class Scope(Record):
    """What a planner run hands to its tools; copied into every activity."""

    target: str


class Found(Record):
    """Rows that a tool found."""

    rows: tuple[dict[str, JsonValue], ...]
    more: bool = False
    """True if more rows matched than are shown."""


class _Relation(Record):
    schema_name: str
    table: Table
    text_columns: tuple[str, ...]

    @property
    def source(self) -> sql.Composed:
        """SELECT list and FROM clause over the readable columns."""
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.table.columns)
        name = self.table.name.removeprefix(f"{self.schema_name}.")
        return sql.SQL("SELECT {} FROM {}").format(columns, sql.Identifier(self.schema_name, name))


class DatabaseTools:
    """The tools of one worker."""

    def __init__(self, databases: Databases, settings: Settings) -> None:
        self._databases = databases
        self._settings = settings

    def toolset(self) -> FunctionToolset[Scope]:
        """Return the tools; the id stands in the names of their activities."""
        return FunctionToolset([self.describe_table, self.look_up_rows, self.search_rows], id="database")

    async def describe_table(self, ctx: RunContext[Scope], table: str) -> Table:
        """Describe a table: columns, types, enum labels, primary key, foreign keys.

        Args:
            ctx: The run.
            table: Name of the table, with or without its schema.
        """
        async with self._reading(ctx.deps) as connection:
            return (await self._relation(connection, ctx.deps, table)).table

    async def look_up_rows(
        self, ctx: RunContext[Scope], table: str, equals: dict[str, Scalar], limit: Limit = MAX_ROWS
    ) -> Found:
        """Look up rows by the values of some columns.

        Args:
            ctx: The run.
            table: Name of the table, with or without its schema.
            equals: Column name -> value; all have to match. null matches rows without a value.
            limit: At most this many rows.
        """
        async with self._reading(ctx.deps) as connection:
            relation = await self._relation(connection, ctx.deps, table)
            _check_columns(relation.table, equals)
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
                limit,
            )

    async def search_rows(self, ctx: RunContext[Scope], table: str, text: str, limit: Limit = 10) -> Found:
        """Find rows that contain a text in any text column, such as earlier tickets in a support history.

        Args:
            ctx: The run.
            table: Name of the table, with or without its schema.
            text: What to look for; upper and lower case are the same.
            limit: At most this many rows.
        """
        if not text.strip():
            raise ModelRetry("text is empty; say what to look for")
        async with self._reading(ctx.deps) as connection:
            relation = await self._relation(connection, ctx.deps, table)
            if not relation.text_columns:
                raise ModelRetry(f"{relation.table.name} has no text columns; use look_up_rows")
            contains = [
                sql.SQL("strpos(lower({}), lower(%s)) > 0").format(sql.Identifier(c)) for c in relation.text_columns
            ]
            return await _find(connection, relation, sql.SQL(" OR ").join(contains), [text] * len(contains), limit)

    @asynccontextmanager
    async def _reading(self, scope: Scope) -> AsyncIterator[Connection]:
        """A read-only transaction; what the model did wrong goes back to the model."""
        async with self._databases.target(scope.target, Role.READER) as connection:
            for statement in _READ_ONLY:
                await connection.execute(statement)
            try:
                yield connection
            except QueryCanceled:
                raise ModelRetry("the search took too long; look rows up by an indexed column") from None
            except (psycopg.DataError, psycopg.ProgrammingError) as error:
                raise ModelRetry(f"the database refused: {error.diag.message_primary}") from error

    async def _relation(self, connection: Connection, scope: Scope, table: str) -> _Relation:
        schemas = list(self._settings.target(scope.target).schemas)
        cursor = await connection.execute(_SQL["relations"], {"schemas": schemas})
        relations = await cursor.fetchall()
        found = next((r for r in relations if table in (r["name"], r["full_name"])), None)
        if found is None:
            raise ModelRetry(
                f"there is no table {table!r:.200}; there are: {_listed(r['full_name'] for r in relations)}"
            )
        cursor = await connection.execute(_SQL["columns"], found)
        columns = await cursor.fetchall()
        return _Relation(
            schema_name=found["schema"],
            table=Table(
                name=found["full_name"],
                comment=found["comment"],
                primary_key=tuple(c["name"] for c in columns if c["is_key"]),
                columns=tuple(Column.model_validate(c) for c in columns),
            ),
            text_columns=tuple(c["name"] for c in columns if c["is_text"]),
        )


async def _find(
    connection: Connection, relation: _Relation, condition: sql.Composable, values: list[str], limit: int
) -> Found:
    query = sql.SQL("SELECT to_jsonb(r) AS row FROM ({} WHERE {} LIMIT %s) r").format(relation.source, condition)
    cursor = await connection.execute(query, [*values, limit + 1])
    rows = [_shortened(record["row"]) for record in await cursor.fetchall()]
    kept = rows[:limit]
    while len(kept) > 1 and len(to_json(kept)) > MAX_BYTES:
        kept.pop()
    return Found(rows=tuple(kept), more=len(kept) < len(rows))


def _check_columns(table: Table, names: Iterable[str]) -> None:
    known = [column.name for column in table.columns]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ModelRetry(f"{table.name} has no column {unknown[0]!r:.200}; it has: {_listed(known)}")


def _literal(value: str | float) -> str:
    """Return the text that PostgreSQL reads as the column's own type."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shortened(row: Mapping[str, Any]) -> dict[str, JsonValue]:
    return {name: _short(value) for name, value in row.items()}


def _short(value: JsonValue) -> JsonValue:
    text = value if isinstance(value, str) else to_json(value).decode()
    return value if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


def _listed(names: Iterable[str], most: int = 100) -> str:
    shown = list(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
