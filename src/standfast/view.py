"""The view: one ticket whole, as `show`, the page and the query `view` give it."""

from standfast.context import Context
from standfast.decision import DecisionRecord
from standfast.domain import Record
from standfast.outcome import Outcome, State
from standfast.plan import Plan
from standfast.report import SafetyReport
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
    outcome: Outcome | None = None
