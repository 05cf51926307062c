"""Compensation: the operations that put rows back as they were, made of their images."""

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from standfast.domain import MASK
from standfast.plan import MAX_PLAN_BYTES, Operation
from standfast.report import UndoStep
from standfast.safety.effect import Column, TableChange

References = Collection[tuple[str, str]]
"""Which tables refer to which, as (parent, child)."""
Cells = dict[str, Any]
"""A row by column."""
MAX_UNDO_BYTES = MAX_PLAN_BYTES - 16 * 1024
"""Of all operations as JSON: the plan that takes another one back has a summary, too."""


class Irreversible(Exception):  # noqa: N818 - a reason, no error
    """The rows can't be put back by a plan."""

    def __init__(self, message: str, *, forbidden: bool = False) -> None:
        super().__init__(message)
        self.forbidden = forbidden
        """The rows could be put back, if it was allowed."""


def compensation(
    changes: Iterable[TableChange],
    *,
    left: Collection[str],
    order: Iterable[UndoStep],
    references: References,
    hidden: Collection[str] = (),
) -> tuple[Operation, ...]:
    """Return the operations that put all rows back, except in the tables that are `left` alone.

    Values of `hidden` columns, `schema.table.column`, are masked: such operations are only to be looked at.

    Raises:
        Irreversible: a row can't be written by a plan, or there are too many.
    """
    parents_first = _sorted([change for change in changes if change.table not in left], references)
    made: list[Operation] = []
    for step in order:
        tables = reversed(parents_first) if step is UndoStep.DELETE else parents_first
        made += [operation for change in tables for operation in _MAKERS[step](change, hidden)]
    if sum(len(operation.model_dump_json().encode()) for operation in made) > MAX_UNDO_BYTES:
        raise Irreversible(f"the rows are more than fit into a plan ({MAX_UNDO_BYTES // 1024} KiB)")
    return tuple(made)


def _sorted(changes: list[TableChange], references: References) -> list[TableChange]:
    """Put tables that are referred to before those that refer to them, as far as there are no circles."""
    done: list[TableChange] = []
    while changes:
        waiting = {change.table for change in changes}
        free = [c for c in changes if not any(child == c.table and parent in waiting for parent, child in references)]
        done += free or changes[:1]
        changes = [change for change in changes if change not in done]
    return done


class _Params:
    """Collects the parameters of a statement on one table."""

    def __init__(self, change: TableChange, hidden: Collection[str]) -> None:
        self.values: list[Any] = []
        self._hidden = {column.name for column in change.columns if f"{change.table}.{column.name}" in hidden}

    def add(self, cell: Any, column: Column, cast: str = "") -> str:
        """Return the placeholder of one more value."""
        masked = column.name in self._hidden and cell is not None
        self.values.append(MASK if masked else _param(cell, column))
        if isinstance(cell, dict) and not column.is_json:
            return f"jsonb_populate_record(NULL::{column.type}, ${len(self.values)})"
        return f"${len(self.values)}{cast}"


def _inserts(change: TableChange, hidden: Collection[str]) -> Iterator[Operation]:
    """Bring back the rows that are gone."""
    gone = [cells(text) for name, text in change.before.items() if name not in change.after]
    if not gone or change.rekeyed:
        return
    params = _Params(change, hidden)
    rows = [f"({', '.join(params.add(row[c.name], c) for c in change.columns)})" for row in gone]
    names = ", ".join(_quoted(column.name) for column in change.columns)
    into = f"{_table(change)} ({names})"
    yield _operation(("INSERT INTO", into, "OVERRIDING SYSTEM VALUE VALUES", ", ".join(rows)), params, len(gone))


def _updates(change: TableChange, hidden: Collection[str]) -> Iterator[Operation]:
    """Give the rows that are other now their old values, all rows with the same changed columns at once."""
    pairs = [(cells(change.after[n]), cells(text)) for n, text in change.before.items() if n in change.after]
    if change.rekeyed:
        (now,) = (text for name, text in change.after.items() if name not in change.before)
        (old,) = (text for name, text in change.before.items() if name not in change.after)
        pairs.append((cells(now), cells(old)))
    groups: dict[tuple[str, ...], list[tuple[Cells, Cells]]] = {}
    for now_row, old_row in pairs:
        columns = tuple(c.name for c in change.columns if now_row.get(c.name) != old_row.get(c.name))
        groups.setdefault(columns, []).append((now_row, old_row))
    for columns, rows in groups.items():
        if not columns:
            raise Irreversible(f"{change.table} changes in generated columns only")
        yield _update(change, hidden, columns, rows)


