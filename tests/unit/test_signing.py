"""A decision counts only if the process that authenticated the person signed exactly this decision on this ticket."""

from datetime import UTC, datetime, timedelta

import pytest

from standfast.decision import Decision, DecisionVerdict, Mode, Refusal
from standfast.errors import InvalidInput
from standfast.signing import MAX_AGE, new_key_pair, sign, verify

PRIVATE, PUBLIC = new_key_pair()
KEYS = {"default": PUBLIC}
TICKET = "ticket/shop/SUP-1"
SIGNED = sign(
    Decision(verdict=DecisionVerdict.APPROVE, plan_digest="d", fingerprint="f", by="ben@example.com"),
    workflow_id=TICKET,
    mode=Mode.CLI,
    key_id="default",
    private_key=PRIVATE,
)


def refusal(decision: Decision, *, workflow_id: str = TICKET, age: timedelta = timedelta()) -> Refusal | None:
    signed_at = decision.proof.issued_at if decision.proof else datetime.now(UTC)
    return verify(decision, workflow_id=workflow_id, received_at=signed_at + age, public_keys=KEYS)


def test_a_signed_decision_counts() -> None:
    assert refusal(SIGNED) is None


def test_it_still_counts_after_the_journey_through_a_history() -> None:
    assert refusal(Decision.model_validate_json(SIGNED.model_dump_json())) is None


def test_an_unsigned_decision_does_not() -> None:
    assert refusal(SIGNED.model_copy(update={"proof": None})) is Refusal.UNSIGNED


@pytest.mark.parametrize(
    "forged",
    [
        {"by": "eve@example.com"},
        {"verdict": DecisionVerdict.REJECT},
        {"plan_digest": "x"},
        {"fingerprint": "x"},
        {"judgement": "x"},
        {"comment": "x"},
    ],
)
def test_no_field_can_be_changed_after_signing(forged: dict[str, object]) -> None:
    assert refusal(SIGNED.model_copy(update=forged)) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    "forged",
    [
        {"id": "another-id"},
        {"mode": Mode.SOLO},
        {"issued_at": datetime.now(UTC)},
        {"signature": "AAAA"},
        {"signature": "%"},
        {"key_id": "other"},
    ],
)
def test_nor_can_its_proof(forged: dict[str, object]) -> None:
    assert SIGNED.proof is not None
    proof = SIGNED.proof.model_copy(update=forged)
    assert refusal(SIGNED.model_copy(update={"proof": proof})) is Refusal.BAD_SIGNATURE


def test_it_is_good_for_one_ticket_only() -> None:
    assert refusal(SIGNED, workflow_id="ticket/shop/SUP-2") is Refusal.BAD_SIGNATURE


def test_a_key_that_is_not_configured_signs_nothing() -> None:
    other, _ = new_key_pair()
    forged = sign(
        SIGNED.model_copy(update={"proof": None}),
        workflow_id=TICKET,
        mode=Mode.CLI,
        key_id="default",
        private_key=other,
    )
    assert refusal(forged) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("age", [MAX_AGE + timedelta(seconds=5), -timedelta(minutes=2)])
def test_an_old_or_postdated_signature_does_not_count(age: timedelta) -> None:
    assert refusal(SIGNED, age=age) is Refusal.EXPIRED_SIGNATURE


def test_a_broken_key_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"review\.signing_key"):
        sign(SIGNED, workflow_id=TICKET, mode=Mode.CLI, key_id="default", private_key="not base64")
