"""Measuring the effect of a plan: every row that it changes, in the transaction that changes them.

Two sessions share one snapshot. One runs the plan; the other, the observer, keeps seeing the rows as they were. Which
tables changed is in the server's own counters of the transaction; which rows, in the row versions themselves: what the
observer sees and the changing session doesn't is a before-image, the other way round an after-image. This holds for
cascades, triggers, rules and functions alike, on PostgreSQL 14 to 18, for unprivileged roles.
"""

import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from psycopg import sql
from psycopg.pq import TransactionStatus

from standfast.errors import ServiceUnavailable
from standfast.plan import Operation, Plan
from standfast.report import RowChange, RowCounts
from standfast.safety.causes import CascadingKey, with_causes
from standfast.safety.effect import Effect, OperationEffect, Print, Row, TableChange
from standfast.safety.images import Camera, Images, Version
from standfast.safety.protocol import run_operation
from standfast.store.connections import Connection
from standfast.store.observing import become_observer, observing
from standfast.store.sql import statements

_SQL = statements(__package__, "measurement.sql")
CHECK_NOW = Operation(sql="SET CONSTRAINTS ALL IMMEDIATE")
"""A deferred constraint must not wait for COMMIT."""

_EXCLUSIVE = "AccessExclusiveLock"
_LOCKS = (  # weakest first
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    _EXCLUSIVE,
)


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
    await become_observer(observer)
    try:
        yield
    finally:
        if not observer.closed:
            await observer.rollback()


@dataclass(frozen=True, kw_only=True)
class _State:
    """What the server says about the transaction so far."""

    counted: Mapping[int, RowCounts]
    """Rows written, by table."""
    locks: Mapping[str, str]
    """The strongest lock on each table."""
    sequences: frozenset[str]

    @property
    def exclusive(self) -> frozenset[str]:
        return frozenset(table for table, mode in self.locks.items() if mode == _EXCLUSIVE)


