"""Any async function can make the plans; it runs as one activity.

In standfast.toml:

[planner]
agent = "own_function:plan"
"""

from standfast.context import Context
from standfast.plan import Operation, Plan


async def plan(context: Context) -> Plan:
    """Cancel the order that the ticket is about."""
    order = context.ticket.subject.get("order_id")
    if order is None:
        return Plan(declined=True, summary="The ticket names no order.")
    cancel = Operation(
        sql="UPDATE orders SET status = $1 WHERE id = $2",
        params=("cancelled", order),
        reason="The ticket asks for it.",
        expect_rows=1,
    )
    return Plan(summary=f"Cancel order {order}.", operations=(cancel,))
