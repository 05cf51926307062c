"""What changed between two plans is said operation by operation, in statement and parameters."""

from typing import Any

import pytest

from standfast.dashboard.comparison import Difference, Fate, differences
from standfast.plan import Operation

UPDATE = "UPDATE orders SET status = $1 WHERE id = $2"


def operation(sql: str, *params: Any, reason: str = "") -> Operation:
    return Operation(sql=sql, params=params, reason=reason)


def fates(found: tuple[Difference, ...]) -> list[tuple[Fate, int | None, int | None]]:
    return [(one.fate, one.before, one.after) for one in found]


def test_an_operation_before_the_others_leaves_them_as_they_were() -> None:
    kept = operation(UPDATE, "refunded", 1)
    found = differences([kept], [operation("INSERT INTO log VALUES ($1)", 1), kept])
    assert fates(found) == [(Fate.ADDED, None, 1), (Fate.KEPT, 1, 2)]


def test_an_operation_that_is_gone_is_shown() -> None:
    kept = operation(UPDATE, "refunded", 1)
    found = differences([kept, operation("DELETE FROM orders")], [kept])
    assert fates(found) == [(Fate.KEPT, 1, 1), (Fate.REMOVED, 2, None)]
    assert [piece.text for piece in found[1].statement] == ["DELETE FROM orders"]


def test_the_words_and_parameters_that_differ_are_marked_and_no_others() -> None:
    (found,) = differences(
        [operation(UPDATE, "refunded", 1)], [operation(UPDATE.replace("status", "state"), "refunded", 2)]
    )
    assert found.fate is Fate.CHANGED
    assert [(piece.fate, piece.text) for piece in found.statement] == [
        (Fate.KEPT, "UPDATE orders SET "),
        (Fate.REMOVED, "status"),
        (Fate.ADDED, "state"),
        (Fate.KEPT, " = $1 WHERE id = $2"),
    ]
    assert [(one.number, one.fate, one.before, one.after) for one in found.parameters] == [
        (1, Fate.KEPT, "refunded", "refunded"),
        (2, Fate.CHANGED, 1, 2),
    ]


@pytest.mark.parametrize(("before", "after"), [(1, "1"), (1, True), (None, ""), ([1], [1, 2])])
def test_values_of_another_type_are_other_values(before: Any, after: Any) -> None:
    (found,) = differences([operation(UPDATE, before)], [operation(UPDATE, after)])
    assert [one.fate for one in found.parameters] == [Fate.CHANGED]


def test_another_reason_alone_is_no_other_operation() -> None:
    found = differences([operation(UPDATE, 1, reason="because")], [operation(UPDATE, 1, reason="why not")])
    assert fates(found) == [(Fate.KEPT, 1, 1)]


def test_two_statements_that_have_little_in_common_are_shown_whole() -> None:
    (found,) = differences([operation("INSERT INTO refunds VALUES ($1)", 1)], [operation(UPDATE, "paid", 1)])
    assert [piece.text for piece in found.statement] == ["INSERT INTO refunds VALUES ($1)", UPDATE]


def test_a_statement_of_a_hundred_thousand_words_is_compared_at_once() -> None:
    before, after = ("SELECT " + "a, " * 50_000 + end for end in ("b", "c"))
    (found,) = differences([operation(before)], [operation(after)])
    assert [(piece.fate, piece.text) for piece in found.statement] == [(Fate.REMOVED, before), (Fate.ADDED, after)]
