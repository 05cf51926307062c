"""Row changes as tables for people: one table for each way in which rows of one table change."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from standfast.domain import MASK
from standfast.outcome import Execution
from standfast.plan import Operation, Plan
from standfast.report import OperationReport, RowChange, SafetyReport


class Kind(StrEnum):
    """What happens to a row."""

    UPDATED = "updated"
    INSERTED = "inserted"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One column of one row."""

    before: Any = None
    after: Any = None
    changed: bool = False
    """False in an updated row for a column that keeps its value."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One changed row: its primary key, and a cell for each column of its table."""

    key: dict[str, Any]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class RowTable:
    """Rows of one database table that change in the same way for the same reason."""

    kind: Kind
    name: str
    via: str
    """`statement`, `cascade` or `trigger`."""
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    masked: frozenset[str] = frozenset()
    """Columns whose values nobody is shown."""
    volatile: frozenset[str] = frozenset()
    """Columns whose new values will be others when the plan runs: of sequences and clocks."""


@dataclass(frozen=True, kw_only=True)
class OperationChanges:
    """One operation of a plan beside what the report says about it."""

    number: int
    """From 1."""
    operation: Operation
    report: OperationReport | None
    tables: tuple[RowTable, ...]

    @property
    def rows_shown(self) -> int:
        """How many rows the tables show..."""
        return sum(len(table.rows) for table in self.tables)

    @property
    def rows_changed(self) -> int:
        """...of how many that really change."""
        return sum(count.total for count in self.report.counts.values()) if self.report else 0


def operation_changes(plan: Plan, report: SafetyReport | None) -> tuple[OperationChanges, ...]:
    """Return the operations in the order in which they run."""
    reports = {o.index: o for o in report.operations} if report else {}
    return tuple(
        OperationChanges(
            number=index + 1,
            operation=operation,
            report=reports.get(index),
            tables=row_tables(reports[index].rows, report.volatile) if report and index in reports else (),
        )
        for index, operation in enumerate(plan.operations)
    )


def row_tables(changes: Iterable[RowChange], volatile: Iterable[str] = ()) -> tuple[RowTable, ...]:
    """Return the rows grouped by table, kind and cause: the statement's own first, each in the order of its first row.

    `volatile` are columns as `schema.table.column`.
    """
    groups: dict[tuple[Kind, str, str], list[RowChange]] = {}
    for change in changes:
        groups.setdefault((_kind(change), change.table, change.via), []).append(change)
    tables = (_row_table(*key, group, frozenset(volatile)) for key, group in groups.items())
    return tuple(sorted(tables, key=lambda table: table.via != "statement"))


def _kind(change: RowChange) -> Kind:
    if change.before is None:
        return Kind.INSERTED
    return Kind.DELETED if change.after is None else Kind.UPDATED


def _row_table(kind: Kind, name: str, via: str, changes: list[RowChange], volatile: frozenset[str]) -> RowTable:
    columns: dict[str, None] = {}
    for change in changes:
        columns |= dict.fromkeys((change.before or {}) | (change.after or {}))
        if kind is not Kind.UPDATED:  # the key stands at the head of the row
            columns = {column: None for column in columns if column not in change.key}
    rows = tuple(Row(key=c.key, cells=tuple(_cell(c, column) for column in columns)) for c in changes)
    return RowTable(
        kind=kind,
        name=name,
        via=via,
        columns=tuple(columns),
        rows=rows,
        masked=frozenset(column for index, column in enumerate(columns) if any(_masked(r.cells[index]) for r in rows)),
        volatile=frozenset(column for column in columns if f"{name}.{column}" in volatile),
    )


def _masked(cell: Cell) -> bool:
    return MASK in (cell.before, cell.after)


def _cell(change: RowChange, column: str) -> Cell:
    before, after = change.before or {}, change.after or {}
    return Cell(before=before.get(column), after=after.get(column), changed=column in before or column in after)


def as_rehearsed(report: SafetyReport, execution: Execution) -> bool:
    """Return whether exactly the rehearsed number of rows changed, per operation and table."""
    return execution.counts == tuple(operation.counts for operation in report.operations)
