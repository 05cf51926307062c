"""The SDK gives a worker what `standfast.runner` goes by."""

import pytest
from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client
from temporalio.worker import Worker

from standfast.runner import ALONE, InStep, SandboxedRunner, UnsandboxedRunner
from tests.processes import eventually

QUEUE = "runner"


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
    temporal = await Client.connect(temporal_server)
    async with Worker(
        temporal,
        task_queue=QUEUE,
        workflows=[kind],
        workflow_runner=SandboxedRunner(),
        unsandboxed_workflow_runner=UnsandboxedRunner(),
    ):
        told = await temporal.start_workflow(kind.__name__, id=kind.__name__, task_queue=QUEUE)
        await eventually(told.describe, lambda known: known.history_length > 3)  # its first task has ended
        assert not await told.query(Told.is_told)
        await told.signal(Told.end)
        await told.result()
    first, query, last, _ = given
    assert [job.query_workflow.query_id for job in query.jobs] == [ALONE]
    assert (first.is_replaying, query.is_replaying, last.is_replaying) == (False, True, False)
    assert first.timestamp.ToNanoseconds() < last.timestamp.ToNanoseconds()
    assert first.history_length < last.history_length
