"""What caused a row's change: the statement itself, a foreign key that passed a change on, or a trigger."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from standfast.report import RowChange


@dataclass(frozen=True, kw_only=True)
class CascadingKey:
    """A foreign key that passes changes on, from the rows that are referred to (parents) to those that refer."""

    parent: str
    parent_columns: tuple[str, ...]
    child: str
    child_columns: tuple[str, ...]


def with_causes(
    changes: Sequence[RowChange],
    *,
    named: frozenset[str],
    keys: Collection[CascadingKey],
    unmeasured: Collection[str],
) -> list[RowChange]:
    """Return the changes of one operation, each with its `via`. Rows of `named` tables are the statement's own.

    A row that refers to no changed row, or that is new, can't come from a foreign key, so a trigger, a rule or a
    function made the change. Where parents are `unmeasured`, the row is taken to be one of their children.
    """
    passed_on = _passed_on(changes, keys)

    def via(change: RowChange) -> str:
        if change.table in named:
            return "statement"
        referring = [key for key in keys if key.child == change.table] if change.before is not None else []
        by_key = any(
            key.parent in unmeasured or _text(change, key.child_columns) in passed_on[key] for key in referring
        )
        return "cascade" if by_key else "trigger"

    return [change.model_copy(update={"via": via(change)}) for change in changes]


def _passed_on(changes: Iterable[RowChange], keys: Iterable[CascadingKey]) -> dict[CascadingKey, set[str]]:
    """Return the old values of each key's referenced columns that are gone or other now."""
    passed_on: dict[CascadingKey, set[str]] = {key: set() for key in keys}
    for change in changes:
        for key, values in passed_on.items():
            if key.parent == change.table and change.before is not None:
                values.add(_text(change, key.parent_columns))
    return passed_on


def _text(change: RowChange, columns: Iterable[str]) -> str:
    old: dict[str, Any] = change.key | (change.before or {})
    return json.dumps([old.get(column) for column in columns], sort_keys=True)
