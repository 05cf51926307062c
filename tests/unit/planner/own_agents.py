"""Agents of one's own, right and wrong."""

from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, RunContext, ToolOutput
from pydantic_ai.durable_exec.temporal import TemporalDurability
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import FunctionToolset

from standfast.context import Context
from standfast.plan import Plan
from standfast.planner.playbooks import PlaybookChoice


class Reply(BaseModel):
    text: str


class Deps(BaseModel):
    url: str


async def tool(ctx: RunContext[Any]) -> str:
    return str(ctx)


async def make_plan(draft: str) -> Plan:
    return Plan(summary=draft)


async def make_text(draft: str) -> str:
    return draft


# pydantic-ai takes them all, its types don't say so.
EITHER: Any = Plan | PlaybookChoice
PLAN_OR_REPLY: Any = Plan | Reply
NATIVE: Any = NativeOutput([Plan, PlaybookChoice])

plans = Agent(TestModel(), output_type=Plan)
plans_or_playbooks = Agent(TestModel(), output_type=EITHER)
plans_by_tool = Agent[Any, Any](TestModel(), output_type=[ToolOutput(Plan), ToolOutput(PlaybookChoice)])
plans_natively = Agent(TestModel(), output_type=NATIVE)
plans_by_function = Agent[Any, Any](TestModel(), output_type=make_plan)
durable_itself = Agent(TestModel(), name="durable_itself", output_type=Plan, capabilities=[TemporalDurability()])
with_context = Agent(TestModel(), output_type=Plan, deps_type=Context)


@with_context.tool
async def requester(ctx: RunContext[Context]) -> str:
    return ctx.deps.ticket.requester


text = Agent(TestModel())
reply = Agent(TestModel(), output_type=PLAN_OR_REPLY)
text_by_function = Agent[Any, Any](TestModel(), output_type=make_text)
with_deps = Agent(TestModel(), output_type=Plan, deps_type=Deps)
without_model = Agent(output_type=Plan)
nameless_toolset = Agent(TestModel(), output_type=Plan, toolsets=[FunctionToolset([tool])])


async def function(context: Context) -> Plan:
    return Plan(summary=context.ticket.body)


def not_async(context: Context) -> Plan:
    return Plan(summary=context.ticket.body)


async def wants_more(context: Context, database: str) -> Plan:
    return Plan(summary=f"{context} {database}")


number = 7
