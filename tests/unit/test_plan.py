"""The digest of a plan is what an approval is bound to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from standfast.plan import MAX_PLAN_BYTES, Operation, Plan
from standfast.safety.compensation import MAX_UNDO_BYTES
from standfast.steps import Recalled

UPDATE = Operation(sql="UPDATE orders SET status = $1 WHERE id = $2", params=("refunded", 1042), reason="asked for")


def test_the_digest_is_the_published_one() -> None:
    # SHA-256 over {"operations":[{"params":["refunded",1042],"sql":"..."}],"target":"shop"}, computed with sha256sum
    plan = Plan(operations=(UPDATE,))
    assert plan.digest("shop") == "59479d8accf4b149846be0fe39eab7ea3020f78f20120d07041e6660ea06eafb"


@pytest.mark.parametrize(
    "changed",
    [
        UPDATE.model_copy(update={"sql": UPDATE.sql + " "}),
        UPDATE.model_copy(update={"params": ("refunded", "1042")}),
        UPDATE.model_copy(update={"params": (1042, "refunded")}),
    ],
)
def test_any_other_statement_or_parameter_is_another_digest(changed: Operation) -> None:
    assert Plan(operations=(changed,)).digest("shop") != Plan(operations=(UPDATE,)).digest("shop")


def test_another_target_or_order_is_another_digest() -> None:
    other = Operation(sql="SELECT 1")
    digests = {
        Plan(operations=(UPDATE, other)).digest("shop"),
        Plan(operations=(other, UPDATE)).digest("shop"),
        Plan(operations=(UPDATE, other)).digest("crm"),
    }
    assert len(digests) == 3


def test_words_of_the_agent_are_not_part_of_the_digest() -> None:
    spoken = UPDATE.model_copy(update={"reason": "trust me"})
    assert Plan(summary="safe", operations=(spoken,)).digest("shop") == Plan(operations=(UPDATE,)).digest("shop")


def test_a_number_that_loses_digits_is_refused_with_advice() -> None:
    with pytest.raises(ValidationError, match="write it as a string"):
        Operation(sql="SELECT $1", params=(2**53,))


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(-(2**53) + 1, 2**53 - 1), st.lists))
def test_every_parameter_survives_the_journey_through_a_history(value: object) -> None:
    operation = Operation.model_validate({"sql": "SELECT $1", "params": [value]})
    again = Plan.model_validate_json(Plan(operations=(operation,)).model_dump_json())
    assert again.operations[0].params == (value,)


def test_a_whole_number_is_one_value_however_it_is_written() -> None:
    whole, pointed = (Operation(sql="SELECT $1", params=(value,)) for value in (1, 1.0))
    assert (pointed.params, type(pointed.params[0])) == ((1,), int)
    nested = Operation(sql="SELECT $1", params=([2.0, {"a": 3.0}],))
    assert repr(nested.params) == "([2, {'a': 3}],)"
    assert Plan(operations=(whole,)).digest("shop") == Plan(operations=(pointed,)).digest("shop")


def test_a_plan_that_no_history_could_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the plan has \d+ bytes, at most 262144 are allowed"):
        Plan(summary="x" * 300_000)


@pytest.mark.parametrize("letter", ["x", "ä", "漢", "😀"])
def test_what_was_small_enough_for_the_ledger_fits_into_the_plan_that_takes_it_back(letter: str) -> None:
    longest = letter * ((MAX_UNDO_BYTES - 200) // len(letter.encode()))
    made = Operation(sql="UPDATE t SET a = $1 WHERE id = 1", params=(longest,), reason="undo", expect_rows=1)
    assert len(made.model_dump_json().encode()) <= MAX_UNDO_BYTES
    remarks = tuple(f"public.table_{n}.column gets a new value" for n in range(1000))
    recalled = Recalled(operations=(made,), left=(), remarks=remarks, rows_digest="0" * 64)
    plan = recalled.plan("ticket/shop/SUP-1042")
    assert plan.operations == (made,)
    assert plan.summary.startswith("Takes ticket/shop/SUP-1042 back. public.table_0.column gets a new value; ")


def test_a_plan_that_is_too_large_says_so() -> None:
    with pytest.raises(ValidationError, match=f"at most {MAX_PLAN_BYTES} are allowed"):
        Plan(operations=(Operation(sql="x" * MAX_PLAN_BYTES),))
