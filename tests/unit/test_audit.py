"""Whoever changes, removes or adds a row of the audit chain is found out."""

from typing import Any

import pytest

from standfast.audit import GENESIS, breaks, row_hash
from tests.unit.chaos.runs import at


def chain(length: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(1, length + 1):
        fields: dict[str, Any] = {
            "key": f"run/{number}",
            "at": at(number),
            "kind": "decision",
            "workflow_id": f"ticket/shop/{number}",
            "actor": "ben@example.com",
            "content": {"verdict": "approve", "comment": "fine"},
        }
        previous = rows[-1]["hash"] if rows else GENESIS
        rows.append(
            {"sequence": number, **fields, "previous_hash": previous, "hash": row_hash(**fields, previous=previous)}
        )
    return rows


def test_a_chain_as_it_was_written_is_whole() -> None:
    assert list(breaks([])) == list(breaks(chain(3))) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "run/9"),
        ("at", at(99)),
        ("kind", "decision.refused"),
        ("workflow_id", "ticket/shop/9"),
        ("actor", "mallory@example.com"),
        ("content", {"verdict": "reject", "comment": "fine"}),
    ],
)
def test_a_changed_row_is_found(field: str, value: object) -> None:
    rows = chain(3)
    rows[1][field] = value
    (found,) = breaks(rows)
    assert "row 2" in found
    assert "changed" in found


@pytest.mark.parametrize("removed", [0, 1])
def test_a_removed_row_is_found(removed: int) -> None:
    rows = chain(3)
    del rows[removed]
    (found,) = breaks(rows)
    assert "does not follow" in found


def test_a_row_that_was_changed_and_hashed_anew_breaks_the_chain_after_it() -> None:
    rows = chain(3)
    rows[1]["actor"] = "mallory@example.com"
    fields = {name: rows[1][name] for name in ("key", "at", "kind", "workflow_id", "actor", "content")}
    rows[1]["hash"] = row_hash(**fields, previous=rows[1]["previous_hash"])
    (found,) = breaks(rows)
    assert "row 3" in found
