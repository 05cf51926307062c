"""Tickets that wait as far as lists can tell: workflows that nobody runs, with all that a real one has published."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import SearchAttributePair

from standfast import visibility
from standfast.carried import Start
from standfast.codec.requesters import requester_marks
from standfast.outcome import State
from standfast.report import Danger, Finding, OperationReport, RowCounts, SafetyReport, Verdict
from standfast.submission import start_options
from standfast.ticket import Ticket
from standfast.view import TicketView

NOBODY = "nobody"  # polls this queue


def report(danger: Danger = Danger.ORDINARY, *, rules: Sequence[str] = ("rows.limit",)) -> SafetyReport:
    """Return what validation would have said about a plan that is so dangerous."""
    counts = RowCounts(deleted=2) if danger is Danger.DELETING else RowCounts(updated=3)
    findings = [Finding(rule=rule, verdict=Verdict.APPROVAL, message="needs a person") for rule in rules]
    operation = OperationReport(
        index=0,
        verdict=Verdict.APPROVAL,
        kind="update",
        counts={"shop.orders": counts},
        findings=tuple(findings),
    )
    return SafetyReport(
        verdict=Verdict.APPROVAL,
        plan_digest="0" * 64,
        fingerprint="0" * 64,
        rehearsed_at=datetime.now(UTC),
        operations=(operation,),
        undo_proved=danger is not Danger.LASTING,
    )


async def wait_in_vain(
    temporal: Client, ticket: Ticket, found: SafetyReport, *, waited: timedelta = timedelta(), **changes: Any
) -> None:
    """Start a workflow for which lists show what they would for this ticket, had it waited for so long."""
    known = {"workflow_id": ticket.workflow_id, "ticket": ticket, "state": State.WAITING, "report": found}
    view = TicketView.model_validate({"waiting_since": datetime.now(UTC) - waited, **known}).model_copy(update=changes)
    options = start_options(ticket, requester_marks(temporal.data_converter, ticket.requester)[0])
    published = visibility.updates(view, options["search_attributes"])
    options["search_attributes"] = options["search_attributes"].updated(
        *(SearchAttributePair(update.key, update.value) for update in published)
    )
    options["memo"][visibility.SUMMARY] = visibility.TicketSummary.waiting(view)
    options["task_queue"] = NOBODY
    await temporal.start_workflow("Ticket", Start(ticket), **options)
