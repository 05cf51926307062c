"""How workers run the code of workflows: as the SDK does, but never ahead of Temporal.

A worker that does not know a workflow loads its history for a query. If events wait there for a workflow task that has
not begun, or that a worker had which died, the SDK's core (1.35) runs the code over them, too, keeps what came of it,
and runs only what happened since when the task comes. A replay runs all of it at once, may come to other commands, and
the workflow stands still for ever. Here such a query fails, its worker forgets the workflow, and clients ask again.
"""

from dataclasses import dataclass
from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import SerializationContext, StorageDriverStoreContext
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from temporalio.workflow import Info

from standfast.translation import AHEAD

ALONE = "legacy_query"
"""What the SDK calls a query that comes without a task."""


@dataclass(frozen=True)
class SandboxedRunner(SandboxedWorkflowRunner):
    """Runs workflows as the SDK does, but not ahead of their tasks."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See the base class."""
        return InStep(super().create_instance(det))


class UnsandboxedRunner(UnsandboxedWorkflowRunner):
    """The same for workflows that ask for no sandbox."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See the base class."""
        return InStep(super().create_instance(det))


class InStep(WorkflowInstance):
    """One workflow in a worker's memory, which is never ahead of its tasks."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._began = 0
        """When the task of the last run began, in nanoseconds; what is run without one is given the time before."""
        self._events = 0
        self._open = False
        """Whether the task of the last run may not have ended; those of replayed ones have."""
        self._in_step = False
        """Whether a task has ended here, or a query found nothing but tasks that have ended."""

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        queries = [job.query_workflow.query_id for job in act.jobs if job.HasField("query_workflow")]
        if self._is_ahead_for(queries) if queries else self._is_ahead(act):
            refused = WorkflowActivationCompletion()
            refused.failed.failure.message = AHEAD
            return refused
        return self._instance.activate(act)

    def _is_ahead(self, act: WorkflowActivation) -> bool:
        began, events = act.timestamp.ToNanoseconds(), act.history_length
        without_task = not act.is_replaying and began == self._began and events > self._events
        self._began, self._events = began, events
        self._in_step = self._in_step or self._open
        if not act.is_replaying:
            self._open = True
            # No query comes before the first task has ended.
            self._in_step = self._in_step or any(job.HasField("initialize_workflow") for job in act.jobs)
        return without_task

    def _is_ahead_for(self, queries: list[str]) -> bool:
        self._in_step = self._in_step or not self._open
        return ALONE in queries and not self._in_step

    def get_serialization_context(self, command_info: Any) -> SerializationContext | None:
        return self._instance.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        return self._instance.get_external_store_context(command_info)

    def get_info(self) -> Info:
        return self._instance.get_info()

    def get_thread_id(self) -> int | None:
        return self._instance.get_thread_id()
