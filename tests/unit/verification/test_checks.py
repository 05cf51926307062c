"""What is not allowed, not on record, or not in the ledger is found, on evidence in which one thing is spoilt."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from standfast.audit import EACH_ATTEMPT, Row
from standfast.decision import DecisionRecord, DecisionVerdict, Refusal
from standfast.verification.checks import problems
from standfast.verification.evidence import Executed, Placed, Step, Ticket, Trace
from tests.unit.chaos.runs import NOON, at

PLAN, ROWS, RUN = "a" * 64, "b" * 64, "6d6b5b1c-0000-4000-8000-000000000000"
SEEN: dict[str, Any] = {"plan_digest": PLAN, "fingerprint": ROWS}
STEPS = {"submission": "gather", "verdict": "validate", "decision": "review", "execution": "conclude"}


def row(number: int, kind: str, *, actor: str = "standfast", **content: Any) -> Placed:
    attempt = "/1" if STEPS[kind] in EACH_ATTEMPT else ""
    return Placed(
        sequence=number,
        key=f"{RUN}/{number}{attempt}",
        at=at(number),
        reached=at(number),
        kind=kind,
        workflow_id="ticket/shop/1",
        actor=actor,
        content=content,
        previous_hash="0" * 64,
        hash=f"{number:064}",
    )


def trace(*rows: Row, ended: str = "completed") -> Trace:
    """The history of a run that put just these rows on record."""
    steps = {
        "/".join(r.key.split("/")[:2]): Step(
            name=STEPS[r.kind], key=r.key, hash=r.hash if r.kind in ("decision", "execution") else "", attempts=1
        )
        for r in rows
    }
    return Trace(run_id=RUN, ended=ended, steps=steps)


SUBMISSION = row(1, "submission", actor="ana@example.com")
VERDICT = row(2, "verdict", verdict="approval", approvals_required=1, **SEEN)
APPROVAL = row(3, "decision", actor="ben@example.com", verdict="approve", **SEEN)
DONE: dict[str, Any] = {"state": "done", "executed_at": NOON.isoformat(), "approved_by": ["ben@example.com"], **SEEN}
EXECUTION = row(5, "execution", **DONE)
ROW_BY_ROW = (SUBMISSION, VERDICT, APPROVAL, EXECUTION)
LEDGER = Executed(
    workflow_id="ticket/shop/1", target="shop", approved_by=("ben@example.com",), executed_at=NOON, **SEEN
)
GOOD = Ticket(
    workflow_id="ticket/shop/1",
    rows=ROW_BY_ROW,
    later=ROW_BY_ROW,
    executed=(LEDGER,),
    traces=(trace(*ROW_BY_ROW),),
    kept_since=at(-1000),
)


def with_rows(*rows: Placed) -> Ticket:
    return replace(GOOD, rows=rows, later=rows, traces=(trace(*rows),))


def found(ticket: Ticket) -> list[str]:
    return [problem.problem for problem in problems(ticket)]


def changed(original: Placed, **content: Any) -> Placed:
    return original.model_copy(update={"content": {**original.content, **content}})


AUTOMATIC = changed(VERDICT, verdict="auto")
BY_ITSELF = LEDGER.model_copy(update={"approved_by": ()})


@pytest.mark.parametrize(
    "ticket",
    [
        GOOD,
        replace(
            with_rows(SUBMISSION, AUTOMATIC, changed(EXECUTION, approved_by=[])),
            executed=(BY_ITSELF,),
        ),
        replace(GOOD, traces=(), kept_since=at(1000)),
        replace(GOOD, rows=ROW_BY_ROW[:3], later=ROW_BY_ROW[:3], traces=(trace(*ROW_BY_ROW[:3], ended=""),)),
        replace(GOOD, executed=None),
    ],
    ids=["approved", "automatic", "history removed after its time", "under way", "ledger of another installation"],
)
def test_nothing_is_wrong_where_all_agrees(ticket: Ticket) -> None:
    assert found(ticket) == []


def test_a_row_that_came_while_the_witnesses_were_read_is_not_missing() -> None:
    assert found(replace(GOOD, rows=ROW_BY_ROW[:2])) == []


@pytest.mark.parametrize("missing", ROW_BY_ROW, ids=lambda r: r.kind)
def test_a_row_that_the_history_has_put_on_record_is_missed(missing: Placed) -> None:
    kept = tuple(one for one in ROW_BY_ROW if one is not missing)
    said = found(replace(GOOD, rows=kept, later=kept))
    assert any(missing.key in problem and "not in the chain" in problem for problem in said)


@pytest.mark.parametrize("spoilt", [APPROVAL, EXECUTION], ids=lambda r: r.kind)
def test_a_chain_that_was_written_anew_differs_from_the_hashes_in_histories(spoilt: Placed) -> None:
    anew = tuple(one.model_copy(update={"hash": "f" * 64}) if one is spoilt else one for one in ROW_BY_ROW)
    (said,) = found(replace(GOOD, rows=anew, later=anew))
    assert f"row {spoilt.sequence}" in said
    assert "written anew" in said


def test_a_row_in_place_of_another_kind_is_found() -> None:
    anew = tuple(one.model_copy(update={"kind": "verdict"}) if one is SUBMISSION else one for one in ROW_BY_ROW)
    assert any("its history has a gather there" in said for said in found(replace(GOOD, rows=anew, later=anew)))


def test_a_decision_that_no_workflow_asked_for_is_found() -> None:
    added = row(4, "decision", actor="mallory@example.com", verdict="approve", **SEEN)
    rows = (*ROW_BY_ROW, added)
    (said,) = found(replace(GOOD, rows=rows, later=rows))
    assert said == "row 4 (decision by mallory@example.com) was never asked for by its workflow"


def forged(key: str, kind: str = "decision", **changes: Any) -> Ticket:
    """All that happened, and a good approval by somebody who never gave one; the ledger names him, too."""
    row = APPROVAL.model_copy(
        update={"sequence": 4, "key": key, "kind": kind, "actor": "mallory@example.com", "reached": at(4), **changes}
    )
    rows = (SUBMISSION, VERDICT, APPROVAL, row, EXECUTION)
    return replace(GOOD, rows=rows, later=rows)


@pytest.mark.parametrize(
    "key", ["approval", "", "/3/1", f"{RUN}/3/1/1", f"{RUN}/9/1"], ids=["name", "nothing", "no run", "more", "no step"]
)
def test_a_decision_whose_key_names_no_step_is_found(key: str) -> None:
    assert found(forged(key)) == ["row 4 (decision by mallory@example.com) was never asked for by its workflow"]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (f"{RUN}/2/99", "decision"),
        (f"{RUN}/2/1", "decision"),
        (f"{RUN}/1", "decision"),
        (f"{RUN}/3", "decision"),
        (f"{RUN}/3/2", "decision"),
        (f"{RUN}/3/0", "decision"),
        (f"{RUN}/3/01", "decision"),
        (f"{RUN}/3/x", "decision"),
        (f"{RUN}/1/1", "submission"),
        (f"{RUN}/2/2", "verdict"),
    ],
)
def test_a_row_in_the_name_of_a_step_that_does_not_append_it_is_found(key: str, kind: str) -> None:
    assert f"row 4 ({kind} by mallory@example.com) was never asked for by its workflow" in found(forged(key, kind))


def test_a_decision_of_a_run_that_never_was_is_found_however_old_it_says_to_be() -> None:
    run = "00000000-0000-4000-8000-000000000000"
    (said,) = found(forged(f"{run}/3/1", at=at(-100_000)))
    assert said.startswith(f"the history of its run {run}")
    assert said.endswith("is gone before its time")


def attempts_at_review(*keys: str, completed: str, traced: bool = True) -> Ticket:
    """A ticket whose review was tried twice: the first attempt approved, the second one refused."""
    first = APPROVAL.model_copy(update={"key": keys[0]})
    second = APPROVAL.model_copy(update={"sequence": 4, "key": keys[1], "kind": "decision.refused"})
    rows = (SUBMISSION, VERDICT, first, second, EXECUTION)
    steps = dict(GOOD.traces[0].steps) | {f"{RUN}/3": Step(name="review", key=completed, attempts=2)}
    traces = (replace(GOOD.traces[0], steps=steps),) if traced else ()
    return replace(GOOD, rows=rows, later=rows, traces=traces, kept_since=at(-1000 if traced else 1000))


@pytest.mark.parametrize(("completed", "counts"), [("1", True), ("2", False)])
def test_of_several_attempts_at_a_review_the_one_counts_that_the_workflow_heard_of(
    completed: str, *, counts: bool
) -> None:
    ticket = attempts_at_review(f"{RUN}/3/1", f"{RUN}/3/2", completed=f"{RUN}/3/{completed}")
    assert any("of whom no approval" in said for said in found(ticket)) is not counts


def test_of_several_attempts_at_a_review_the_last_one_counts_where_no_history_tells() -> None:
    ticket = attempts_at_review(f"{RUN}/3/1", f"{RUN}/3/2", completed="", traced=False)
    assert any("of whom no approval" in said for said in found(ticket))


HEARD = DecisionRecord(
    id="", verdict=DecisionVerdict.APPROVE, plan_digest=PLAN, by="ben@example.com", mode=None, comment="", at=NOON
)


@pytest.mark.parametrize(
    ("told", "agrees"),
    [
        ({}, True),
        ({"by": "cy@example.com"}, False),
        ({"refused": Refusal.BAD_SIGNATURE}, False),
        ({"plan_digest": "c" * 64}, False),
        ({"verdict": DecisionVerdict.REJECT}, False),
    ],
)
def test_a_decision_on_record_is_the_one_that_its_workflow_was_told(told: dict[str, Any], *, agrees: bool) -> None:
    step = replace(GOOD.traces[0].steps[f"{RUN}/3"], decision=HEARD.model_copy(update=told))
    traces = (replace(GOOD.traces[0], steps=dict(GOOD.traces[0].steps) | {f"{RUN}/3": step}),)
    said = found(replace(GOOD, traces=traces))
    assert [one.partition(":")[0] for one in said] == [
        "row 3 (decision by ben@example.com) says otherwise than its history"
    ] * (not agrees)


def test_a_history_that_is_gone_before_its_time_is_found() -> None:
    (said,) = found(replace(GOOD, traces=()))
    assert "is gone before its time" in said


def test_an_execution_without_a_verdict_is_found() -> None:
    assert any("without a verdict" in said for said in found(with_rows(SUBMISSION, APPROVAL, EXECUTION)))


@pytest.mark.parametrize("field", ["plan_digest", "fingerprint"])
def test_an_execution_of_other_than_was_judged_is_found(field: str) -> None:
    other = changed(VERDICT, **{field: "c" * 64})
    assert any("without a verdict" in said for said in found(with_rows(SUBMISSION, other, APPROVAL, EXECUTION)))


def test_an_execution_against_its_verdict_is_found() -> None:
    blocked = changed(VERDICT, verdict="block")
    (said,) = found(with_rows(SUBMISSION, blocked, APPROVAL, EXECUTION))
    assert "against the verdict block" in said


def rejected(approval: Placed) -> Placed:
    return changed(approval, verdict="reject")


def refused(approval: Placed) -> Placed:
    return approval.model_copy(update={"kind": "decision.refused"})


def of_other_rows(approval: Placed) -> Placed:
    return changed(approval, fingerprint="c" * 64)


def too_late(approval: Placed) -> Placed:
    return approval.model_copy(update={"sequence": 9, "key": f"{RUN}/9/1"})


@pytest.mark.parametrize("spoil", [rejected, refused, of_other_rows, too_late])
def test_an_execution_without_a_good_approval_is_found(spoil: Callable[[Placed], Placed]) -> None:
    rows = (SUBMISSION, VERDICT, spoil(APPROVAL), EXECUTION)
    said = found(replace(GOOD, rows=rows, later=rows, traces=(), kept_since=at(1000)))
    assert any("approved by ben@example.com, of whom no approval" in one for one in said)
    assert any("with 0 approvals on record of the 1" in one for one in said)


def test_one_person_under_two_names_makes_no_quorum() -> None:
    critical = changed(VERDICT, approvals_required=2)
    again = row(4, "decision", actor="Ben@Example.com", verdict="approve", **SEEN)
    (said,) = found(with_rows(SUBMISSION, critical, APPROVAL, again, EXECUTION))
    assert "with 1 approvals on record of the 2" in said


def test_an_approver_that_the_ledger_names_and_the_chain_does_not_is_found() -> None:
    longer = LEDGER.model_copy(update={"approved_by": ("ben@example.com", "cy@example.com")})
    said = found(replace(GOOD, executed=(longer,)))
    assert any("approved by cy@example.com, of whom no approval" in one for one in said)


@pytest.mark.parametrize(
    ("field", "value"), [("fingerprint", "c" * 64), ("executed_at", at(7)), ("approved_by", ("cy@example.com",))]
)
def test_a_ledger_row_that_was_changed_is_found(field: str, value: object) -> None:
    said = found(replace(GOOD, executed=(LEDGER.model_copy(update={field: value}),)))
    assert any("otherwise than row 5 says" in one for one in said)


def test_a_ledger_row_that_is_gone_is_found() -> None:
    (said,) = found(replace(GOOD, executed=()))
    assert said == f"row 5 has an execution of plan {PLAN[:12]}, which is not in the ledger"


@pytest.mark.parametrize("traces", [(), (trace(SUBMISSION, VERDICT, APPROVAL, ended="terminated"),)])
def test_an_execution_that_is_not_on_record_is_found(traces: tuple[Trace, ...]) -> None:
    rows = ROW_BY_ROW[:3]
    said = found(replace(GOOD, rows=rows, later=rows, traces=traces, kept_since=at(1000)))
    assert any("which is not on record as its end" in one for one in said)


def test_content_that_is_no_object_is_no_approval() -> None:
    odd = APPROVAL.model_copy(update={"content": ["approve"]})
    rows = (SUBMISSION, VERDICT, odd, EXECUTION)
    assert any("no approval" in said for said in found(replace(GOOD, rows=rows, later=rows)))