class Meter:
    """Runs operations on `change` and takes the difference that each makes; use it inside `twin`."""

    def __init__(self, change: Connection, camera: Camera, start: _State) -> None:
        """What the transaction wrote until `start` is left out."""
        self._change = change
        self._camera = camera
        self._images: dict[str, Images] = {}
        self._start = self._state = start  # earlier transactions of the session may be in the counters, too
        self._cascades: tuple[CascadingKey, ...] | None = None

    @classmethod
    async def started(cls, change: Connection, observer: Connection) -> Self:
        """Return a meter for what the transaction does from now on."""
        return cls(change, await Camera.on_snapshot(change, observer), await _read_state(change))

    async def started_again(self) -> Self:
        """Return a meter for a new transaction on the same snapshot."""
        return type(self)(self._change, self._camera, await _read_state(self._change))

    async def run(
        self, operation: Operation, index: int, *, row_limit: int, named: frozenset[str] | None, last: bool
    ) -> tuple[OperationEffect, Print]:
        """Run one operation, and after the `last` one what was deferred; return its effect and its print.

        Rows of other tables than the `named` ones are marked as changed by cascade or trigger.

        Raises:
            OperationRefused: the server refused the operation, or a deferred constraint; the transaction is void then.
            psycopg.Error: the connection was lost, or the rows moved on while a statement ran (SerializationFailure).
        """
        began = time.monotonic()
        await run_operation(self._change, operation, index)
        if last:
            await run_operation(self._change, CHECK_NOW, index)
        seconds = time.monotonic() - began
        async with observing(self._change):
            return await self._measure(row_limit, named, seconds)

    @property
    def changes(self) -> tuple[TableChange, ...]:
        """What the transaction made of the rows of each table; tables that could not be measured are left out."""
        return tuple(
            change
            for root, images in sorted(self._images.items())
            if images.complete and (change := self._change_of(root, images)) is not None
        )

    async def take_again(self, *, besides: frozenset[str]) -> tuple[TableChange, ...] | None:
        """Return the same as `changes`, after something else has run in the transaction.

        None if not all is seen, `besides` tables for which that doesn't matter.
        """
        self._state = await _read_state(self._change)
        async with observing(self._change):
            await self._camera.describe(self._written)
            for root in self._camera.roots:
                self._images[root] = await self._camera.take(root, self._written)
        seen = all(images.complete for root, images in self._images.items() if root not in besides)
        return self.changes if seen else None

    async def references(self, tables: Sequence[str]) -> frozenset[tuple[str, str]]:
        """Return which of `tables` refer to which by foreign keys, as (parent, child)."""
        cursor = await self._change.execute(_SQL["references"], {"tables": list(tables)})
        return frozenset((row["parent"], row["child"]) for row in await cursor.fetchall())

    async def _measure(
        self, row_limit: int, named: frozenset[str] | None, seconds: float
    ) -> tuple[OperationEffect, Print]:
        earlier, self._state = self._state, await _read_state(self._change)
        counted = await self._counted_since(earlier)
        counts, unmeasured = dict(counted), []
        changed: list[_Changed] = []
        for root in sorted(counted):
            was, now = self._images.get(root, Images()), await self._camera.take(root, self._written)
            self._images[root] = now
            if not now.complete:
                unmeasured.append(root)
                continue
            rows = list(_difference(root, self._camera.parts(root)[0].key, was, now))
            counts[root] = _classified([row.change for row in rows], counted[root])
            changed += rows
        locked = tuple(sorted(self._state.exclusive - earlier.exclusive))
        shown = await self._caused([row.change for row in changed], named, unmeasured)
        effect = OperationEffect(
            rows=tuple(shown[:row_limit]),
            counts=counts,
            counted=counted,
            truncated=len(changed) > row_limit or bool(unmeasured),
            unmeasured=tuple(unmeasured),
            locked=locked,
            locks={table: mode for table, mode in self._state.locks.items() if table not in self._start.locks},
            sequences=tuple(sorted(self._state.sequences - earlier.sequences)),
            seconds=seconds,
        )
        before = tuple(sorted(row.old for row in changed if row.change.before is not None))
        after = tuple(row.new for row in changed if row.change.after is not None)
        return effect, Print(counts=counts, locked=locked, before=before, after=after)

    async def _counted_since(self, earlier: _State) -> dict[str, RowCounts]:
        """Return how many writes the server counted in each root table since an earlier state."""
        moved = {relid: _minus(now, earlier.counted.get(relid)) for relid, now in self._state.counted.items()}
        moved = {relid: counts for relid, counts in moved.items() if counts.total}
        await self._camera.describe(moved)
        counted: dict[str, RowCounts] = {}
        for relid, counts in moved.items():
            root = self._camera.table(relid).root
            counted[root] = _sum([counted.get(root, RowCounts()), counts])
        return counted

    async def _caused(
        self, changes: list[RowChange], named: frozenset[str] | None, unmeasured: list[str]
    ) -> list[RowChange]:
        if named is None or named.issuperset(change.table for change in changes):
            return changes
        if self._cascades is None:
            cursor = await self._change.execute(_SQL["cascades"])
            self._cascades = tuple(
                CascadingKey(
                    parent=row["parent"],
                    parent_columns=tuple(row["parent_columns"]),
                    child=row["child"],
                    child_columns=tuple(row["child_columns"]),
                )
                for row in await cursor.fetchall()
            )
        return with_causes(changes, named=named, keys=self._cascades, unmeasured=unmeasured)

    def _change_of(self, root: str, images: Images) -> TableChange | None:
        before = {name: version.text for name, version in images.before.items()}
        after = {name: version.text for name, version in images.after.items()}
        same = {name for name, text in before.items() if after.get(name) == text}
        if len(same) == len(before) == len(after):
            return None
        parts = self._camera.parts(root)
        counted = _sum(self._written.get(part.relid, RowCounts()) for part in parts)
        table = parts[0]
        only_before, only_after = before.keys() - after.keys(), after.keys() - before.keys()
        return TableChange(
            schema=table.root_schema,
            name=table.root_name,
            key=table.key,
            columns=table.columns,
            before={name: text for name, text in before.items() if name not in same},
            after={name: text for name, text in after.items() if name not in same},
            rekeyed=len(only_before) == len(only_after) == 1 and not counted.inserted and not counted.deleted,
        )

    @property
    def _written(self) -> dict[int, RowCounts]:
        """Rows written since the start, by table."""
        since = {relid: _minus(now, self._start.counted.get(relid)) for relid, now in self._state.counted.items()}
        return {relid: counts for relid, counts in since.items() if counts.total}


