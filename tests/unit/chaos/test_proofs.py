"""The proofs of `standfast chaos` fail when something was lost, done twice, paid twice, or can't be explained."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from standfast.local.chaos import proofs
from standfast.local.chaos.evidence import Evidence, LedgerRow, Period, RecordedCall, Submitted
from standfast.local.chaos.faults import Fault, How, ModelFault, ProcessFault, Trouble
from standfast.local.chaos.histories import ActivityRun, History
from standfast.local.chaos.proofs import Proof, Violation
from standfast.local.chaos.tickets import Kind, ScriptedTicket, expected_rows
from standfast.local.fake_provider import Exchange
from standfast.outcome import Outcome, State
from standfast.verification.evidence import Problem
from tests.unit.chaos.runs import APPROVED, AUTOMATIC, VERIFIED, activity, at, evidence

MODEL = "agent__planner__model_request"
PLANNER = f"{AUTOMATIC.workflow_id}/plan/1"


def the_violation(proof: Proof) -> Violation:
    assert not proof.holds
    (violation,) = proof.violations
    return violation


def with_activity(run: ActivityRun) -> Evidence:
    """A run in which the automatic ticket's workflow has this activity only."""
    well = evidence()
    first, *others = well.histories
    return replace(well, histories=[replace(first, activities=(run,)), *others])


def test_all_proofs_hold_when_all_is_well() -> None:
    assert [(proof.claim, proof.violations) for proof in proofs.prove(evidence()) if not proof.holds] == []
    assert len(proofs.prove(evidence())) == 6


@pytest.mark.parametrize(
    ("outcome", "trouble", "found"),
    [
        (None, "", "it has not ended"),
        (Outcome(state=State.FAILED, reason="boom"), "", "failed: boom"),
        (Outcome(state=State.DONE, reason=" "), "", "none"),
        (Outcome(state=State.DONE, reason="ok"), "DecisionRefused: somebody decided already", "DecisionRefused"),
    ],
)
def test_a_lost_ticket_a_wrong_end_and_wrong_answers_are_named(
    outcome: Outcome | None, trouble: str, found: str
) -> None:
    well = evidence()
    spoiled = [Submitted(ticket=AUTOMATIC, outcome=outcome, trouble=trouble), *well.submitted[1:]]

    violation = the_violation(proofs.every_ticket_ends(replace(well, submitted=spoiled)))

    assert violation.where == AUTOMATIC.workflow_id
    assert found in violation.found


def test_a_withdrawn_ticket_may_end_either_way_but_leaves_what_its_end_says() -> None:
    withdrawn = ScriptedTicket(number=3, kind=Kind.WITHDRAWN)
    well = evidence()

    def ended(state: State) -> Evidence:
        outcome = Outcome(state=state, reason="so")
        return replace(well, submitted=[*well.submitted, Submitted(ticket=withdrawn, outcome=outcome)])

    assert proofs.every_ticket_ends(ended(State.CANCELLED)).holds
    assert proofs.every_change_happens_once(ended(State.CANCELLED)).holds
    assert proofs.every_ticket_ends(ended(State.DONE)).holds
    assert not proofs.every_change_happens_once(ended(State.DONE)).holds


def twice_in_the_ledger(well: Evidence) -> Evidence:
    return replace(well, ledger=[*well.ledger, well.ledger[0]])


def missing_in_the_ledger(well: Evidence) -> Evidence:
    return replace(well, ledger=well.ledger[1:])


def another_plan_in_the_ledger(well: Evidence) -> Evidence:
    return replace(well, ledger=[LedgerRow(workflow_id=AUTOMATIC.workflow_id, plan_digest="f" * 64), *well.ledger[1:]])


def a_rejected_ticket_in_the_ledger(well: Evidence) -> Evidence:
    rejected = Outcome(state=State.REJECTED, reason="no")
    kept = Counter(expected_rows([APPROVED]))
    return replace(well, submitted=[Submitted(ticket=AUTOMATIC, outcome=rejected), *well.submitted[1:]], rows=kept)


def an_inserted_row_twice(well: Evidence) -> Evidence:
    row = next(row for row in well.rows if "CHAOS-00001" in row[-1])
    return replace(well, rows=well.rows + Counter([row]))


