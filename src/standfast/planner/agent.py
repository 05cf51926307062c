"""The agent that comes with Standfast: any provider's model or the one on this machine, with read-only tools."""

from collections.abc import Sequence
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

from standfast.errors import InvalidInput
from standfast.plan import Plan
from standfast.planner.durable_agent import DurableAgent
from standfast.planner.playbooks import Playbook, PlaybookChoice
from standfast.planner.prompt import instructions
from standfast.planner.tools import DatabaseTools, ToolDeps
from standfast.settings import Settings
from standfast.store.databases import Databases

LOCAL = "local"
_NAME = "planner"  # stands in activity names, hence in histories
_CORRECTIONS = 2  # how often a model may mend an answer or a tool call that doesn't fit its form


def built_in_agent(settings: Settings, databases: Databases, playbooks: Sequence[Playbook]) -> DurableAgent:
    """Return the agent for the model in the settings.

    Raises:
        InvalidInput: the model is unknown, or its provider lacks a key or a package.
    """
    answers: Any = [Plan, PlaybookChoice] if playbooks else Plan
    agent = Agent[ToolDeps, Any](
        _model(settings, playbooks),
        name=_NAME,
        deps_type=ToolDeps,
        output_type=answers,
        toolsets=[DatabaseTools(databases).toolset()],
        retries=_CORRECTIONS,
    )
    return DurableAgent(
        agent,
        name=_NAME,
        instructions=instructions(playbooks),
        deps=lambda request: ToolDeps(target=request.context.ticket.target, masked=request.context.masked),
    )


def _model(settings: Settings, playbooks: Sequence[Playbook]) -> Model:
    name = settings.planner.model
    if name == LOCAL:
        from standfast.planner.local_model import LocalModel  # noqa: PLC0415 - its libraries are only for it

        return LocalModel(settings.planner.local_url, playbooks)
    try:
        return infer_model(name)
    except (UserError, ImportError) as error:
        raise InvalidInput(f"planner.model = {name!r}: {error}") from error
