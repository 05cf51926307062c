"""An agent for tests: it answers what the ticket's metadata says, and repeats why a plan was sent back.

A plan `mended` follows one that was sent back.
"""

from standfast.context import Context
from standfast.plan import Plan


async def plan(context: Context) -> Plan:
    plans = context.ticket.metadata
    plan = Plan.model_validate(plans["mended" if context.feedback and "mended" in plans else "plan"])
    return plan.model_copy(update={"summary": " ".join([plan.summary, *context.feedback])})
