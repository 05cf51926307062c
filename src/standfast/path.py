"""Path evaluation: where a safety report sends a ticket. A pure function, so that the history explains it."""

from enum import StrEnum

from standfast.report import SafetyReport, Verdict

MAX_PLANS_IN_A_ROW = 3
"""How many plans the agent may make before findings that it could mend block the ticket."""


class Path(StrEnum):
    """What happens next."""

    RUN = "run"
    ASK = "ask"
    """A person decides."""
    REPLAN = "replan"
    """The findings go back to the agent."""
    BLOCK = "block"


def still_approved(approved: SafetyReport | None, report: SafetyReport) -> bool:
    """Tell whether what people approved still stands: the same plan, the same effect, and nothing new against it."""
    if approved is None or report.verdict is Verdict.BLOCK:
        return False
    seen = (approved.plan_digest, approved.fingerprint)
    return (
        (report.plan_digest, report.fingerprint) == seen
        and report.undo_proved >= approved.undo_proved
        and report.approvals_required <= approved.approvals_required
        and set(report.approver_scopes) <= set(approved.approver_scopes)
        and _objections(report) <= _objections(approved)
    )


def _objections(report: SafetyReport) -> set[tuple[int | None, str]]:
    of_plan: set[tuple[int | None, str]] = {(None, f.rule) for f in report.findings if f.verdict is not Verdict.AUTO}
    return of_plan | {(o.index, f.rule) for o in report.operations for f in o.findings if f.verdict is not Verdict.AUTO}


def evaluate(report: SafetyReport, *, plans_made: int, asked: bool) -> Path:
    """Return the path for `report`; `plans_made` counts the plans since a person last spoke, this one included.

    What people were `asked` about runs by itself no more, even if its effect is another by now.
    """
    if report.verdict is Verdict.AUTO:
        return Path.ASK if asked else Path.RUN
    if report.verdict is Verdict.APPROVAL:
        return Path.ASK
    blocking = [finding for finding in report.all_findings if finding.verdict is Verdict.BLOCK]
    if plans_made < MAX_PLANS_IN_A_ROW and blocking and all(finding.mendable for finding in blocking):
        return Path.REPLAN
    return Path.BLOCK
