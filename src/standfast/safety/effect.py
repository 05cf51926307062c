"""The effect of a plan: every row that it changes, measured in the transaction that changes them.

Two sessions share one snapshot. One runs the plan; the other, the observer, keeps seeing the rows as they were. Which
tables changed is in the server's own counters of the transaction; which rows, in the row versions themselves: what the
observer sees and the changing session doesn't is a before-image, the other way round an after-image. This holds for
cascades, triggers, rules and functions alike, on PostgreSQL 14 to 18, for unprivileged roles.
"""

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.pq import TransactionStatus

from standfast.domain import canonical_json
from standfast.errors import ServiceUnavailable
from standfast.plan import Operation, Plan
from standfast.report import RowChange, RowCounts
from standfast.safety.protocol import run_operation
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "effect.sql")
MAX_TABLE_BYTES = 512 * 2**20
"""Images need two scans of a changed table; larger tables are only counted."""
MAX_ROWS = 20_000
"""Rows of one table and operation whose images are taken; beyond it they are only counted."""

Row = Mapping[str, Any]
_NO_ROWS = RowCounts()
_CHECK_NOW = Operation(sql="SET CONSTRAINTS ALL IMMEDIATE")  # a deferred constraint must not wait for COMMIT


@dataclass(frozen=True, kw_only=True)
class OperationEffect:
    """What one operation changed."""

    rows: tuple[RowChange, ...] = ()
    """At most `row_limit` rows."""
    counts: Mapping[str, RowCounts] = field(default_factory=dict)
    """All rows, by `schema.table`."""
    truncated: bool = False
    unmeasured: tuple[str, ...] = ()
    """Tables that were counted only: too large, too many rows, not readable, or without a primary key."""
    locked: tuple[str, ...] = ()
    """Tables that are now locked against everybody, as TRUNCATE does, which escapes the counters."""


@dataclass(frozen=True, kw_only=True)
class Print:
    """What tells one effect of an operation from another."""

    counts: Mapping[str, RowCounts]
    locked: tuple[str, ...]
    before: tuple[str, ...]
    """Key and image of each row that was there before, as PostgreSQL prints them."""
    after: tuple[tuple[str, str, Row], ...]
    """Table, key and new values of each row that is there now. The key is empty for a new row."""

    def canonical(self, volatile: frozenset[str]) -> bytes:
        """Return the canonical form, without the new values of `volatile` columns."""
        after = [
            json.dumps(
                [table, key, {c: v for c, v in values.items() if f"{table}.{c}" not in volatile}], sort_keys=True
            )
            for table, key, values in self.after
        ]
        counts = {table: count.model_dump() for table, count in self.counts.items()}
        return canonical_json({"counts": counts, "locked": self.locked, "before": self.before, "after": sorted(after)})


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a plan changed."""

    operations: tuple[OperationEffect, ...]
    prints: tuple[Print, ...]
    volatile: frozenset[str] = frozenset()
    """Columns, `schema.table.column`, whose new values differ each time the plan runs: sequences, clocks."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all rows before and after and their counts, without the new values of volatile columns."""
        digest = hashlib.sha256(canonical_json(sorted(self.volatile)))
        for print_ in self.prints:
            digest.update(hashlib.sha256(print_.canonical(self.volatile)).digest())
        return digest.hexdigest()


def volatile_columns(first: Effect, second: Effect) -> frozenset[str]:
    """Return the columns whose new values differ between two runs of a plan on the same snapshot.

    Values of new rows are compared as a whole: their keys may come from a sequence, and tell nothing.
    """
    columns: set[str] = set()
    for one, other in zip(first.prints, second.prints, strict=True):
        values, others = _new_values(one), _new_values(other)
        columns |= {place for place, _ in (values - others) + (others - values)}
    return frozenset(columns)


def _new_values(print_: Print) -> Counter[tuple[str, str]]:
    return Counter(
        (f"{table}.{column}", json.dumps([key, value], sort_keys=True))
        for table, key, values in print_.after
        for column, value in values.items()
    )


@dataclass(frozen=True, kw_only=True)
class _Table:
    relid: int
    name: sql.Identifier
    root: str
    key: tuple[str, ...]
    readable: bool
    """False if its rows are too many for images, or not all of them can be seen."""


