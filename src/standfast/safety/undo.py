"""Undo: what takes a plan back, proved in the transaction in which the plan was rehearsed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import product

from standfast.plan import Operation
from standfast.report import Undo, UndoStep
from standfast.safety.compensation import Irreversible, cells, compensation
from standfast.safety.effect import Effect, TableChange
from standfast.safety.measurement import CHECK_NOW, Meter
from standfast.safety.protocol import OperationRefused, run_operation
from standfast.store.connections import Connection

_ORDERS: tuple[tuple[UndoStep, ...], ...] = (
    (UndoStep.INSERT, UndoStep.UPDATE, UndoStep.DELETE),  # what is referred to comes first and goes last
    (UndoStep.UPDATE, UndoStep.DELETE, UndoStep.INSERT),  # where new rows hold what has to be unique
    (UndoStep.DELETE, UndoStep.INSERT, UndoStep.UPDATE),
)
_NO_RIGHT = "42501"


async def prove(
    effect: Effect, meter: Meter, change: Connection, *, kept: frozenset[str], hidden: frozenset[str]
) -> tuple[Undo, bool]:
    """Look for operations that take a plan back, right after it ran, and tell whether they were proved.

    Proved means: they ran in the same transaction, and then each row was as before the plan, but for new values of
    clocks and sequences and for rows of `kept` tables, where triggers alone write. What ran here is rolled back. Values
    of `hidden` columns are masked in what is returned.

    Raises:
        psycopg.Error: the connection was lost, or the server was too slow.
    """
    if not any(counts.total for operation in effect.operations for counts in operation.counts.values()):
        return Undo(), True
    unmeasured = sorted({table for operation in effect.operations for table in operation.unmeasured} - kept)
    if unmeasured:
        return Undo(remarks=(f"the rows of {', '.join(unmeasured)} could not be measured",)), False
    if locked := sorted({table for operation in effect.operations for table in operation.locked}):
        return Undo(remarks=(f"what was in {', '.join(locked)} is not known",)), False
    references = await meter.references([change.table for change in effect.changes])
    reasons: dict[str, bool] = {}
    for left, order in product(_left(effect, kept), _ORDERS):
        make = partial(compensation, effect.changes, left=left, order=order, references=references)
        try:
            differing = await _differing_after(make(), kept, meter, change)
            remarks = _remarks(effect, kept.intersection(left), differing)
        except Irreversible as reason:
            reasons[str(reason)] = reason.forbidden
        else:
            return Undo(operations=make(hidden=hidden), order=order, left=left, remarks=remarks), True
    return Undo(remarks=tuple(reasons), forbidden=all(reasons.values())), False


def _left(effect: Effect, kept: frozenset[str]) -> Iterator[tuple[str, ...]]:
    """Yield which tables may be left alone: first those that triggers put in order again, then only the kept ones."""
    causes: dict[str, set[str]] = {}
    for operation in effect.operations:
        for row in operation.rows:
            causes.setdefault(row.table, set()).add(row.via)
    by_trigger = {table for table, via in causes.items() if via == {"trigger"}}
    yield tuple(sorted(by_trigger | kept & causes.keys()))
    if by_trigger - kept:
        yield tuple(sorted(kept & causes.keys()))


async def _differing_after(
    operations: tuple[Operation, ...], kept: frozenset[str], meter: Meter, change: Connection
) -> frozenset[str]:
    """Run an undo and take it back; return the columns in which rows would not be what they were.

    Raises:
        Irreversible: the server refuses it, or rows would be missing or be too many.
    """
    await change.execute("SAVEPOINT undo")
    try:
        for index, operation in enumerate((*operations, CHECK_NOW)):
            await run_operation(change, operation, index)
        changes = await meter.take_again(besides=kept)
    except OperationRefused as refused:
        message = f"the server refuses to put rows back: {refused.message}"
        raise Irreversible(message, forbidden=refused.sqlstate == _NO_RIGHT) from None
    finally:
        await change.rollback_to("undo")
    if changes is None:
        raise Irreversible("what the undo does could not be measured")
    return frozenset(_differing(changes, kept))


def _differing(changes: Iterable[TableChange], kept: frozenset[str]) -> Iterator[str]:
    for change in changes:
        if change.table in kept:
            continue
        for name in change.before.keys() | change.after.keys():
            if name not in change.before or name not in change.after:
                raise Irreversible(f"row {name} of {change.table} would not be as it was")
            before, after = cells(change.before[name]), cells(change.after[name])
            yield from (f"{change.table}.{column}" for column in before if before[column] != after.get(column))


def _remarks(effect: Effect, kept: frozenset[str], differing: frozenset[str]) -> tuple[str, ...]:
    if others := sorted(differing - effect.volatile):
        raise Irreversible(f"{', '.join(others)} would not be as before")
    remarks = [f"{table} is left to its triggers, which write there again" for table in sorted(kept)]
    remarks += [f"{column} gets a new value" for column in sorted(differing)]
    sequences = sorted({name for operation in effect.operations for name in operation.sequences})
    return (*remarks, *(f"values of {sequence} stay used up" for sequence in sequences))


def rows_digest(rows: Iterable[tuple[str, Mapping[str, str]]]) -> str:
    """Return the SHA-256 over rows by table and key: what an undo must find when it comes."""
    lines = sorted(f"{table} {name} {text}" for table, by_key in rows for name, text in by_key.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
