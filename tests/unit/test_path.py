"""Path evaluation: the model never decides whether a person is needed."""

from datetime import UTC, datetime

import pytest

from standfast.path import MAX_PLANS_IN_A_ROW, Path, evaluate, still_approved
from standfast.report import Finding, RowCounts, SafetyReport, Verdict, effect_sentence


def report(verdict: Verdict, *, mendable: tuple[bool, ...] = ()) -> SafetyReport:
    findings = tuple(Finding(rule="r", verdict=verdict, message="m", mendable=m) for m in mendable)
    now = datetime.now(UTC)
    return SafetyReport(verdict=verdict, plan_digest="d", fingerprint="f", rehearsed_at=now, findings=findings)


def test_a_clean_plan_runs() -> None:
    assert evaluate(report(Verdict.AUTO), plans_made=1, asked=False) is Path.RUN


def test_a_plan_that_people_are_asked_about_runs_by_itself_no_more() -> None:
    assert evaluate(report(Verdict.AUTO), plans_made=1, asked=True) is Path.ASK


def test_a_risky_plan_asks_a_person() -> None:
    assert evaluate(report(Verdict.APPROVAL, mendable=(True,)), plans_made=1, asked=False) is Path.ASK


def test_a_plan_with_an_error_goes_back_to_the_agent() -> None:
    assert evaluate(report(Verdict.BLOCK, mendable=(True, True)), plans_made=1, asked=False) is Path.REPLAN


@pytest.mark.parametrize("mendable", [(False,), (True, False), ()])
def test_a_forbidden_plan_is_blocked(mendable: tuple[bool, ...]) -> None:
    assert evaluate(report(Verdict.BLOCK, mendable=mendable), plans_made=1, asked=False) is Path.BLOCK


def test_the_agent_gets_a_bounded_number_of_tries() -> None:
    assert evaluate(report(Verdict.BLOCK, mendable=(True,)), plans_made=MAX_PLANS_IN_A_ROW, asked=False) is Path.BLOCK


def test_the_worst_finding_decides() -> None:
    assert Verdict.worst([Verdict.AUTO, Verdict.BLOCK, Verdict.APPROVAL]) is Verdict.BLOCK
    assert Verdict.worst([]) is Verdict.AUTO


def test_the_sentence_is_computed_from_counts() -> None:
    counts = [
        {"shop.orders": RowCounts(updated=2)},
        {"shop.orders": RowCounts(updated=1)},
        {"shop.refunds": RowCounts(inserted=1)},
    ]
    sentence = effect_sentence(counts, "shop")
    assert sentence == "Updates 3 rows in shop.orders, inserts 1 row in shop.refunds, deletes nothing, in shop."
    assert effect_sentence([{"shop.orders": RowCounts()}], "shop") == "Changes nothing in shop."


def test_an_approval_stands_for_the_same_plan_with_the_same_effect_and_nothing_new_against_it() -> None:
    approved = report(Verdict.APPROVAL, mendable=(False,))
    assert still_approved(approved, approved)
    assert still_approved(approved, report(Verdict.AUTO))
    assert not still_approved(None, approved)
    other_finding = (Finding(rule="freeze", verdict=Verdict.APPROVAL, message="m"),)
    assert not still_approved(approved.model_copy(update={"undo_proved": True}), approved)
    for changes in (
        {"plan_digest": "x"},
        {"fingerprint": "x"},
        {"approvals_required": 2},
        {"approver_scopes": (("*@example.com",),)},
        {"verdict": Verdict.BLOCK},
        {"findings": other_finding},
    ):
        assert not still_approved(approved, approved.model_copy(update=changes)), changes
