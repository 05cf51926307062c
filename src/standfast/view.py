"""The view: one ticket whole, as `show`, the page and the query `view` give it."""

from datetime import datetime

from standfast.context import Context
from standfast.decision import DecisionRecord, fits
from standfast.domain import Record
from standfast.outcome import Outcome, State
from standfast.plan import Plan
from standfast.report import Reminder, SafetyReport
from standfast.ticket import Ticket


class TicketView(Record):
    """Everything known about one ticket at this moment."""

    workflow_id: str
    ticket: Ticket
    state: State
    context: Context | None = None
    plan: Plan | None = None
    plan_number: int = 0
    """How many plans the agent has made, this one included."""
    report: SafetyReport | None = None
    decisions: tuple[DecisionRecord, ...] = ()
    """Accepted and refused, oldest first."""
    approvals: tuple[str, ...] = ()
    """Who has approved the present plan so far."""
    waiting_since: datetime | None = None
    """Since when people have been asked about the present plan and its effect."""
    reminders: tuple[Reminder, ...] = ()
    """Those of the present plan that are past."""
    outcome: Outcome | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When the time to decide ends, None before people are asked."""
        if self.waiting_since is None or self.report is None:
            return None
        return self.waiting_since + self.report.expires_in

    def may_approve(self, name: str) -> bool:
        """Tell whether the constraints, or a reminder that is past, let this person approve the present plan."""
        escalated = any(fits(name, reminder.approvers) for reminder in self.reminders)
        return escalated or self.report is None or all(fits(name, scope) for scope in self.report.approver_scopes)
