"""An agent of one's own, named in the settings: a pydantic-ai agent, or a plain async function."""

import asyncio
import importlib
import inspect
import os
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from typing import Any

from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from temporalio import activity

from standfast import steps
from standfast.context import Context
from standfast.errors import InvalidInput
from standfast.plan import Plan
from standfast.planner.durable_agent import DurableAgent
from standfast.planner.playbooks import Playbook, PlaybookChoice
from standfast.planner.prompt import instructions
from standfast.steps import PLAN, PlanRequest, slack

PlanFunction = Callable[[Context], Awaitable[Plan]]

_EXPECTED = "expected a pydantic-ai Agent, or `async def plan(context: Context) -> Plan`"


class OwnFunction:
    """A planner that is one activity: an async function, which must not block the worker's event loop."""

    def __init__(self, name: str, function: PlanFunction) -> None:
        self._name = name
        self._function = function

    @property
    def activities(self) -> list[Callable[..., Any]]:
        """The activities that a worker has to serve for this function."""
        return [self.call]

    def serving(self) -> AbstractAsyncContextManager[None]:
        """Nothing is held while a worker runs."""
        return nullcontext()

    async def plan(self, request: PlanRequest) -> Plan:
        """Return the function's plan for the context of `request`."""
        context = request.context.model_copy(update={"feedback": request.feedback})
        return await PLAN(context, summary=f"call {self._name}", slack=slack(context.ticket))

    @activity.defn(name=PLAN.name)
    async def call(self, context: Context) -> Plan:
        """Call the function.

        Raises:
            RuntimeError: it raised something, or took too long.
            InvalidInput: it returned something else than a plan.
        """
        try:
            async with asyncio.timeout(steps.OWN_FUNCTION.total_seconds()) as bound:
                plan = await self._function(context)
        except (Exception, SystemExit) as error:
            said = f"raised {type(error).__name__}: {error}"
            if bound.expired():
                said = f"took longer than {steps.OWN_FUNCTION / timedelta(minutes=1):g} minutes"
            raise RuntimeError(f"planner.agent = {self._name!r} {said}") from error
        if not isinstance(plan, Plan):
            raise InvalidInput(f"planner.agent = {self._name!r} returned {plan!r:.200}; expected a standfast.plan.Plan")
        return plan


def load_agent(name: str, playbooks: Sequence[Playbook]) -> DurableAgent | OwnFunction:
    """Return the planner that `package.module:name` names.

    Raises:
        InvalidInput: the module can't be imported, has no such attribute, or it is no agent or function that makes
            plans.
    """
    module, _, attribute = name.partition(":")
    imported = _import(name, module)
    if not hasattr(imported, attribute):
        raise InvalidInput(f"planner.agent = {name!r}: module {module} has no {attribute!r}; {_EXPECTED}")
    value = getattr(imported, attribute)
    if isinstance(value, Agent):
        return _own_agent(name, value, playbooks)
    if inspect.iscoroutinefunction(value):
        return _own_function(name, value)
    kind = "a function, but not an async one" if inspect.isfunction(value) else f"of type {type(value).__name__}"
    raise InvalidInput(f"planner.agent = {name!r} is {kind}; {_EXPECTED}")


def _import(name: str, module: str) -> types.ModuleType:
    # A module next to standfast.toml is found as `python -m` would find it; last, so that it hides no installed one.
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.append(os.getcwd())  # noqa: PTH109
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"planner.agent = {name!r}: {error}; install it, or start the worker in the folder that holds it"
        ) from error
    except Exception as error:  # the user's module may fail in any way, a missing API key among them
        raise InvalidInput(
            f"planner.agent = {name!r}: importing {module} failed: {type(error).__name__}: {error}"
        ) from error


def _own_function(name: str, function: Callable[..., Any]) -> OwnFunction:
    signature = inspect.signature(function)
    try:
        signature.bind(object())
    except TypeError:
        wrong = f"planner.agent = {name!r} is `async def {function.__name__}{signature}`"
        raise InvalidInput(f"{wrong}, which can't be called with a context alone; {_EXPECTED}") from None
    return OwnFunction(name, function)


def _own_agent(name: str, agent: Agent[Any, Any], playbooks: Sequence[Playbook]) -> DurableAgent:
    answers = set(_output_types(agent.output_type))
    wrong = [answer for answer in answers if answer not in (Plan, PlaybookChoice)]
    if wrong:
        raise InvalidInput(
            f"planner.agent = {name!r} is an agent that answers {wrong[0]}; "
            "give it output_type=Plan (of standfast.plan) or [Plan, PlaybookChoice] (of standfast.planner.playbooks)"
        )
    if agent.deps_type not in (Context, object, type(None)):
        raise InvalidInput(
            f"planner.agent = {name!r} is an agent with deps_type {agent.deps_type.__name__}; "
            "only Context (of standfast.context) can be given to it, or nothing"
        )
    return DurableAgent(
        agent,
        name=agent.name or name.partition(":")[2],
        instructions=instructions(playbooks if PlaybookChoice in answers else ()),
        deps=(lambda request: request.context) if agent.deps_type is Context else (lambda _: None),
    )


def _output_types(output: Any) -> Iterator[Any]:
    """Yield the types in a pydantic-ai output specification; output functions are judged by what they return."""
    if isinstance(output, NativeOutput | PromptedOutput):
        yield from _output_types(output.outputs)
    elif isinstance(output, ToolOutput):
        yield from _output_types(output.output)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for item in output:
            yield from _output_types(item)
    elif typing.get_origin(output) in (typing.Union, types.UnionType):
        for item in typing.get_args(output):
            yield from _output_types(item)
    elif inspect.isfunction(output):
        yield inspect.get_annotations(output, eval_str=True).get("return")
    else:
        yield output
