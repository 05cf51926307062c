"""Images of changed rows: what two sessions on one snapshot see of a table, and what only one of them sees."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Self

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

    relid: int
    place: str
    """Its ctid in the table or partition."""
    text: str
    """As PostgreSQL prints its to_jsonb; empty if nobody asked for it."""
    ended: bool = False
    """The transaction has deleted the row, or made a newer version of it."""

    @property
    def ctid(self) -> tuple[int, str]:
        """Where it is."""
        return self.relid, self.place

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

    def __init__(self, change: Connection, observer: Connection, next_xid: int) -> None:
        """`next_xid` is the first transaction id that their snapshot doesn't see."""
        self._change = change
        self._observer = observer
        self._next_xid = next_xid
        self._tables: dict[int, Table] = {}

    @classmethod
    async def on_snapshot(cls, change: Connection, observer: Connection) -> Self:
        """Return a camera for the snapshot that the two sessions share."""
        (row,) = await (await change.execute(_SQL["next_xid"])).fetchall()
        return cls(change, observer, row["next_xid"])

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
        cursor = await self._change.execute(_SQL["tables"], {"relids": unknown}, prepare=True)
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
            outdated, made = await self._versions(table, written.get(table.relid, RowCounts()))
            complete = complete and max(map(len, (outdated, made))) <= MAX_ROWS
            before |= {_key_text(version, table.key): version for version in outdated if version.ended}
            after |= {_key_text(version, table.key): version for version in made}
        return Images(before=before, after=after, complete=complete)

    async def _versions(self, table: Table, written: RowCounts) -> tuple[list[Version], list[Version]]:
        """Return the row versions that are marked, some of them ended by the transaction, and those that it has made.

        Foreign keys leave their mark on every row that is referred to, so a look at all marked rows is a look at whole
        tables. The recent marks will do if they account for all that the counters say; they don't where somebody else
        holds a lock on the same row.
        """
        marked, seen = await self._marked("outdated_lately", table)
        made = await self._new([version for version in seen if version.text], table)
        # Whatever was written is there now, or was ended again by the transaction itself, or has ended what was there.
        if sum(version.ended for version in marked) != written.deleted - written.inserted + len(made):
            marked, _ = await self._marked("outdated", table)
        return marked, made

    async def _marked(self, statement: str, table: Table) -> tuple[list[Version], list[Version]]:
        """Return marked row versions, and what the changing session sees: those that are not ended, and newer ones."""
        marked = await self._ask(self._observer, statement, table)
        seen = await self._ask(self._change, "written", table, outdated=[version.place for version in marked])
        still = {version.place for version in seen if not version.text}
        return [replace(version, ended=version.place not in still) for version in marked], seen

    async def _new(self, versions: list[Version], table: Table) -> list[Version]:
        """Leave out row versions that only look new, since transaction ids have wrapped."""
        if not versions:
            return []
        places = [version.place for version in versions]
        old = {version.place for version in await self._ask(self._observer, "visible", table, ctids=places)}
        return [version for version in versions if version.place not in old]

    async def _ask(self, connection: Connection, statement: str, table: Table, **parameters: Any) -> list[Version]:
        query = sql.SQL(_SQL[statement]).format(table=table.identifier, limit=sql.Literal(MAX_ROWS + 1))
        # Prepared at once: each is run for both rehearsals and for the undo.
        cursor = await connection.execute(query, {"next_xid": self._next_xid, **parameters}, prepare=True)
        rows = await cursor.fetchall()
        return [Version(relid=table.relid, place=row["ctid"], text=row.get("image") or "") for row in rows]


def _number(text: str) -> float | str:
    """Return a number as JSON readers understand it, or as text where that would lose digits."""
    value = float(text)
    return value if Decimal(repr(value)) == Decimal(text) else text


def _key_text(version: Version, key: tuple[str, ...]) -> str:
    image = version.image
    return json.dumps([image[column] for column in key], default=str)
