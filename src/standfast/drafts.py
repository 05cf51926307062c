"""The plans that the agent made for one ticket, read from its workflow's histories."""

from collections.abc import Iterable, Mapping

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from standfast import steps
from standfast.codec.reading import of_workflow
from standfast.domain import Record
from standfast.plan import Plan
from standfast.report import SafetyReport


class Draft(Record):
    """One plan."""

    plan: Plan
    asked: tuple[str, ...]
    """Why the one before was sent back: findings, or a person's comment; nothing for the first one."""
    report: SafetyReport | None = None
    """The latest about it; None if it was never validated."""


async def drafts(runs: Iterable[WorkflowHistory], converter: DataConverter, namespace: str) -> list[Draft]:
    """Return the plans in the runs of one ticket, oldest first."""
    reader = _Reader(converter, namespace)
    for run in runs:
        for event in run.events:
            await reader.read(run.workflow_id, event)
    return reader.drafts


class _Reader:
    def __init__(self, converter: DataConverter, namespace: str) -> None:
        self.drafts: list[Draft] = []
        self._converter = converter
        self._namespace = namespace
        self._asked: Mapping[str, tuple[str, ...]] = {}
        self._validations: set[int] = set()

    async def read(self, workflow_id: str, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                await self._planning(event)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                await self._planned(event)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                self._validations.clear()  # event ids are unique in one run
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                if event.activity_task_scheduled_event_attributes.activity_type.name == steps.VALIDATE.name:
                    self._validations.add(event.event_id)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                await self._validated(workflow_id, event)

    async def _planning(self, event: HistoryEvent) -> None:
        child = event.start_child_workflow_execution_initiated_event_attributes
        (request,) = await self._of(child.workflow_id).decode(child.input.payloads, [steps.PlanRequest])
        self._asked = {child.workflow_id: request.feedback}

    async def _planned(self, event: HistoryEvent) -> None:
        child = event.child_workflow_execution_completed_event_attributes
        planner = child.workflow_execution.workflow_id
        (plan,) = await self._of(planner).decode(child.result.payloads, [Plan])
        self.drafts.append(Draft(plan=plan, asked=self._asked.get(planner, ())))

    async def _validated(self, workflow_id: str, event: HistoryEvent) -> None:
        completed = event.activity_task_completed_event_attributes
        if completed.scheduled_event_id in self._validations and self.drafts:
            (report,) = await self._of(workflow_id).decode(completed.result.payloads, [SafetyReport])
            self.drafts[-1] = self.drafts[-1].model_copy(update={"report": report})

    def _of(self, workflow_id: str) -> DataConverter:
        return of_workflow(self._converter, self._namespace, workflow_id)
