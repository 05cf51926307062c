"""Whoever changes, removes, adds or moves a row of the audit chain is found out."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest

from standfast.audit import GENESIS, Row, row_hash, wrong_with
from standfast.domain import canonical_json
from tests.unit.chaos.runs import at

FIELDS = ("key", "at", "kind", "workflow_id", "actor", "content")


def row(number: int, previous: str) -> Row:
    fields: dict[str, Any] = {
        "key": f"run/{number}",
        "at": at(number),
        "kind": "decision",
        "workflow_id": f"ticket/shop/{number}",
        "actor": "ben@example.com",
        "content": {"verdict": "approve", "comment": "fine"},
    }
    return Row(sequence=number, **fields, previous_hash=previous, hash=row_hash(**fields, previous=previous))


def chain(length: int) -> list[Row]:
    rows: list[Row] = []
    for number in range(1, length + 1):
        rows.append(row(number, rows[-1].hash if rows else GENESIS))
    return rows


def changed(original: Row, **changes: Any) -> Row:
    return original.model_copy(update=changes)


def hashed_anew(original: Row, previous: str) -> Row:
    fields = {name: getattr(original, name) for name in FIELDS}
    return changed(original, previous_hash=previous, hash=row_hash(**fields, previous=previous))


def found(rows: Sequence[Row]) -> list[tuple[int, str]]:
    previous, wrong = GENESIS, []
    for one in rows:
        wrong += [(one.sequence, what) for what in wrong_with(one, previous)]
        previous = one.hash
    return wrong


def test_a_chain_as_it_was_written_is_whole() -> None:
    assert found([]) == found(chain(3)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "run/9"),
        ("at", at(99)),
        ("kind", "decision.refused"),
        ("workflow_id", "ticket/shop/9"),
        ("actor", "mallory@example.com"),
        ("content", {"verdict": "reject", "comment": "fine"}),
        ("content", {"verdict": "approve", "comment": "fine!"}),
        ("content", ["no object"]),
        ("content", {"without a canonical form": 2**60}),
    ],
)
def test_a_changed_row_is_found(field: str, value: object) -> None:
    rows = chain(3)
    rows[1] = changed(rows[1], **{field: value})
    ((number, what),) = found(rows)
    assert number == 2
    assert "changed" in what


@pytest.mark.parametrize("removed", [0, 1])
def test_a_removed_row_is_found(removed: int) -> None:
    rows = chain(3)
    del rows[removed]
    ((_, what),) = found(rows)
    assert "does not follow" in what


def test_rows_that_changed_places_are_found() -> None:
    rows = chain(4)
    rows[1], rows[2] = changed(rows[2], sequence=2), changed(rows[1], sequence=3)
    assert [number for number, what in found(rows) if "does not follow" in what] == [2, 3, 4]


def test_an_added_row_is_found() -> None:
    rows = chain(3)
    rows.insert(2, changed(row(9, rows[1].hash), sequence=3))
    ((number, what),) = found(rows)
    assert number == rows[3].sequence
    assert "does not follow" in what


def test_a_row_that_was_changed_and_hashed_anew_breaks_the_chain_after_it() -> None:
    rows = chain(3)
    rows[1] = hashed_anew(changed(rows[1], actor="mallory@example.com"), rows[1].previous_hash)
    ((number, what),) = found(rows)
    assert number == 3
    assert "does not follow" in what


def test_what_is_exported_is_what_was_hashed() -> None:
    (one,) = chain(1)
    exported = one.exported()
    told = exported.pop("hash")
    del exported["sequence"]
    assert told == hashlib.sha256(canonical_json(exported)).hexdigest() == one.hash
    plain = json.dumps(exported, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert plain == canonical_json(exported), "for our content Python's own JSON does, see docs/audit.md"