def a_number_added_to_twice(well: Evidence) -> Evidence:
    customer = str(AUTOMATIC.customer)
    rows = well.rows - Counter([("customers", customer, "0.01")]) + Counter([("customers", customer, "0.02")])
    return replace(well, rows=rows)


def a_change_undone(well: Evidence) -> Evidence:
    return replace(well, rows=expected_rows([APPROVED]))


def a_trigger_that_ran_twice(well: Evidence) -> Evidence:
    row = ("customers_audit", str(AUTOMATIC.customer), "0.01")
    assert well.rows[row] == 1
    return replace(well, rows=well.rows + Counter([row]))


def a_row_that_nobody_asked_for(well: Evidence) -> Evidence:
    return replace(well, rows=well.rows + Counter([("addresses", "17", "Nowhere 1")]))


@pytest.mark.parametrize(
    "spoil",
    [
        twice_in_the_ledger,
        missing_in_the_ledger,
        another_plan_in_the_ledger,
        a_rejected_ticket_in_the_ledger,
        an_inserted_row_twice,
        a_number_added_to_twice,
        a_change_undone,
        a_trigger_that_ran_twice,
        a_row_that_nobody_asked_for,
    ],
)
def test_a_change_that_is_missing_done_twice_or_not_meant_is_found(spoil: Callable[[Evidence], Evidence]) -> None:
    assert not proofs.every_change_happens_once(spoil(evidence())).holds


def test_the_plan_that_was_sent_back_must_not_have_run() -> None:
    revised = ScriptedTicket(number=3, kind=Kind.REVISED)
    well = evidence()
    outcome = Outcome(state=State.DONE, reason="ok")
    submitted = [*well.submitted, Submitted(ticket=revised, outcome=outcome)]
    ran = {
        number: LedgerRow(workflow_id=revised.workflow_id, plan_digest=revised.plan(number).digest("shop"))
        for number in (1, 2)
    }
    rows = expected_rows([AUTOMATIC, APPROVED, revised])

    def executed(number: int) -> Proof:
        found = replace(well, submitted=submitted, ledger=[*well.ledger, ran[number]], rows=rows)
        return proofs.every_change_happens_once(found)

    assert executed(2).holds
    assert not executed(1).holds


def test_a_request_after_its_answer_was_recorded_is_a_repeated_call() -> None:
    well = evidence()
    again = Exchange(at=at(2), digest="call-1", answer_id="answer-1-again")

    proof = proofs.no_recorded_call_is_repeated(replace(well, exchanges=[*well.exchanges, again]))

    assert the_violation(proof).where == f"{PLANNER} activity 1"
    assert proof.counts["repeated after being recorded"] == 1


def test_a_request_that_was_cut_off_after_the_record_counts_too() -> None:
    well = evidence()
    cut = Exchange(at=at(2), digest="call-1")
    assert not proofs.no_recorded_call_is_repeated(replace(well, exchanges=[*well.exchanges, cut])).holds


@pytest.mark.parametrize(
    ("service", "began", "woke_at", "is_zombie"),
    [
        ("worker-llm", 0.3, 2, True),
        ("worker-llm", 0.3, 8, False),  # others sent it
        ("worker-llm", 0.95, 2, False),  # frozen after the record: it could have known
        ("worker-core", 0.3, 2, False),
    ],
)
def test_what_a_frozen_worker_was_about_to_send_is_counted_apart(
    service: str, began: float, woke_at: float, is_zombie: bool
) -> None:
    well = evidence()
    again = Exchange(at=at(2.05), digest="call-1", answer_id="paid twice")
    freeze = Period(fault=ProcessFault(service=service, how=How.FREEZE), began=at(began), ended=at(woke_at))

    proof = proofs.no_recorded_call_is_repeated(replace(well, exchanges=[*well.exchanges, again], faults=[freeze]))

    assert proof.holds is is_zombie
    assert proof.counts["sent by a frozen worker as it woke"] == is_zombie
    assert proof.counts["repeated after being recorded"] == (not is_zombie)


def test_a_call_that_was_answered_again_before_there_was_a_record_is_counted_apart() -> None:
    well = evidence()
    before = Exchange(at=at(0.15), digest="call-1", answer_id="lost-with-its-worker")

    proof = proofs.no_recorded_call_is_repeated(replace(well, exchanges=[before, *well.exchanges]))

    assert proof.holds
    assert proof.counts["answered again before being recorded"] == 1


