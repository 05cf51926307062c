"""Rows: those that the ticket names, then those that hang together with them by foreign keys, within bounds."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import AsyncClientCursor, sql
from pydantic_core import to_json

from standfast.context import Rows
from standfast.domain import MASK, MAX_SAFE_INTEGER
from standfast.retrieval.anchors import Anchor
from standfast.store.catalog import Catalog, Relation
from standfast.store.connections import Connection
from standfast.store.sql import statements

MAX_ROWS = 20
"""Of one query."""
MAX_TEXT = 2_000
"""Characters of one value."""
MAX_BYTES = 256 * 1024
"""Of all rows of one context as JSON: they stay in the history and are sent to the model."""
MAX_COLUMNS = 100
"""Of one table; PostgreSQL's own limit for the arguments of a function, which sorts rows that have no key."""
_SECONDS = 15.0  # for all queries of one context: half of what the step may take
_SQL = statements(__package__, "rows.sql")
logger = logging.getLogger(__name__)

_Row = dict[str, Any]
_Found = tuple[Relation, list[_Row]]
Masked = Mapping[str, frozenset[str]]
"""By `schema.table`: columns whose values are used to find rows, and never shown."""


async def read_rows(
    connection: Connection, catalog: Catalog, anchors: Sequence[Anchor], masked: Masked
) -> tuple[Rows, ...]:
    """Return the rows of `anchors`, then their surroundings, each row once.

    From what the ticket names up to its parents and down to its children, and one more step from there. Down from a
    parent only where that leads to a few rows: the customer's other orders belong to the context, all orders with the
    same country don't.
    """
    reader = _Reader(connection, catalog, masked)
    named = [found for anchor in anchors if (found := await reader.named(anchor))]
    above = [parent for found in named for parent in await reader.parents(found)]
    below = [child for found in named for child in await reader.children(found)]
    for found in (*above, *below):
        await reader.parents(found)
    for found in below:
        await reader.children(found)
    for found in above:
        await reader.children(found, only_few=True)
    return tuple(reader.facts)


class _Reader:
    """Reads within the bounds and remembers what it has read."""

    def __init__(self, connection: Connection, catalog: Catalog, masked: Masked) -> None:
        self._connection = connection
        self._catalog = catalog
        self._masked = masked
        self._deadline = asyncio.get_running_loop().time() + _SECONDS
        self._bytes_left = MAX_BYTES
        self._known: set[tuple[str, bytes]] = set()
        self.facts: list[Rows] = []

    async def named(self, anchor: Anchor) -> _Found | None:
        return await self._read(anchor.relation, (anchor.column,), [(anchor.value,)])

    async def parents(self, found: _Found) -> list[_Found]:
        relation, rows = found
        keys = [key for key in self._catalog.foreign_keys if key.child is relation]
        read = [await self._read(key.parent, key.parent_columns, _values(rows, key.columns)) for key in keys]
        return [parent for parent in read if parent]

    async def children(self, found: _Found, *, only_few: bool = False) -> list[_Found]:
        relation, rows = found
        keys = [key for key in self._catalog.foreign_keys if key.parent is relation]
        read = [
            await self._read(key.child, key.columns, _values(rows, key.parent_columns), only_few=only_few)
            for key in keys
        ]
        return [child for child in read if child]

    async def _read(
        self, relation: Relation, key: Sequence[str], values: Sequence[tuple[str, ...]], *, only_few: bool = False
    ) -> _Found | None:
        if not values or self._bytes_left <= 0 or asyncio.get_running_loop().time() > self._deadline:
            return None
        query = _query(relation, key, len(values)).as_bytes(self._connection)
        params = [part for value in values for part in value]
        rows = await self._fetch(query, params)
        if not rows or (only_few and len(rows) > MAX_ROWS):
            return None
        kept = [{name: row[name] for name in relation.column_names if name in row} for row in rows[:MAX_ROWS]]
        hidden = self._masked.get(relation.full_name, frozenset()).intersection(key)
        text = AsyncClientCursor(self._connection).mogrify(query, [MASK] * len(params) if hidden else params)
        self._remember(relation, text, kept, truncated=len(rows) > MAX_ROWS)
        return relation, kept

    async def _fetch(self, query: bytes, params: list[str]) -> list[_Row]:
        """Return no rows where the query has no answer: the value isn't of the column's type, the search is slow..."""
        shortened = _SQL["shortened"].format(rows=query.decode(), longest=MAX_TEXT)
        try:
            async with self._connection.transaction():
                cursor = await self._connection.execute(shortened.encode(), params)
                return [record["row"] for record in await cursor.fetchall()]
        except psycopg.Error as error:
            if self._connection.closed:
                raise
            logger.info("left a query out of a context: %s", error.sqlstate)  # the message may quote the value
            return []

    def _remember(self, relation: Relation, query: str, rows: Sequence[_Row], *, truncated: bool) -> None:
        new: list[_Row] = []
        masked = self._masked.get(relation.full_name, frozenset())
        for row in rows:
            identity = (relation.full_name, _identity(relation, row))
            if identity in self._known:
                continue
            shown = {name: _shown(value, hidden=name in masked) for name, value in row.items()}
            self._bytes_left -= len(to_json(shown))
            if self._bytes_left <= 0:
                truncated = True
                break
            self._known.add(identity)
            new.append(shown)
        if new:
            self.facts.append(Rows(table=relation.full_name, query=query, rows=tuple(new), truncated=truncated))


def _query(relation: Relation, key: Sequence[str], count: int) -> sql.Composed:
    """Return the query for rows whose `key` columns have one of `count` values, newest first."""
    columns = sql.SQL(", ").join(map(sql.Identifier, relation.column_names[:MAX_COLUMNS]))
    value = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(key)))
    readable = set(relation.column_names)
    newest = [sql.SQL("{} DESC NULLS LAST").format(sql.Identifier(c)) for c in relation.time_columns if c in readable]
    if relation.primary_key and set(relation.primary_key) <= readable:
        last = [sql.SQL("{} DESC").format(sql.Identifier(column)) for column in relation.primary_key]
    else:
        last = [sql.SQL("jsonb_build_array({})").format(columns)]
    return sql.SQL(_SQL["rows"]).format(
        columns=columns,
        relation=relation.identifier,
        key=sql.SQL(", ").join(map(sql.Identifier, key)),
        values=sql.SQL(", ").join([value] * count),
        order=sql.SQL(", ").join([*newest[:1], *last]),
        limit=sql.Literal(MAX_ROWS + 1),
    )


def _values(rows: Sequence[_Row], columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the distinct values of `columns`, as text, of the rows that have them all."""
    values = ([row.get(column) for column in columns] for row in rows)
    return list(dict.fromkeys(tuple(map(_as_text, value)) for value in values if None not in value))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()


def _identity(relation: Relation, row: _Row) -> bytes:
    key = {column: row.get(column) for column in relation.primary_key}
    return to_json(key if key and None not in key.values() else row)


def _shown(value: Any, *, hidden: bool) -> Any:
    """Return `value` as every reader of JSON reads it: large integers as text, which a plan may give back as it is."""
    if hidden and value is not None:
        return MASK
    return str(value) if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER else value
