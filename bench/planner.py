"""An agent that answers at once: what it says stands in the ticket. It makes the rest of the pipeline measurable."""

from typing import Any

from standfast.context import Context
from standfast.plan import Plan
from standfast.ticket import Ticket

FIRST_ORDER, ORDERS = 1001, 1200  # of the sample shop


def ticket(number: int, *, prefix: str = "T", needs_approval: bool = False) -> Ticket:
    """Return the n-th ticket; they go round the orders of the shop."""
    ticket_id, order = f"{prefix}-{number:06}", FIRST_ORDER + number % ORDERS
    words = f"seen {number}"  # no ticket's id: what is in the shop is in other tickets' contexts
    value = f"{words}, which nobody asked for" if needs_approval else words
    return Ticket(
        id=ticket_id,
        body=f"Please note on order {order}: {words}.",
        requester="ana@example.com",
        target="shop",
        subject={"order_id": order},
        metadata={"plan": note(value, order)},
    )


def note(value: str, order: int) -> dict[str, Any]:
    """Return a plan that changes one row; done twice it would show."""
    sql = "UPDATE shop.orders SET note = note || $1 WHERE id = $2"
    return {"operations": [{"sql": sql, "params": [value, order], "expect_rows": 1}]}


async def plan(context: Context) -> Plan:
    """Return the plan that the ticket carries."""
    return Plan.model_validate(context.ticket.metadata["plan"])
