"""How a ticket's workflow is started, whoever starts it: a client, or a batch."""

from datetime import timedelta
from typing import TypedDict

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
    memo: dict[str, str]
    search_attributes: TypedSearchAttributes
    static_summary: str


def start_options(ticket: Ticket) -> StartOptions:
    """Return how the workflow of `ticket` is started; one that exists already is never started again."""
    return StartOptions(
        id=ticket.workflow_id,
        task_queue=steps.Pool.CORE,
        task_timeout=steps.WORKFLOW_TASK + steps.slack(ticket),
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        memo={DIGEST: ticket.digest},
        search_attributes=visibility.at_start(ticket.target),
        static_summary=f"ticket {ticket.id} on {ticket.target}",
    )
