"""Nothing is kept that ran ahead of its task for a query: a replay might not come to the same commands."""

from typing import Any

from temporalio.bridge.proto.workflow_activation import (
    FireTimer,
    InitializeWorkflow,
    QueryWorkflow,
    WorkflowActivation,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance

from standfast.runner import DIRECT, InStep
from standfast.translation import AHEAD, ENDED


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


def run(began: int, events: int, *, job: WorkflowActivationJob = LATER, replay: bool = False) -> WorkflowActivation:
    activation = WorkflowActivation(history_length=events, is_replaying=replay, jobs=[job])
    activation.timestamp.FromSeconds(began)
    return activation


def query(query_id: str = DIRECT, query_type: str = "view") -> WorkflowActivation:
    asked = QueryWorkflow(query_id=query_id, query_type=query_type)
    return WorkflowActivation(is_replaying=True, jobs=[WorkflowActivationJob(query_workflow=asked)])


LOADED = (run(1, 3, job=FIRST, replay=True), run(2, 9, replay=True))


def answered(*activations: WorkflowActivation) -> bool:
    """Whether the last of these, a query, is answered; all that comes before is run."""
    workflow = Workflow()
    instance = InStep(workflow)
    *before, last = [instance.activate(one).failed.failure.message for one in activations]
    assert not any(before)
    assert not last or last.startswith(AHEAD)
    assert workflow.ran == list(activations[: len(activations) - bool(last)])
    return not last


def test_what_was_replayed_answers() -> None:
    assert answered(*LOADED, query())


def test_a_workflow_that_began_here_answers() -> None:
    assert answered(run(1, 3, job=FIRST), query())
    assert answered(run(1, 3, job=FIRST), run(2, 9), query())


def test_a_workflow_of_which_this_worker_had_two_tasks_answers() -> None:
    assert answered(*LOADED, run(3, 14), run(4, 20), query())
    assert answered(*LOADED, query(), run(3, 14), query())


def test_events_that_no_task_has_taken_up_are_not_answered_for() -> None:
    assert not answered(*LOADED, run(2, 14), query())
    assert not answered(*LOADED, query(), run(2, 14), query())
    assert not answered(run(1, 3, job=FIRST), run(2, 9), run(2, 12), query())
    assert answered(*LOADED, run(2, 14), run(3, 20), run(4, 25), query())


def test_a_task_that_may_be_another_workers_is_not_answered_for() -> None:
    assert not answered(*LOADED, run(3, 14), query())
    assert not answered(*LOADED, run(3, 14), run(3, 14), query()), "one task in two parts"
    assert not answered(*LOADED, run(3, 14), run(4, 20), run(5, 26, replay=True), run(6, 31), query()), "an old copy"


def test_queries_that_come_with_a_task_are_answered() -> None:
    assert answered(*LOADED, run(3, 14), query("5d1b"))


def test_an_ended_workflow_is_answered_for_whatever_was_left_of_it() -> None:
    workflow = Workflow()
    instance = InStep(workflow)
    for activation in (*LOADED, run(2, 14), query(query_type=f"view{ENDED}")):
        instance.activate(activation)
    assert workflow.ran[-1].jobs[0].query_workflow.query_type == "view"