@dataclass(frozen=True, kw_only=True)
class _Version:
    """One row version."""

    ctid: str
    text: str
    """As PostgreSQL prints its to_jsonb."""

    @property
    def image(self) -> dict[str, Any]:
        image: dict[str, Any] = json.loads(self.text, parse_float=_number)
        return image


@dataclass(frozen=True, kw_only=True)
class _Images:
    """All rows of one root table that the transaction has changed so far, by key."""

    before: Mapping[str, _Version]
    after: Mapping[str, _Version]
    complete: bool


async def begin_again(change: Connection, observer: Connection) -> None:
    """Roll `change` back and begin a new transaction on the snapshot of the old one, inside `twin`."""
    await change.rollback()
    shared = await _one(observer, "share")
    await change.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await change.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(shared["snapshot"])))


@asynccontextmanager
async def twin(change: Connection, observer: Connection) -> AsyncIterator[None]:
    """Let `observer` see the database as it was when `change`'s transaction began.

    Begins the transaction of `change` (REPEATABLE READ) if there is none. The observer's is rolled back at the end.

    Raises:
        ServiceUnavailable: the server doesn't count rows (track_counts is off).
        ValueError: a transaction of another isolation level is open.
    """
    if change.info.transaction_status is TransactionStatus.IDLE:
        await change.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    exported = await _one(change, "export")
    if exported["isolation"] != "repeatable read":
        msg = f"the transaction's isolation level is {exported['isolation']}, expected repeatable read"
        raise ValueError(msg)
    if exported["counting"] != "on":
        raise ServiceUnavailable("track_counts is off on this server; effects can't be measured without it")
    await observer.rollback()
    await observer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await observer.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(exported["snapshot"])))
    try:
        yield
    finally:
        if not observer.closed:
            await observer.rollback()


async def apply(
    plan: Plan,
    change: Connection,
    observer: Connection,
    *,
    row_limit: int,
    targets: Sequence[frozenset[str]] | None = None,
    volatile: frozenset[str] = frozenset(),
) -> Effect:
    """Run the plan on `change`, inside `twin`, and return what it did. Neither commits nor rolls back.

    `targets` are the tables that each statement names as the ones it writes; rows of other tables are marked as changed
    by cascade or trigger. Without it all rows are marked as changed by the statement. `volatile` are the columns whose
    new values the fingerprint leaves out, see `volatile_columns`.

    Raises:
        OperationRefused: the server refused an operation, or a deferred constraint; the transaction is void then.
        psycopg.Error: the connection was lost, or the rows moved on while a statement ran (SerializationFailure).
    """
    meter = _Meter(change, observer)
    await meter.start()
    effects: list[OperationEffect] = []
    prints: list[Print] = []
    for index, operation in enumerate(plan.operations):
        await run_operation(change, operation, index)
        if index == len(plan.operations) - 1:
            await run_operation(change, _CHECK_NOW, index)
        named = targets[index] if targets is not None else None
        effect, print_ = await meter.measure(row_limit, named)
        effects.append(effect)
        prints.append(print_)
    return Effect(operations=tuple(effects), prints=tuple(prints), volatile=volatile)


