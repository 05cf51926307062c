"""An agent for tests: it answers what the ticket's metadata says, and repeats why a plan was sent back."""

from standfast.context import Context
from standfast.plan import Plan


async def plan(context: Context) -> Plan:
    plan = Plan.model_validate(context.ticket.metadata["plan"])
    return plan.model_copy(update={"summary": " ".join([plan.summary, *context.feedback])})
