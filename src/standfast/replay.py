"""Replays histories on this code, as the workers of their pool would: the gate before this code is rolled out.

What a workflow did is in its history. Code that would do something else at any point of it can't go on where the
history ends: the ticket would stand still with its workflow task failing until other code is deployed.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace

from google.protobuf.json_format import ParseError
from temporalio import workflow
from temporalio.client import Client, HeaderCodecBehavior, WorkflowHistory
from temporalio.converter import DefaultFailureConverter
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from standfast import cluster, steps
from standfast.codec.converter import data_converter
from standfast.errors import InvalidInput
from standfast.plan import Plan
from standfast.planner.workflow import PlannerWorkflow
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.storage.external import external_storage
from standfast.store.databases import Databases
from standfast.translation import of_temporal
from standfast.worker import registrations

POOLS = (Pool.CORE, Pool.LLM)
"""Those that serve workflows."""
OPEN = 'ExecutionStatus = "Running"'
_LONGEST = 500  # characters of a reason
_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A history that was replayed."""

    pool: Pool
    """That serves the workflow."""
    workflow_id: str
    run_id: str
    breaks: str | None
    """Why this code can't go on where the history ends, on one line; None if it can."""


async def replayed(
    pool: Pool, settings: Settings, histories: AsyncIterator[WorkflowHistory]
) -> AsyncIterator[Replayed]:
    """Replay histories of workflows that `pool` serves, one at a time, as they come.

    Raises:
        InvalidInput: the settings of the pool are wrong; the llm pool needs its agent or its model and their keys.
    """
    async with (
        Databases(settings, application="standfast replay") as databases,
        external_storage(settings, databases, for_replay=True) as storage,
    ):
        served = registrations(pool, settings, databases)
        replayer = Replayer(
            workflows=[_Planner if one is PlannerWorkflow else one for one in served.workflows],
            plugins=served.plugins,
            # Its failures go nowhere, and their words are wanted.
            data_converter=replace(data_converter(settings, storage), failure_converter_class=DefaultFailureConverter),
            header_codec_behavior=HeaderCodecBehavior.CODEC,
            namespace=cluster.namespace(settings),
            runtime=_silent(),
        )
        async with replayer.workflow_replay_iterator(histories) as results:
            async for result in results:
                history = result.history
                breaks = None if result.replay_failure is None else _line(result.replay_failure)
                yield Replayed(pool=pool, workflow_id=history.workflow_id, run_id=history.run_id, breaks=breaks)


async def count(client: Client, condition: str = "") -> tuple[Mapping[Pool, int], int]:
    """Return how many workflows meet the visibility condition, by pool, and how many of other applications do.

    Raises:
        ServiceUnavailable: Temporal can't be reached.
    """
    with of_temporal():
        ours = {pool: (await client.count_workflows(_query(pool, condition))).count for pool in POOLS}
        all_together = (await client.count_workflows(condition)).count
    return ours, max(all_together - sum(ours.values()), 0)


async def histories(client: Client, pool: Pool, condition: str = "") -> AsyncGenerator[WorkflowHistory]:
    """Yield the histories of workflows of `pool` that meet the visibility condition, read when they are asked for.

    Raises:
        ServiceUnavailable: Temporal can't be reached.
    """
    with of_temporal():
        async for found in client.list_workflows(_query(pool, condition)):
            async for history in _of_run(client, found.id, found.run_id):
                yield history


async def _of_run(client: Client, workflow_id: str, run_id: str) -> AsyncGenerator[WorkflowHistory]:
    """Yield the history of a run, unless it ended and its time was over meanwhile."""
    try:
        yield await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def histories_of(client: Client, runs: Iterable[Replayed]) -> AsyncGenerator[WorkflowHistory]:
    """Yield the histories that were replayed as they are by now, read when they are asked for.

    Raises:
        ServiceUnavailable: Temporal can't be reached.
    """
    with of_temporal():
        for run in runs:
            async for history in _of_run(client, run.workflow_id, run.run_id):
                yield history


def parse_history(text: str, source: str) -> tuple[Pool, WorkflowHistory]:
    """Return a history that Temporal's UI or command line wrote as JSON, and the pool that serves its workflow.

    Raises:
        InvalidInput: naming `source`: it is no history, or one of another application.
    """
    try:
        history = WorkflowHistory.from_json("", text)
        started = history.events[0].workflow_execution_started_event_attributes
    except (ValueError, ParseError, IndexError, RecursionError) as error:
        raise InvalidInput(
            f"{source}: is no history as JSON, with payloads as they are stored: {error}; "
            "`temporal workflow show --output json --workflow-id ID` writes one"
        ) from None
    pool = next((pool for pool in POOLS if pool == started.task_queue.name), None)
    if pool is None:
        raise InvalidInput(f"{source}: its workflow is on task queue {started.task_queue.name!r}, none of ours")
    return pool, WorkflowHistory(started.workflow_id, history.events)


def _query(pool: Pool, condition: str) -> str:
    return f'TaskQueue = "{pool}"' + (f" AND {condition}" if condition else "")


def _silent() -> Runtime:
    """A runtime that logs nothing: what it has to say about a replay is in the result."""
    return Runtime(telemetry=TelemetryConfig(logging=None))


def _line(failure: Exception) -> str:
    """Return the messages of a failure and of its causes; the SDK gives them as its core would show them to itself."""
    said = [_ESCAPED.sub(_unescaped, message) for message in _MESSAGE.findall(str(failure))]
    text = " ".join(": ".join(said or [str(failure)]).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _unescaped(found: re.Match[str]) -> str:
    return " " if found[1] in "nrt" else found[1]


@workflow.defn(name=steps.PLANNER, sandboxed=False)
class _Planner(PlannerWorkflow):
    """The planner with an end of its own for every error but a difference from the history.

    The planner ends with any error there is, and to the SDK a difference is one: the replayer would wait for the rest
    of the history for ever.
    """

    @workflow.run
    async def run(self, request: steps.PlanRequest) -> Plan:
        try:
            return await super().run(request)
        except FailureError:
            raise
        except Exception as error:
            raise ApplicationError(str(error), type=type(error).__name__) from error
