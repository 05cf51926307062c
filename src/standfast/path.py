"""Path evaluation: where a safety report sends a ticket. A pure function, so that the history explains it."""

from enum import StrEnum

from standfast.report import SafetyReport, Verdict

MAX_PLANS = 3
"""How many plans the agent may make before findings that it could mend block the ticket."""


class Path(StrEnum):
    """What happens next."""

    RUN = "run"
    ASK = "ask"
    """A person decides."""
    REPLAN = "replan"
    """The findings go back to the agent."""
    BLOCK = "block"


def evaluate(report: SafetyReport, *, plans_made: int) -> Path:
    """Return the path for `report`; `plans_made` counts the plans since a person last spoke, this one included."""
    if report.verdict is Verdict.AUTO:
        return Path.RUN
    if report.verdict is Verdict.APPROVAL:
        return Path.ASK
    blocking = [finding for finding in report.all_findings if finding.verdict is Verdict.BLOCK]
    if plans_made < MAX_PLANS and blocking and all(finding.mendable for finding in blocking):
        return Path.REPLAN
    return Path.BLOCK
