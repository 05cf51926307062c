"""Images of changed rows: what two sessions on one snapshot see of a table, and what only one of them sees."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from psycopg import sql

from standfast.report import RowCounts
from standfast.safety.effect import Column
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "images.sql")
MAX_TABLE_BYTES = 512 * 2**20
"""Images need two scans of a changed table; larger tables are only counted."""
MAX_ROWS = 20_000
"""Rows of one table and operation whose images are taken; beyond it they are only counted."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that was written to, or a partition of one."""

    relid: int
    identifier: sql.Identifier
    root_schema: str
    root_name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    readable: bool
    """False if its rows are too many for images, or not all of them can be seen."""

    @property
    def root(self) -> str:
        """`schema.name` of the table that it is a part of, else of itself."""
        return f"{self.root_schema}.{self.root_name}"


@dataclass(frozen=True, kw_only=True)
class Version:
    """One row version."""

    ctid: str
    text: str
    """As PostgreSQL prints its to_jsonb."""

    @property
    def image(self) -> dict[str, Any]:
        """The row by column; numbers that JSON readers would not keep are texts."""
        image: dict[str, Any] = json.loads(self.text, parse_float=_number)
        return image


@dataclass(frozen=True, kw_only=True)
class Images:
    """All rows of one root table that the transaction has changed so far, by key."""

    before: Mapping[str, Version] = field(default_factory=dict)
    after: Mapping[str, Version] = field(default_factory=dict)
    complete: bool = True


class Camera:
    """Takes the images of all rows that `change`'s transaction has changed, with the help of an `observer`."""

    def __init__(self, change: Connection, observer: Connection) -> None:
        self._change = change
        self._observer = observer
        self._next_xid = 0
        self._tables: dict[int, Table] = {}

    async def start(self) -> None:
        """Remember which transactions the snapshot sees."""
        cursor = await self._change.execute(_SQL["next_xid"])
        (row,) = await cursor.fetchall()
        self._next_xid = row["next_xid"]

    @property
    def roots(self) -> frozenset[str]:
        """The tables that are known by now, by the names of their roots."""
        return frozenset(table.root for table in self._tables.values())

    def table(self, relid: int) -> Table:
        """Return a table that was described."""
        return self._tables[relid]

    def parts(self, root: str) -> list[Table]:
        """Return the table with that name, or those of its partitions that were described."""
        return [table for table in self._tables.values() if table.root == root]

    async def describe(self, relids: Iterable[int]) -> None:
        """Look up names, keys and columns of tables."""
        unknown = [relid for relid in relids if relid not in self._tables]
        if not unknown:
            return
        cursor = await self._change.execute(_SQL["tables"], {"relids": unknown})
        for row in await cursor.fetchall():
            self._tables[row["relid"]] = Table(
                relid=row["relid"],
                identifier=sql.Identifier(row["schema"], row["name"]),
                root_schema=row["root_schema"],
                root_name=row["root_name"],
                key=tuple(row["key"]),
                columns=tuple(Column(**column) for column in row["columns"]),
                readable=row["readable"] and row["bytes"] <= MAX_TABLE_BYTES,
            )

    async def take(self, root: str, written: Mapping[int, RowCounts]) -> Images:
        """Return the images of all rows of `root` that the transaction has changed so far; it has `written` so many."""
        before: dict[str, Version] = {}
        after: dict[str, Version] = {}
        complete = True
        for table in self.parts(root):
            if not table.readable or not table.key:
                complete = False
                continue
            outdated, ended = await self._outdated(table, written.get(table.relid, RowCounts()))
            new = await self._versions(self._change, "written", table)
            old = await self._visible(self._observer, table, new)
            complete = complete and max(len(outdated), len(new)) <= MAX_ROWS
            before |= {_key_text(v, table.key): v for v in ended}
            after |= {_key_text(v, table.key): v for v in new if v.ctid not in old}
        return Images(before=before, after=after, complete=complete)

    async def _outdated(self, table: Table, written: RowCounts) -> tuple[list[Version], list[Version]]:
        """Return the row versions that were looked at, and those among them that the transaction has ended.

        Foreign keys leave their mark on every row that is referred to, so a look at all marked rows is a look at whole
        tables. The recent marks will do if they account for all that the counters say; they don't where somebody else
        holds a lock on the same row, or where a row was changed twice.
        """
        for statement in ("outdated_lately", "outdated"):
            outdated = await self._versions(self._observer, statement, table)
            still = await self._visible(self._change, table, outdated)
            ended = [version for version in outdated if version.ctid not in still]
            if len(ended) == written.updated + written.deleted:
                break
        return outdated, ended

    async def _versions(self, connection: Connection, statement: str, table: Table) -> list[Version]:
        query = sql.SQL(_SQL[statement]).format(table=table.identifier, limit=sql.Literal(MAX_ROWS + 1))
        cursor = await connection.execute(query, {"next_xid": self._next_xid})
        return [Version(ctid=f"{table.relid}{row['ctid']}", text=row["image"]) for row in await cursor.fetchall()]

    async def _visible(self, connection: Connection, table: Table, versions: list[Version]) -> frozenset[str]:
        if not versions:
            return frozenset()
        ctids = [version.ctid.removeprefix(str(table.relid)) for version in versions]
        cursor = await connection.execute(sql.SQL(_SQL["visible"]).format(table=table.identifier), {"ctids": ctids})
        return frozenset(f"{table.relid}{row['ctid']}" for row in await cursor.fetchall())


def _number(text: str) -> float | str:
    """Return a number as JSON readers understand it, or as text where that would lose digits."""
    value = float(text)
    return value if Decimal(repr(value)) == Decimal(text) else text


def _key_text(version: Version, key: tuple[str, ...]) -> str:
    image = version.image
    return json.dumps([image[column] for column in key], default=str)