def test_a_record_of_an_answer_that_nobody_gave_is_found() -> None:
    well = evidence()
    made_up = RecordedCall(workflow_id=PLANNER, activity_id="1", answer_id="none of ours", recorded_at=at(1))
    proof = proofs.no_recorded_call_is_repeated(replace(well, calls=[made_up, *well.calls[1:]]))
    assert "none of ours" in the_violation(proof).found


def test_a_model_request_that_was_reported_without_a_record_is_found() -> None:
    well = evidence()
    proof = proofs.no_recorded_call_is_repeated(replace(well, calls=well.calls[1:]))
    assert the_violation(proof).where == PLANNER


def test_an_activity_that_completed_twice_is_found() -> None:
    spoiled = with_activity(activity(AUTOMATIC.workflow_id, "execute", completions=2))
    assert the_violation(proofs.no_activity_completes_twice(spoiled)).found == "2 times"


DATABASE_KILLED = ProcessFault(service="worker-database", how=How.KILL)
CORE_KILLED = ProcessFault(service="worker-core", how=How.KILL)
CORE_FROZEN = ProcessFault(service="worker-core", how=How.FREEZE)
TEMPORAL_KILLED = ProcessFault(service="temporal", how=How.KILL)
POSTGRES_KILLED = ProcessFault(service="postgres", how=How.KILL)
OVERLOAD = ModelFault(trouble=Trouble.OVERLOAD)


def retries_are_explained(fault: Fault, *, began: float = 0.5, **changes: Any) -> bool:
    """Tell whether the proof holds for an activity of the database pool that was tried twice while a fault came."""
    retried = replace(activity(AUTOMATIC.workflow_id, "execute", queue="database", attempt=2), **changes)
    period = Period(fault=fault, began=at(began), ended=at(began + 0.2))
    return proofs.no_activity_completes_twice(replace(with_activity(retried), faults=[period])).holds


@pytest.mark.parametrize("fault", [DATABASE_KILLED, TEMPORAL_KILLED])
def test_a_lost_attempt_is_explained_by_its_own_workers_death_or_the_servers(fault: Fault) -> None:
    assert retries_are_explained(fault, timed_out_before=True)
    assert not retries_are_explained(fault)
    assert not retries_are_explained(fault, began=1.5, timed_out_before=True)
    assert not retries_are_explained(fault, began=-20, timed_out_before=True)


@pytest.mark.parametrize("fault", [CORE_KILLED, CORE_FROZEN, POSTGRES_KILLED, OVERLOAD])
def test_nothing_else_explains_a_lost_attempt(fault: Fault) -> None:
    assert not retries_are_explained(fault, timed_out_before=True)


@pytest.mark.parametrize("fault", [POSTGRES_KILLED, CORE_FROZEN])
def test_a_failed_attempt_is_explained_by_the_databases_or_a_frozen_worker_with_its_locks(fault: Fault) -> None:
    assert retries_are_explained(fault)


def test_a_model_in_trouble_explains_its_own_requests_only() -> None:
    assert not retries_are_explained(OVERLOAD)
    assert retries_are_explained(OVERLOAD, name=MODEL)


def test_a_retry_without_a_fault_is_named_with_its_reason() -> None:
    retried = activity(AUTOMATIC.workflow_id, "execute", attempt=2, failure_before="connection lost")
    assert "connection lost" in the_violation(proofs.no_activity_completes_twice(with_activity(retried))).found


@pytest.mark.parametrize("why", ["non-determinism", None])
def test_a_history_that_does_not_replay_or_was_not_replayed_is_named(why: str | None) -> None:
    well = evidence()
    replayed = dict(well.replayed) | {PLANNER: why}
    spoiled = replace(well, replayed={one: found for one, found in replayed.items() if found is not None})
    assert the_violation(proofs.every_history_replays(spoiled)).where == PLANNER


def test_what_the_verification_of_the_audit_finds_is_a_violation() -> None:
    problem = Problem(where="row 7", problem="was changed after it was written", look="the rows around it")
    spoiled = replace(evidence(), verified=VERIFIED.model_copy(update={"problems": (problem,)}))
    violation = the_violation(proofs.the_record_is_whole(spoiled))
    assert (violation.where, violation.found) == ("row 7", "was changed after it was written")


def test_histories_of_planners_belong_to_their_ticket() -> None:
    assert History(workflow_id=PLANNER).ticket == AUTOMATIC.workflow_id