async def apply(
    plan: Plan,
    meter: Meter,
    *,
    row_limit: int,
    targets: Sequence[frozenset[str]] | None = None,
    volatile: frozenset[str] = frozenset(),
) -> Effect:
    """Run the plan by a `meter` that was started, and return what it did. Neither commits nor rolls back.

    `targets` are the tables that each statement names as the ones it writes; rows of other tables are marked as changed
    by cascade or trigger. Without it all rows are marked as changed by the statement. `volatile` are the columns whose
    new values the fingerprint leaves out, see `volatile_columns`.

    Raises:
        OperationRefused: the server refused an operation, or a deferred constraint; the transaction is void then.
        psycopg.Error: the connection was lost, or the rows moved on while a statement ran (SerializationFailure).
    """
    measured = [
        await meter.run(
            operation,
            index,
            row_limit=row_limit,
            named=targets[index] if targets is not None else None,
            last=index == len(plan.operations) - 1,
        )
        for index, operation in enumerate(plan.operations)
    ]
    return Effect(
        operations=tuple(effect for effect, _ in measured),
        prints=tuple(print_ for _, print_ in measured),
        volatile=volatile,
        changes=meter.changes,
    )


async def _read_state(change: Connection) -> _State:
    row = await _one(change, "state")
    locks: dict[str, str] = {}
    for name, kind, mode in row["locks"]:
        if kind != "S":
            locks[name] = max(mode, locks.get(name, mode), key=_LOCKS.index)
    return _State(
        counted={
            relid: RowCounts(inserted=inserted, updated=updated, deleted=deleted)
            for relid, inserted, updated, deleted in row["counters"]
        },
        locks=locks,
        sequences=frozenset(name for name, kind, _ in row["locks"] if kind == "S"),
    )


async def _one(connection: Connection, statement: str) -> Row:
    row = await (await connection.execute(_SQL[statement], prepare=True)).fetchone()
    if row is None:
        msg = f"{statement} returned no row"
        raise RuntimeError(msg)
    return row


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


@dataclass(frozen=True, kw_only=True)
class _Changed:
    """One row that an operation changed, and what its print says about it."""

    change: RowChange
    existed: str
    """The key of a row that was there before the plan; empty otherwise, as such a key may come from a sequence."""
    image: str
    """The row as others left it; empty if the plan itself had made or changed it: that is in an earlier print."""

    @property
    def old(self) -> str:
        return f"{self.change.table} {self.existed} {self.image}"

    @property
    def new(self) -> tuple[str, str, Row]:
        return self.change.table, self.existed, self.change.after or {}


def _difference(table: str, key: tuple[str, ...], was: Images, now: Images) -> Iterable[_Changed]:
    """Yield each row that changed between two states of a transaction."""
    for name in sorted({*was.before, *was.after, *now.before, *now.after}):
        # A row that the transaction had not touched yet was as the observer sees it.
        touched = name in was.before or name in was.after
        old = was.after.get(name) if touched else now.before.get(name)
        new = now.after.get(name)
        if (old and old.ctid) == (new and new.ctid):
            continue
        columns = _columns(old, new)
        change = RowChange(table=table, key=dict(zip(key, json.loads(name), strict=True)), via="statement", **columns)
        existed = name if name in now.before else ""
        yield _Changed(change=change, existed=existed, image=old.text if old and not touched else "")


def _columns(old: Version | None, new: Version | None) -> dict[str, dict[str, Any] | None]:
    """Return the changed columns of an updated row, all columns of any other."""
    before, after = old.image if old else None, new.image if new else None
    if before is None or after is None:
        return {"before": before, "after": after}
    changed = [column for column in after if column not in before or before[column] != after[column]]
    return {"before": {c: before.get(c) for c in changed}, "after": {c: after[c] for c in changed}}


def _classified(changes: list[RowChange], by_counter: RowCounts) -> RowCounts:
    """Count rows by their images; a changed key looks like a deletion and an insertion, the counter knows better."""
    inserted = sum(change.before is None for change in changes)
    deleted = sum(change.after is None for change in changes)
    rekeyed = max(0, min(by_counter.updated, inserted - by_counter.inserted, deleted - by_counter.deleted))
    return RowCounts(
        inserted=inserted - rekeyed, updated=len(changes) - inserted - deleted + rekeyed, deleted=deleted - rekeyed
    )