def _update(
    change: TableChange, hidden: Collection[str], names: tuple[str, ...], rows: list[tuple[Cells, Cells]]
) -> Operation:
    by_name = {column.name: column for column in change.columns}
    columns = [by_name[name] for name in names]
    params = _Params(change, hidden)
    first = rows[0][1]
    if all(old[name] == first[name] for _, old in rows for name in names):
        sets = ", ".join(f"{_quoted(c.name)} = {params.add(first[c.name], c)}" for c in columns)
        where = _keys(change, params, [now for now, _ in rows])
        return _operation(("UPDATE", _table(change), "SET", sets, "WHERE", where), params, len(rows))
    keys = [by_name[name] for name in change.key]
    values: list[str] = []
    for now, old in rows:
        given = [(now[c.name], c) for c in keys] + [(old[c.name], c) for c in columns]
        # The first row tells the types of all.
        listed = (params.add(cell, c, "" if values else f"::{c.type}") for cell, c in given)
        values.append(f"({', '.join(listed)})")
    sets = ", ".join(f"{_quoted(name)} = v.column{n}" for n, name in enumerate(names, len(keys) + 1))
    where = " AND ".join(f"t.{_quoted(name)} = v.column{n}" for n, name in enumerate(change.key, 1))
    source = f"(VALUES {', '.join(values)}) AS v"
    words = ("UPDATE", _table(change), "AS t SET", sets, "FROM", source, "WHERE", where)
    return _operation(words, params, len(rows))


def _deletes(change: TableChange, hidden: Collection[str]) -> Iterator[Operation]:
    """Remove the rows that are new."""
    new = [cells(text) for name, text in change.after.items() if name not in change.before]
    if not new or change.rekeyed:
        return
    params = _Params(change, hidden)
    where = _keys(change, params, new)
    yield _operation(("DELETE FROM", _table(change), "WHERE", where), params, len(new))


_MAKERS = {UndoStep.INSERT: _inserts, UndoStep.UPDATE: _updates, UndoStep.DELETE: _deletes}


def _keys(change: TableChange, params: _Params, rows: list[Cells]) -> str:
    by_name = {column.name: column for column in change.columns}
    columns = [by_name[name] for name in change.key if name in by_name]
    if len(columns) < len(change.key):
        raise Irreversible(f"the key of {change.table} is generated")
    names = [_quoted(column.name) for column in columns]
    listed = [[params.add(row[column.name], column) for column in columns] for row in rows]
    if len(rows) == 1:
        return " AND ".join(f"{name} = {value}" for name, value in zip(names, listed[0], strict=True))
    if len(names) == 1:
        return f"{names[0]} IN ({', '.join(value for (value,) in listed)})"
    tuples = ", ".join(f"({', '.join(values)})" for values in listed)
    return f"({', '.join(names)}) IN ({tuples})"


def _operation(words: Iterable[str], params: _Params, rows: int) -> Operation:
    return Operation(sql=" ".join(words), params=tuple(params.values), reason="undo", expect_rows=rows)


def _table(change: TableChange) -> str:
    return f"{_quoted(change.schema)}.{_quoted(change.name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _Number(str):
    """A number as PostgreSQL wrote it, with all its digits."""

    __slots__ = ()


def cells(text: str) -> Cells:
    """Return a row by column from PostgreSQL's JSON, numbers with the digits that they have there."""
    row: Cells = json.loads(text, parse_float=_Number, parse_int=_Number)
    return row


def _param(cell: Any, column: Column) -> Any:
    """Return a cell of an image as a parameter, which the server reads as the column's type."""
    if cell is None or (isinstance(cell, bool) and not column.is_json):
        return cell
    if column.is_json:
        return _json(cell)
    if isinstance(cell, list) and column.category == "A":
        return [_param(item, column) for item in cell]
    if isinstance(cell, dict) and column.category == "C":
        return _json(cell)
    if isinstance(cell, dict | list):
        raise Irreversible(f"a value of type {column.type} can't be given as a parameter")
    return str(cell)


def _json(value: Any) -> str:
    """Return JSON text; numbers have the digits that they had."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return json.dumps(value)
