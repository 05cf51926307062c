"""The timeline of a ticket, read from the histories of its workflow and its planner workflows."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.converter import DataConverter

from standfast.domain import Record
from standfast.recoveries import Recovery, recoveries, step_of, time_of
from standfast.steps import APPROVAL_DEADLINE

_PLAIN: dict[int, tuple[str, str]] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: ("decision", "cancellation requested"),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: ("end", "ended"),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: ("end", "failed"),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: ("end", "cancelled"),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: ("end", "terminated"),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: ("end", "timed out"),
}


class TimelineEntry(Record):
    """One thing that happened."""

    at: datetime
    step: str
    """One of start, context, planning, model, tool, validation, decision, execution, timer, recovery, end."""
    what: str
    detail: dict[str, Any] = Field(default_factory=dict)
    attempt: int | None = None
    """Of an activity; more than 1 means that it was retried."""
    workflow_id: str


async def timeline(
    workflow_id: str,
    events: Sequence[HistoryEvent],
    converter: DataConverter,
    pending: Iterable[PendingActivityInfo] = (),
) -> list[TimelineEntry]:
    """Return the entries of one workflow's history, oldest first. Events that only carry the engine are left out.

    With `pending`, from the workflow's description, also what fails just now and is tried again.
    """
    reader = _Reader(workflow_id, converter)
    for event in events:
        await reader.read(event)
    entries = reader.entries + [_recovered(found) for found in recoveries(workflow_id, events, pending)]
    return sorted(entries, key=lambda entry: entry.at)


def _recovered(recovery: Recovery) -> TimelineEntry:
    """Return the recovery as an entry: at the time the work went on, or now."""
    known = {"seconds": recovery.seconds, "failed": recovery.failed, "failure": recovery.failure}
    return TimelineEntry(
        at=recovery.resumed_at or datetime.now(UTC),
        step="recovery",
        what=recovery.progress,
        attempt=recovery.attempt,
        detail={name: value for name, value in known.items() if value is not None} | {"of": recovery.step},
        workflow_id=recovery.workflow_id,
    )


class _Reader:
    def __init__(self, workflow_id: str, converter: DataConverter) -> None:
        self.entries: list[TimelineEntry] = []
        self._workflow_id = workflow_id
        self._converter = converter
        self._is_planner = False
        self._scheduled: dict[int, tuple[str, str, datetime]] = {}
        self._attempts: dict[int, int] = {}
        self._deadlines: set[int] = set()
        self._readers: dict[int, Callable[[HistoryEvent], None]] = {
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: self._workflow_started,
            EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: self._activity_started,
            EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: self._activity_completed,
            EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: self._activity_failed,
            EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: self._activity_timed_out,
            EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: self._activity_cancelled,
            EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: self._planning,
            EventType.EVENT_TYPE_TIMER_FIRED: self._timer_fired,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: self._signaled,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: self._updated,
        }

    async def read(self, event: HistoryEvent) -> None:
        kind = event.event_type
        if kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            await self._activity_scheduled(event)
        elif kind == EventType.EVENT_TYPE_TIMER_STARTED:
            await self._timer_started(event)
        elif kind in self._readers:
            self._readers[kind](event)
        elif kind in _PLAIN:
            step, what = _PLAIN[kind]
            if self._is_planner and step == "end":
                step, what = "planning", f"planner workflow {what}"
            self._add(event, step, what)

    def _add(self, event: HistoryEvent, step: str, what: str, attempt: int | None = None, **detail: Any) -> None:
        self.entries.append(
            TimelineEntry(
                at=time_of(event.event_time),
                step=step,
                what=what,
                attempt=attempt,
                detail={k: v for k, v in detail.items() if v},
                workflow_id=self._workflow_id,
            )
        )

    def _workflow_started(self, event: HistoryEvent) -> None:
        started = event.workflow_execution_started_event_attributes
        name = started.workflow_type.name
        self._is_planner = name != "Ticket"
        how = "continued as new" if started.continued_execution_run_id else "started"
        self._add(event, "planning" if self._is_planner else "start", f"{name.lower()} workflow {how}")

    def _planning(self, event: HistoryEvent) -> None:
        child = event.start_child_workflow_execution_initiated_event_attributes
        self._add(event, "planning", "planning", planner_workflow=child.workflow_id)

    async def _timer_started(self, event: HistoryEvent) -> None:
        if await self._summary(event) == APPROVAL_DEADLINE:  # of the others their activities tell
            self._deadlines.add(event.event_id)

    def _timer_fired(self, event: HistoryEvent) -> None:
        if event.timer_fired_event_attributes.started_event_id in self._deadlines:
            self._add(event, "timer", "deadline passed")

    def _signaled(self, event: HistoryEvent) -> None:
        self._add(event, "decision", f"signal {event.workflow_execution_signaled_event_attributes.signal_name}")

    def _updated(self, event: HistoryEvent) -> None:
        update = event.workflow_execution_update_accepted_event_attributes.accepted_request
        self._add(event, "decision", f"update {update.input.name}", update_id=update.meta.update_id)

    async def _activity_scheduled(self, event: HistoryEvent) -> None:
        name = event.activity_task_scheduled_event_attributes.activity_type.name
        summary = await self._summary(event)
        self._scheduled[event.event_id] = (step_of(name), summary or name, time_of(event.event_time))

    async def _summary(self, event: HistoryEvent) -> str:
        if not event.user_metadata.HasField("summary"):
            return ""
        return str((await self._converter.decode([event.user_metadata.summary], [str]))[0])

    def _activity_started(self, event: HistoryEvent) -> None:
        started = event.activity_task_started_event_attributes
        self._attempts[started.scheduled_event_id] = started.attempt

    def _activity_completed(self, event: HistoryEvent) -> None:
        self._activity_ended(event, event.activity_task_completed_event_attributes.scheduled_event_id)

    def _activity_failed(self, event: HistoryEvent) -> None:
        failed = event.activity_task_failed_event_attributes
        self._activity_ended(event, failed.scheduled_event_id, ": failed", failed.failure.message)

    def _activity_timed_out(self, event: HistoryEvent) -> None:
        late = event.activity_task_timed_out_event_attributes
        self._activity_ended(event, late.scheduled_event_id, ": timed out", late.failure.message)

    def _activity_cancelled(self, event: HistoryEvent) -> None:
        cancelled = event.activity_task_canceled_event_attributes
        self._activity_ended(event, cancelled.scheduled_event_id, ": cancelled")

    def _activity_ended(self, event: HistoryEvent, scheduled_id: int, how: str = "", failure: str = "") -> None:
        step, what, scheduled_at = self._scheduled[scheduled_id]
        attempt = self._attempts.get(scheduled_id)
        seconds = round((time_of(event.event_time) - scheduled_at).total_seconds(), 3)
        self._add(event, step, what + how, attempt, seconds=seconds, failure=failure)
