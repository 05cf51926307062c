"""An agent of your own, every model request and tool call of it durable.

In standfast.toml:

[planner]
agent = "own_agent:agent"
"""

from pydantic_ai import Agent

from standfast.plan import Plan

agent = Agent(
    "openai:gpt-5",
    output_type=Plan,
    instructions="You handle refunds. Refund an order by setting orders.status to 'refunded'. Convert amounts to EUR.",
)


@agent.tool_plain
async def rate_to_eur(currency: str) -> float:
    """Return how many EUR one unit of a currency is worth."""
    return {"EUR": 1.0, "USD": 0.92, "GBP": 1.17}[currency]
