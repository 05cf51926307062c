"""The effect of a plan: every row that it changes, and what tells this effect from another one."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from standfast.domain import canonical_json
from standfast.report import RowChange, RowCounts

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class OperationEffect:
    """What one operation changed."""

    rows: tuple[RowChange, ...] = ()
    """At most `row_limit` rows."""
    counts: Mapping[str, RowCounts] = field(default_factory=dict)
    """All rows, by `schema.table`."""
    counted: Mapping[str, RowCounts] = field(default_factory=dict)
    """The server's own count of its writes; higher where a row was written more than once."""
    truncated: bool = False
    unmeasured: tuple[str, ...] = ()
    """Tables that were counted only: too large, too many rows, not readable, or without a primary key."""
    locked: tuple[str, ...] = ()
    """Tables that are now locked against everybody, as TRUNCATE does, which escapes the counters."""
    locks: Mapping[str, str] = field(default_factory=dict)
    """The strongest lock that the transaction holds by now on each table, where it is more than a reader's."""
    sequences: tuple[str, ...] = ()
    """Sequences whose values are used up: a rollback doesn't give them back."""
    seconds: float = 0.0
    """How long the statement itself ran."""


@dataclass(frozen=True, kw_only=True)
class Print:
    """What tells one effect of an operation from another."""

    counts: Mapping[str, RowCounts]
    locked: tuple[str, ...]
    before: tuple[str, ...]
    """Table, key and image of each row that was there before, as PostgreSQL prints them."""
    after: tuple[tuple[str, str, Row], ...]
    """Table, key and new values of each row that is there now. The key is empty for a row that the plan has made."""

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
class Column:
    """A column that a statement can set."""

    name: str
    type: str
    """As PostgreSQL writes it in a cast."""
    is_json: bool
    category: str
    """As in pg_type.typcategory: `A` for arrays, `C` for rows."""


@dataclass(frozen=True, kw_only=True)
class TableChange:
    """What all operations together made of the rows of one table: its rows by key, as JSON texts of PostgreSQL."""

    schema: str
    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    before: Mapping[str, str]
    """Rows that are gone or other now."""
    after: Mapping[str, str]
    """Rows that are new or were other before."""
    rekeyed: bool
    """True if the server counted one update, but one key is gone and another one is new."""

    @property
    def table(self) -> str:
        """`schema.name`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a plan changed."""

    operations: tuple[OperationEffect, ...]
    prints: tuple[Print, ...]
    volatile: frozenset[str] = frozenset()
    """Columns, `schema.table.column`, whose new values differ each time the plan runs: sequences, clocks."""
    changes: tuple[TableChange, ...] = ()
    """Of the tables whose rows were all measured."""

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
