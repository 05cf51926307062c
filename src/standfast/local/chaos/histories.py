"""What histories tell: which work was done when, by which process, at which attempt."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from standfast.steps import ticket_of


class End(StrEnum):
    """How a piece of work ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class ActivityRun:
    """One activity with all its attempts. Only the last one is in the history, written when the activity ended."""

    workflow_id: str
    activity_id: str
    name: str
    queue: str
    scheduled_at: datetime
    started_at: datetime | None = None
    """When the last attempt began."""
    closed_at: datetime | None = None
    end: End | None = None
    attempt: int = 0
    identity: str = ""
    """Of the worker that had the last attempt, `PID@host`."""
    timed_out_before: bool = False
    """Whether the attempt before the last one was given up because nothing was heard of it."""
    failure_before: str = ""
    """The message of the attempt before the last one."""
    completions: int = 0
    """How often its completion is in the history."""


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """One workflow task."""

    workflow_id: str
    scheduled_at: datetime
    started_at: datetime | None = None
    closed_at: datetime | None = None
    end: End | None = None
    identity: str = ""


@dataclass(frozen=True, kw_only=True)
class History:
    """One workflow."""

    workflow_id: str
    activities: tuple[ActivityRun, ...] = ()
    tasks: tuple[TaskRun, ...] = ()
    children: tuple[str, ...] = ()
    """Workflow ids of its children."""

    @property
    def ticket(self) -> str:
        """The workflow id of the ticket that this is part of."""
        return ticket_of(self.workflow_id)


def read(workflow_id: str, events: Iterable[HistoryEvent]) -> History:
    """Return what the events of a workflow tell."""
    reader = _Reader(workflow_id)
    for event in events:
        reader.read(event)
    return reader.history()


_ENDS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: ("activity_task_completed_event_attributes", End.COMPLETED),
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: ("activity_task_failed_event_attributes", End.FAILED),
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: ("activity_task_timed_out_event_attributes", End.TIMED_OUT),
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: ("activity_task_canceled_event_attributes", End.CANCELLED),
}
_TASK_ENDS = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED: ("workflow_task_completed_event_attributes", End.COMPLETED),
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: ("workflow_task_failed_event_attributes", End.FAILED),
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: ("workflow_task_timed_out_event_attributes", End.TIMED_OUT),
}


class _Reader:
    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._activities: dict[int, ActivityRun] = {}
        self._tasks: dict[int, TaskRun] = {}
        self._children: list[str] = []

    def history(self) -> History:
        return History(
            workflow_id=self._workflow_id,
            activities=tuple(self._activities.values()),
            tasks=tuple(self._tasks.values()),
            children=tuple(self._children),
        )

    def read(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                self._activity(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                self._activity_started(event)
            case kind if kind in _ENDS:
                self._activity_ended(event)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                self._tasks[event.event_id] = TaskRun(workflow_id=self._workflow_id, scheduled_at=_time(event))
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                started = event.workflow_task_started_event_attributes
                self._task(started.scheduled_event_id, started_at=_time(event), identity=started.identity)
            case kind if kind in _TASK_ENDS:
                attribute, end = _TASK_ENDS[event.event_type]
                self._task(getattr(event, attribute).scheduled_event_id, closed_at=_time(event), end=end)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                self._children.append(event.start_child_workflow_execution_initiated_event_attributes.workflow_id)

    def _activity(self, event: HistoryEvent) -> None:
        scheduled = event.activity_task_scheduled_event_attributes
        self._activities[event.event_id] = ActivityRun(
            workflow_id=self._workflow_id,
            activity_id=scheduled.activity_id,
            name=scheduled.activity_type.name,
            queue=scheduled.task_queue.name,
            scheduled_at=_time(event),
        )

    def _activity_started(self, event: HistoryEvent) -> None:
        started = event.activity_task_started_event_attributes
        self._activities[started.scheduled_event_id] = replace(
            self._activities[started.scheduled_event_id],
            started_at=_time(event),
            attempt=started.attempt,
            identity=started.identity,
            timed_out_before=_timed_out(started.last_failure),
            failure_before=started.last_failure.message,
        )

    def _activity_ended(self, event: HistoryEvent) -> None:
        attribute, end = _ENDS[event.event_type]
        key = getattr(event, attribute).scheduled_event_id
        known = self._activities[key]
        self._activities[key] = replace(
            known, closed_at=_time(event), end=end, completions=known.completions + (end is End.COMPLETED)
        )

    def _task(self, key: int, **changes: object) -> None:
        self._tasks[key] = replace(self._tasks[key], **changes)  # type: ignore[arg-type]


def _timed_out(failure: Failure) -> bool:
    return failure.HasField("timeout_failure_info")


def _time(event: HistoryEvent) -> datetime:
    stamp: Timestamp = event.event_time
    return stamp.ToDatetime(tzinfo=UTC)