class _Meter:
    """Takes the difference that each operation makes."""

    def __init__(self, change: Connection, observer: Connection) -> None:
        self._change = change
        self._observer = observer
        self._next_xid = 0
        self._counted_before: dict[int, RowCounts] = {}
        self._counted: dict[int, RowCounts] = {}
        self._images: dict[str, _Images] = {}
        self._tables: dict[int, _Table] = {}
        self._locked: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Leave out what the transaction wrote before the plan, and remember which transactions its snapshot sees."""
        self._next_xid = (await _one(self._change, "next_xid"))["next_xid"]
        # Earlier transactions of the session may be in the counters, too.
        self._counted = self._counted_before = await self._counters()
        self._locked = await self._exclusive()

    async def measure(self, row_limit: int, named: frozenset[str] | None) -> tuple[OperationEffect, Print]:
        """Return what changed since the last call, and its print."""
        counted = await self._counters()
        moved = {relid: _minus(now, self._counted.get(relid)) for relid, now in counted.items()}
        self._counted = counted
        moved = {relid: counts for relid, counts in moved.items() if counts.total}
        await self._describe(moved)
        changes: list[RowChange] = []
        counts: dict[str, RowCounts] = {}
        unmeasured: list[str] = []
        before_texts: list[str] = []
        after: list[tuple[str, str, Row]] = []
        for root in sorted({self._tables[relid].root for relid in moved}):
            by_counter = _sum(moved[relid] for relid in moved if self._tables[relid].root == root)
            before = self._images.get(root, _Images(before={}, after={}, complete=True))
            now = await self._take(root)
            self._images[root] = now
            if not now.complete:
                unmeasured.append(root)
                counts[root] = by_counter
                continue
            rows = list(_difference(root, self._key(root), before, now))
            counts[root] = _classified(rows, by_counter)
            changes += [change for change, _ in rows]
            before_texts += sorted(text for _, text in rows if text)
            after += [_new(change) for change, _ in rows if change.after is not None]
        via = await self._via(counts, named)
        before_it, self._locked = self._locked, await self._exclusive()
        locked = tuple(sorted(self._locked - before_it))
        shown = tuple(change.model_copy(update={"via": via[change.table]}) for change in changes[:row_limit])
        effect = OperationEffect(
            rows=shown,
            counts=counts,
            truncated=len(changes) > row_limit or bool(unmeasured),
            unmeasured=tuple(unmeasured),
            locked=locked,
        )
        return effect, Print(counts=counts, locked=locked, before=tuple(before_texts), after=tuple(after))

    def _key(self, root: str) -> tuple[str, ...]:
        return next(table.key for table in self._tables.values() if table.root == root)

    async def _counters(self) -> dict[int, RowCounts]:
        cursor = await self._change.execute(_SQL["counters"])
        return {
            row["relid"]: RowCounts(inserted=row["inserted"], updated=row["updated"], deleted=row["deleted"])
            for row in await cursor.fetchall()
        }

    async def _exclusive(self) -> frozenset[str]:
        cursor = await self._change.execute(_SQL["exclusive"])
        return frozenset(row["root"] for row in await cursor.fetchall())

    async def _describe(self, relids: Iterable[int]) -> None:
        unknown = [relid for relid in relids if relid not in self._tables]
        if not unknown:
            return
        cursor = await self._change.execute(_SQL["tables"], {"relids": unknown})
        for row in await cursor.fetchall():
            self._tables[row["relid"]] = _Table(
                relid=row["relid"],
                name=sql.Identifier(row["schema"], row["name"]),
                root=row["root"],
                key=tuple(row["key"]),
                readable=row["readable"] and row["bytes"] <= MAX_TABLE_BYTES,
            )

    async def _take(self, root: str) -> _Images:
        """Take the images of all rows of `root` that the transaction has changed so far."""
        before: dict[str, _Version] = {}
        after: dict[str, _Version] = {}
        complete = True
        for table in [t for t in self._tables.values() if t.root == root]:
            if not table.readable or not table.key:
                complete = False
                continue
            outdated, ended = await self._outdated(table)
            written = await self._versions(self._change, "written", table, next_xid=self._next_xid)
            old = await self._visible(self._observer, table, written)
            complete = complete and max(len(outdated), len(written)) <= MAX_ROWS
            before |= {_key_text(v, table.key): v for v in ended}
            after |= {_key_text(v, table.key): v for v in written if v.ctid not in old}
        return _Images(before=before, after=after, complete=complete)

    async def _outdated(self, table: _Table) -> tuple[list[_Version], list[_Version]]:
        """Return the row versions that were looked at, and those among them that the transaction has ended.

        Foreign keys leave their mark on every row that is referred to, so a look at all marked rows is a look at whole
        tables. The recent marks will do if they account for all that the counters say; they don't where somebody else
        holds a lock on the same row, or where a row was changed twice.
        """
        counted = _minus(self._counted.get(table.relid, _NO_ROWS), self._counted_before.get(table.relid))
        for statement in ("outdated_lately", "outdated"):
            outdated = await self._versions(self._observer, statement, table, next_xid=self._next_xid)
            still = await self._visible(self._change, table, outdated)
            ended = [version for version in outdated if version.ctid not in still]
            if len(ended) == counted.updated + counted.deleted:
                break
        return outdated, ended

    async def _versions(
        self, connection: Connection, statement: str, table: _Table, **parameters: int
    ) -> list[_Version]:
        query = sql.SQL(_SQL[statement]).format(table=table.name, limit=sql.Literal(MAX_ROWS + 1))
        cursor = await connection.execute(query, parameters)
        return [_Version(ctid=f"{table.relid}{row['ctid']}", text=row["image"]) for row in await cursor.fetchall()]

    async def _visible(self, connection: Connection, table: _Table, versions: list[_Version]) -> frozenset[str]:
        if not versions:
            return frozenset()
        ctids = [version.ctid.removeprefix(str(table.relid)) for version in versions]
        cursor = await connection.execute(sql.SQL(_SQL["visible"]).format(table=table.name), {"ctids": ctids})
        return frozenset(f"{table.relid}{row['ctid']}" for row in await cursor.fetchall())

    async def _via(self, tables: Iterable[str], named: frozenset[str] | None) -> dict[str, str]:
        """Tell what changed each table: a cascade, if foreign keys lead there from a table that the statement names."""
        if named is None or named.issuperset(tables):
            return dict.fromkeys(tables, "statement")
        cursor = await self._change.execute(_SQL["cascades"])
        children: dict[str, set[str]] = {}
        for row in await cursor.fetchall():
            children.setdefault(row["parent"], set()).add(row["child"])
        reached, pending = set(named), list(named)
        while pending:
            new = children.get(pending.pop(), set()) - reached
            reached |= new
            pending += new
        return {
            table: "statement" if table in named else "cascade" if table in reached else "trigger" for table in tables
        }


async def _one(connection: Connection, statement: str) -> Row:
    row = await (await connection.execute(_SQL[statement])).fetchone()
    if row is None:
        msg = f"{statement} returned no row"
        raise RuntimeError(msg)
    return row


def _number(text: str) -> float | str:
    """Return a number as JSON readers understand it, or as text where that would lose digits."""
    value = float(text)
    return value if Decimal(repr(value)) == Decimal(text) else text


def _key_text(version: _Version, key: tuple[str, ...]) -> str:
    image = version.image
    return json.dumps([image[column] for column in key], default=str)


def _minus(now: RowCounts, before: RowCounts | None) -> RowCounts:
    if before is None:
        return now
    return RowCounts(
        inserted=now.inserted - before.inserted,
        updated=now.updated - before.updated,
        deleted=now.deleted - before.deleted,
    )


def _sum(counts: Iterable[RowCounts]) -> RowCounts:
    inserted = updated = deleted = 0
    for count in counts:
        inserted, updated, deleted = inserted + count.inserted, updated + count.updated, deleted + count.deleted
    return RowCounts(inserted=inserted, updated=updated, deleted=deleted)


def _difference(table: str, key: tuple[str, ...], was: _Images, now: _Images) -> Iterable[tuple[RowChange, str | None]]:
    """Yield each row that changed between two states of a transaction, and its text before, None for a new row."""
    for name in sorted({*was.before, *was.after, *now.before, *now.after}):
        # A row that the transaction had not touched yet was as the observer sees it.
        old = was.after.get(name) if name in was.before or name in was.after else now.before.get(name)
        new = now.after.get(name)
        if (old and old.ctid) == (new and new.ctid):
            continue
        change = RowChange(
            table=table, key=dict(zip(key, json.loads(name), strict=True)), via="statement", **_columns(old, new)
        )
        yield change, f"{name} {old.text}" if old else None


def _columns(old: _Version | None, new: _Version | None) -> dict[str, dict[str, Any] | None]:
    """Return the changed columns of an updated row, all columns of any other."""
    before, after = old.image if old else None, new.image if new else None
    if before is None or after is None:
        return {"before": before, "after": after}
    changed = [column for column in after if column not in before or before[column] != after[column]]
    return {"before": {c: before.get(c) for c in changed}, "after": {c: after[c] for c in changed}}


def _new(change: RowChange) -> tuple[str, str, Row]:
    key = json.dumps(list(change.key.values())) if change.before is not None else ""
    return change.table, key, change.after or {}


def _classified(rows: list[tuple[RowChange, str | None]], by_counter: RowCounts) -> RowCounts:
    """Count rows by their images; a changed key looks like a deletion and an insertion, the counter knows better."""
    inserted = sum(change.before is None for change, _ in rows)
    deleted = sum(change.after is None for change, _ in rows)
    rekeyed = max(0, min(by_counter.updated, inserted - by_counter.inserted, deleted - by_counter.deleted))
    return RowCounts(
        inserted=inserted - rekeyed, updated=len(rows) - inserted - deleted + rekeyed, deleted=deleted - rekeyed
    )
