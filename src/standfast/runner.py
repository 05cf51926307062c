"""How workers run the code of workflows: as the SDK does, but nothing is kept that ran ahead of Temporal for a query.

A worker that does not know a workflow loads its history for a query. If events wait there for a workflow task that has
not begun, or that a worker had which died, the SDK's core (1.35) runs the code over them, too, keeps what came of it,
and runs only what happened since when the task comes. A replay runs all of it at once, may come to other commands, and
the workflow stands still for ever. Here such a query fails, its worker forgets the workflow, and clients ask again. An
ended workflow gets no task any more: it can be asked for `view:ended`, say, and answers.

What a worker is given does not tell tasks that it has from those of others. So the first query after the first task
that follows a replay fails, too, though there was nothing wrong with it as a rule.
"""

from dataclasses import dataclass
from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import SerializationContext, StorageDriverStoreContext
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from temporalio.workflow import Info

from standfast.translation import AHEAD, ENDED

DIRECT = "legacy_query"
"""What the SDK calls a query that comes without a task."""


@dataclass(frozen=True)
class SandboxedRunner(SandboxedWorkflowRunner):
    """Runs workflows as the SDK does, but keeps nothing that ran ahead of its task."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See the base class."""
        return InStep(super().create_instance(det))


class UnsandboxedRunner(UnsandboxedWorkflowRunner):
    """The same for workflows that ask for no sandbox."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See the base class."""
        return InStep(super().create_instance(det))


class InStep(WorkflowInstance):
    """One workflow in a worker's memory, which answers queries while it is in step with its tasks."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._began = 0
        """When the last task began, in nanoseconds; what is run without a task is given the same time."""
        self._events = 0
        """How long the history was."""
        self._tasks = 0
        """How many tasks were run since the last replay."""
        self._in_step = False
        """Whether these tasks are this worker's for all we know."""
        self._ahead = False
        """Whether something was run without a task."""

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        queries = [job.query_workflow for job in act.jobs if job.HasField("query_workflow")]
        if not queries:
            self._note(act)
        for query in queries:
            if query.query_type.endswith(ENDED):
                query.query_type = query.query_type.removesuffix(ENDED)
            elif query.query_id == DIRECT and not self._may_answer():
                refused = WorkflowActivationCompletion()
                refused.failed.failure.message = (
                    f"{AHEAD}; if the workflow has ended, ask for {query.query_type}{ENDED}"
                )
                return refused
        return self._instance.activate(act)

    def _note(self, act: WorkflowActivation) -> None:
        """Take note of what is about to run."""
        began, events = act.timestamp.ToNanoseconds(), act.history_length
        if act.is_replaying:
            self._tasks, self._in_step, self._ahead = 0, False, False
        elif any(job.HasField("initialize_workflow") for job in act.jobs):
            self._in_step = True  # nobody is asked before the first task has ended
        elif began == self._began and events > self._events:
            self._ahead = True
        elif events != self._events:  # else it is the same task
            self._in_step = self._in_step or self._tasks > 0
            self._tasks += 1
            self._ahead = False
        self._began, self._events = began, events

    def _may_answer(self) -> bool:
        if self._tasks == 0 and not self._ahead:  # everything here has been replayed
            self._in_step = True
        return self._in_step and not self._ahead

    def get_serialization_context(self, command_info: Any) -> SerializationContext | None:
        return self._instance.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        return self._instance.get_external_store_context(command_info)

    def get_info(self) -> Info:
        return self._instance.get_info()

    def get_thread_id(self) -> int | None:
        return self._instance.get_thread_id()
