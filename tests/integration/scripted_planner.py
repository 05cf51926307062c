"""An agent for tests: it answers what the ticket's metadata says, as an agent of one's own would."""

from standfast.context import Context
from standfast.plan import Plan


async def plan(context: Context) -> Plan:
    return Plan.model_validate(context.ticket.metadata["plan"])
