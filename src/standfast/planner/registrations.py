"""What the llm pool serves: the planner workflow, and the activities of whoever makes the plans."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic_ai.durable_exec.temporal import PydanticAIPayloadConverter, PydanticAIPlugin
from temporalio.converter import DataConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import Interceptor, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

from standfast.codec.converter import sharing
from standfast.errors import InvalidInput
from standfast.planner.agent import built_in_agent
from standfast.planner.durable_agent import DurableAgent
from standfast.planner.filling import Filler
from standfast.planner.journal import Journal
from standfast.planner.own_agent import OwnFunction, load_agent
from standfast.planner.playbooks import load_playbooks
from standfast.planner.workflow import PLANNER_OF_WORKER, PlannerWorkflow
from standfast.settings import Settings
from standfast.store.databases import Databases

_PayloadConverter = sharing(PydanticAIPayloadConverter)


class Registrations(NamedTuple):
    """What a worker or a replayer needs."""

    workflows: Sequence[type]
    activities: Sequence[Callable[..., Any]]
    plugins: Sequence[SimplePlugin]


class _Introduction(Interceptor):
    """Gives this worker's planner to the workflow, which can't build one: that takes settings and I/O."""

    def __init__(self, planner: DurableAgent | OwnFunction) -> None:
        self._planner = planner

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - temporalio's name
    ) -> type[WorkflowInboundInterceptor] | None:
        input.unsafe_extern_functions[PLANNER_OF_WORKER] = lambda: self._planner
        return None


def planner_registrations(settings: Settings, databases: Databases) -> Registrations:
    """Return what the llm pool serves. A replayer needs the workflows and the plugins.

    Raises:
        InvalidInput: the agent, the model or a playbook in the settings is wrong.
    """
    if settings.control.journal is None and settings.control.url is None:
        raise InvalidInput("control.journal is not set; the llm pool records the model's answers there")
    folder, own = settings.planner.playbooks, settings.planner.agent
    playbooks = load_playbooks(folder) if folder is not None else ()
    planner = load_agent(own, playbooks) if own is not None else built_in_agent(settings, databases, playbooks)
    return Registrations(
        workflows=[PlannerWorkflow],
        activities=[*planner.activities, Filler(playbooks).fill_playbook],
        plugins=[
            SimplePlugin(
                "standfast.planner",
                data_converter=lambda converter: replace(
                    converter or DataConverter(), payload_converter_class=_PayloadConverter
                ),
                interceptors=[_Introduction(planner), Journal(databases)],
                run_context=planner.serving,
            ),
            PydanticAIPlugin(),  # after ours, whose converter it keeps
        ],
    )
