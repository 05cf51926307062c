"""A workflow is not run ahead of its tasks for a query: a replay might not come to the same commands."""

from typing import Any

import pytest
from temporalio.bridge.proto.workflow_activation import (
    FireTimer,
    InitializeWorkflow,
    QueryWorkflow,
    WorkflowActivation,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance

from standfast.runner import InStep
from standfast.translation import AHEAD


class Workflow(WorkflowInstance):
    """Takes note of what it is given to run."""

    def __init__(self) -> None:
        self.ran: list[WorkflowActivation] = []

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        self.ran.append(act)
        return WorkflowActivationCompletion()

    def get_serialization_context(self, command_info: Any) -> None:
        raise NotImplementedError

    def get_external_store_context(self, command_info: Any) -> Any:
        raise NotImplementedError

    def get_info(self) -> Any:
        raise NotImplementedError


FIRST = WorkflowActivationJob(initialize_workflow=InitializeWorkflow())
LATER = WorkflowActivationJob(fire_timer=FireTimer())
ALONE = WorkflowActivationJob(query_workflow=QueryWorkflow(query_id="legacy_query"))
WITH_TASK = WorkflowActivationJob(query_workflow=QueryWorkflow(query_id="5d1b"))


def run(job: WorkflowActivationJob, began: int, events: int, *, replay: bool = False) -> WorkflowActivation:
    activation = WorkflowActivation(history_length=events, is_replaying=replay, jobs=[job])
    activation.timestamp.FromSeconds(began)
    return activation


def loaded() -> list[WorkflowActivation]:
    return [run(FIRST, 1, 3, replay=True), run(LATER, 2, 9, replay=True)]


def answered(*activations: WorkflowActivation) -> bool:
    """Whether the last of these is run; all others have to be."""
    workflow = Workflow()
    instance = InStep(workflow)
    *before, last = [instance.activate(one).failed.failure.message for one in activations]
    assert not any(before)
    assert last in {"", AHEAD}
    assert workflow.ran == list(activations[: len(activations) - bool(last)])
    return not last


@pytest.mark.parametrize("query", [ALONE, WITH_TASK], ids=["alone", "with a task"])
def test_queries_are_answered_from_what_was_loaded_and_from_what_tasks_did(query: WorkflowActivationJob) -> None:
    at_end = run(query, 2, 9, replay=True)
    assert answered(*loaded(), at_end)
    assert answered(*loaded(), at_end, run(LATER, 3, 14), run(query, 3, 14, replay=True))
    assert answered(*loaded(), run(LATER, 3, 14), run(LATER, 4, 20), run(query, 4, 20, replay=True))
    assert answered(run(FIRST, 1, 3), run(query, 1, 3, replay=True))


def test_events_that_wait_for_a_task_are_not_run_for_a_query() -> None:
    assert not answered(*loaded(), run(LATER, 2, 14))


def test_what_has_happened_is_run_again_whatever_the_resolution_of_its_times() -> None:
    assert answered(*loaded(), run(LATER, 2, 14, replay=True))


def test_nor_are_those_of_a_task_that_another_worker_has() -> None:
    tail = run(LATER, 3, 14)
    assert answered(*loaded(), tail)  # may be a task of this worker
    assert answered(*loaded(), tail, run(WITH_TASK, 3, 14, replay=True))
    assert not answered(*loaded(), tail, run(ALONE, 3, 14, replay=True))
