"""How a ticket's workflow is started, whoever starts it: a client, or a batch."""

from datetime import timedelta
from typing import Any, TypedDict

from temporalio.common import TypedSearchAttributes, WorkflowIDReusePolicy

from standfast import steps, visibility
from standfast.ticket import Ticket

DIGEST = "ticket_digest"
"""In the memo of the workflow: tells the same ticket from another one under the same id."""


class StartOptions(TypedDict):
    """Arguments for Temporal, the same for a workflow that a client starts and for a child workflow."""

    id: str
    task_queue: str
    task_timeout: timedelta
    id_reuse_policy: WorkflowIDReusePolicy
    memo: dict[str, Any]
    search_attributes: TypedSearchAttributes
    static_summary: str


def start_options(ticket: Ticket, requester_mark: str) -> StartOptions:
    """Return how the workflow of `ticket` is started; one that exists already is never started again.

    The mark (see `standfast.codec.requesters`) is made with a key, which workflows don't have.
    """
    return StartOptions(
        id=ticket.workflow_id,
        task_queue=steps.Pool.CORE,
        task_timeout=steps.WORKFLOW_TASK + steps.slack(ticket),
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        memo={DIGEST: ticket.digest, visibility.SUMMARY: visibility.TicketSummary.at_start(ticket)},
        search_attributes=visibility.at_start(ticket.target, requester_mark),
        static_summary=f"ticket {ticket.id} on {ticket.target}",
    )
