"""What the SDK gives a worker is what `standfast.runner` goes by, and ended workflows answer."""

from typing import Any
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.worker import Worker

from standfast.runner import DIRECT, InStep, SandboxedRunner, UnsandboxedRunner
from standfast.translation import AHEAD, ENDED, asked
from tests.processes import eventually


class Told:
    """Ends when it is told to."""

    def __init__(self) -> None:
        self._end = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self._end)

    @workflow.signal
    def end(self) -> None:
        self._end = True

    @workflow.query
    def is_told(self) -> bool:
        return self._end


@workflow.defn
class Sandboxed(Told):
    @workflow.run
    async def run(self) -> None:
        await super().run()


@workflow.defn(sandboxed=False)
class Unsandboxed(Told):
    @workflow.run
    async def run(self) -> None:
        await super().run()


def worker(temporal: Client, queue: str) -> Worker:
    return Worker(
        temporal,
        task_queue=queue,
        workflows=[Sandboxed, Unsandboxed],
        workflow_runner=SandboxedRunner(),
        unsandboxed_workflow_runner=UnsandboxedRunner(),
    )


async def started(temporal: Client, kind: type[Told], queue: str) -> WorkflowHandle[Any, Any]:
    """Start a workflow and return when its first task has ended."""
    told = await temporal.start_workflow(kind.__name__, id=queue, task_queue=queue)

    async def tasks() -> int:
        events = (await told.fetch_history()).events
        return sum(event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED for event in events)

    await eventually(tasks, bool)
    return told


@pytest.mark.parametrize("kind", [Sandboxed, Unsandboxed])
async def test_a_query_without_a_task_is_named_so_and_tasks_begin_at_times_of_their_own(
    kind: type[Told], temporal_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[WorkflowActivation] = []
    activate = InStep.activate

    def noting(self: InStep, act: WorkflowActivation) -> WorkflowActivationCompletion:
        given.append(act)
        return activate(self, act)

    monkeypatch.setattr(InStep, "activate", noting)
    temporal, queue = await Client.connect(temporal_server), f"runner-{uuid4().hex[:8]}"
    async with worker(temporal, queue):
        told = await started(temporal, kind, queue)
        assert not await told.query(Told.is_told)
        await told.signal(Told.end)
        await told.result()
    first, query, last, _ = given
    assert [job.query_workflow.query_id for job in query.jobs] == [DIRECT]
    assert (first.is_replaying, query.is_replaying, last.is_replaying) == (False, True, False)
    assert first.timestamp.ToNanoseconds() < last.timestamp.ToNanoseconds()
    assert first.history_length < last.history_length


@pytest.mark.parametrize("kind", [Sandboxed, Unsandboxed])
async def test_a_workflow_that_was_ended_with_events_that_no_task_has_taken_up_answers(
    kind: type[Told], temporal_server: str
) -> None:
    temporal, queue = await Client.connect(temporal_server), f"runner-{uuid4().hex[:8]}"
    async with worker(temporal, queue):
        told = await started(temporal, kind, queue)
    await told.signal(Told.end)
    await told.terminate()
    async with worker(temporal, queue):
        with pytest.raises(WorkflowQueryFailedError, match=f"{AHEAD}.* is_told{ENDED}$"):
            await told.query(Told.is_told)
        assert await asked(told, "is_told", bool)
