"""The timeline of a ticket, read from the histories of its workflow and its planner workflows."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from standfast import telling
from standfast.domain import Record
from standfast.errors import PayloadLost
from standfast.recoveries import Recovery, recoveries, step_of, time_of, words_of
from standfast.spending import ModelCall
from standfast.steps import APPROVAL_DEADLINE, TICKET
from standfast.telling import NOTHING, Told
from standfast.ticket import Ticket
from standfast.visibility import TicketRow

Calls = Mapping[tuple[str, str], ModelCall]
"""Model calls that are on record, by run id and activity id."""

_BROKEN_OFF: Mapping[int, str] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed out",
}
_LEFT_OUT: tuple[Any, ...] = (None, "", (), [])


class TimelineEntry(Record):
    """One thing that happened."""

    at: datetime
    step: str
    """One of start, context, planning, model, tool, validation, decision, execution, timer, recovery, undo, end."""
    what: str
    outcome: str = ""
    """What came of it, in short."""
    failed: bool = False
    """True if it is worth a look: a failure, a refusal, a recovery."""
    detail: dict[str, Any] = Field(default_factory=dict)
    attempt: int | None = None
    """Of an activity; more than 1 means that it was retried."""
    workflow_id: str
    run_id: str
    event_id: int
    """The event in that run's history."""
    link: str | None = None
    """Address of that event in Temporal's own UI; None if the settings don't name one."""


async def timeline(
    history: WorkflowHistory,
    converter_of: Callable[[str], DataConverter],
    pending: Iterable[PendingActivityInfo] = (),
    calls: Calls | None = None,
) -> list[TimelineEntry]:
    """Return the entries of one run's history, oldest first. Events that only carry the engine are left out.

    `converter_of` a workflow id is the converter for that workflow's payloads. With `pending`, from the workflow's
    description, also what fails just now and is tried again. `calls` say what model calls took; None if this process
    can't know.

    Raises:
        UnknownKey: a key is missing.
        PayloadRefused: a payload was changed, or belongs to another workflow.
    """
    reader = _Reader(history, converter_of, calls)
    for event in history.events:
        await reader.read(event)
    found = recoveries(history.workflow_id, history.events, pending)
    return sorted(reader.entries + [_recovered(one, history.run_id) for one in found], key=lambda entry: entry.at)


def undo_asked_for(row: TicketRow, undo: Ticket, run_id: str) -> TimelineEntry:
    """Return the entry, in the timeline of the ticket that was executed, for one that was to take it back."""
    return TimelineEntry(
        at=row.started_at,
        step="undo",
        what=f"undo asked for by {undo.requester}",
        outcome=row.state,
        detail={"undo_ticket": row.workflow_id, "state": row.state, "requester": undo.requester},
        workflow_id=row.workflow_id,
        run_id=run_id,
        event_id=1,
    )


def _recovered(recovery: Recovery, run_id: str) -> TimelineEntry:
    """Return the recovery as an entry: at the time the work went on, or now."""
    known = {"seconds": recovery.seconds, "failed": recovery.failed, "failure": recovery.failure}
    return TimelineEntry(
        at=recovery.resumed_at or datetime.now(UTC),
        step="recovery",
        what=recovery.progress,
        failed=True,
        attempt=recovery.attempt,
        detail={name: value for name, value in known.items() if value is not None} | {"of": recovery.step},
        workflow_id=recovery.workflow_id,
        run_id=run_id,
        event_id=recovery.event_id,
    )


async def _kept(told: Awaitable[Told]) -> Told:
    """Return what a step says, or that it was large, and is not stored any more."""
    try:
        return await told
    except PayloadLost:
        return Told(words="what it said is not stored any more")


@dataclass(frozen=True)
class _Asked:
    """An activity that was asked for."""

    activity: ActivityTaskScheduledEventAttributes
    what: str
    at: datetime


class _Reader:
    def __init__(
        self, history: WorkflowHistory, converter_of: Callable[[str], DataConverter], calls: Calls | None
    ) -> None:
        self.entries: list[TimelineEntry] = []
        self._workflow_id, self._run_id = history.workflow_id, history.run_id
        self._converter_of, self._converter = converter_of, converter_of(history.workflow_id)
        self._calls = calls
        self._is_planner = False
        self._asked: dict[int, _Asked] = {}
        self._attempts: dict[int, int] = {}
        self._deadlines: set[int] = set()
        self._readers: Mapping[int, Callable[[HistoryEvent], Awaitable[None]]] = {
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: self._workflow_started,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: self._workflow_completed,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: self._workflow_failed,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: self._cancel_requested,
            **dict.fromkeys(_BROKEN_OFF, self._workflow_broken_off),
            EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: self._activity_scheduled,
            EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: self._activity_started,
            EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: self._activity_completed,
            EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: self._activity_failed,
            EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: self._activity_timed_out,
            EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: self._activity_cancelled,
            EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: self._planning,
            EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: self._planned,
            EventType.EVENT_TYPE_TIMER_STARTED: self._timer_started,
            EventType.EVENT_TYPE_TIMER_FIRED: self._timer_fired,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: self._signaled,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: self._updated,
        }

    async def read(self, event: HistoryEvent) -> None:
        if event.event_type in self._readers:
            await self._readers[event.event_type](event)

    def _add(self, event: HistoryEvent, step: str, what: str, told: Told = NOTHING, **known: Any) -> None:
        attempt = known.pop("attempt", None)
        detail = {name: value for name, value in (known | dict(told.detail)).items() if value not in _LEFT_OUT}
        self.entries.append(
            TimelineEntry(
                at=time_of(event.event_time),
                step=step,
                what=what,
                outcome=told.words,
                failed=told.failed,
                attempt=attempt,
                detail=detail,
                workflow_id=self._workflow_id,
                run_id=self._run_id,
                event_id=event.event_id,
            )
        )

    async def _workflow_started(self, event: HistoryEvent) -> None:
        started = event.workflow_execution_started_event_attributes
        self._is_planner = started.workflow_type.name != TICKET
        if self._is_planner:
            self._add(event, "planning", "planner workflow started")
        elif started.continued_execution_run_id:
            self._add(event, "start", "ticket workflow continued as new", before=started.continued_execution_run_id)
        else:
            told = await _kept(telling.of_start(started.input.payloads, self._converter))
            self._add(event, "start", "ticket workflow started", told, by=started.parent_workflow_execution.workflow_id)

    async def _workflow_completed(self, event: HistoryEvent) -> None:
        result = event.workflow_execution_completed_event_attributes.result.payloads
        self._end(event, "ended", NOTHING if self._is_planner else await _kept(telling.of_end(result, self._converter)))

    async def _workflow_failed(self, event: HistoryEvent) -> None:
        failure = event.workflow_execution_failed_event_attributes.failure
        self._end(event, "failed", Told(failed=True), failure=words_of(failure))

    async def _workflow_broken_off(self, event: HistoryEvent) -> None:
        self._end(event, _BROKEN_OFF[event.event_type], Told(failed=True))

    def _end(self, event: HistoryEvent, how: str, told: Told, **known: Any) -> None:
        step, what = ("planning", f"planner workflow {how}") if self._is_planner else ("end", how)
        self._add(event, step, what, told, **known)

    async def _cancel_requested(self, event: HistoryEvent) -> None:
        self._add(event, "decision", "cancellation requested")

    async def _planning(self, event: HistoryEvent) -> None:
        child = event.start_child_workflow_execution_initiated_event_attributes
        self._add(event, "planning", "planning", planner_workflow=child.workflow_id)

    async def _planned(self, event: HistoryEvent) -> None:
        child = event.child_workflow_execution_completed_event_attributes
        planner = child.workflow_execution.workflow_id
        number = planner.rpartition("/")[2]
        told = await _kept(telling.of_plan(child.result.payloads, self._converter_of(planner)))
        self._add(event, "planning", f"plan {number}", told, number=int(number))

    async def _timer_started(self, event: HistoryEvent) -> None:
        if await self._summary(event) == APPROVAL_DEADLINE:  # of the others their activities tell
            self._deadlines.add(event.event_id)

    async def _timer_fired(self, event: HistoryEvent) -> None:
        if event.timer_fired_event_attributes.started_event_id in self._deadlines:
            self._add(event, "timer", "deadline passed", Told(failed=True))

    async def _signaled(self, event: HistoryEvent) -> None:
        self._add(event, "decision", f"signal {event.workflow_execution_signaled_event_attributes.signal_name}")

    async def _updated(self, event: HistoryEvent) -> None:
        update = event.workflow_execution_update_accepted_event_attributes.accepted_request
        self._add(event, "decision", f"update {update.input.name}", update_id=update.meta.update_id)

    async def _activity_scheduled(self, event: HistoryEvent) -> None:
        activity = event.activity_task_scheduled_event_attributes
        what = await self._summary(event) or activity.activity_type.name
        self._asked[event.event_id] = _Asked(activity, what, time_of(event.event_time))

    async def _summary(self, event: HistoryEvent) -> str:
        if not event.user_metadata.HasField("summary"):
            return ""
        return str((await self._converter.decode([event.user_metadata.summary], [str]))[0])

    async def _activity_started(self, event: HistoryEvent) -> None:
        started = event.activity_task_started_event_attributes
        self._attempts[started.scheduled_event_id] = started.attempt

    async def _activity_completed(self, event: HistoryEvent) -> None:
        completed = event.activity_task_completed_event_attributes
        activity = self._asked[completed.scheduled_event_id].activity
        name, asked, answered = activity.activity_type.name, activity.input.payloads, completed.result.payloads
        told = self._bill(activity) or await _kept(telling.of_step(name, asked, answered, self._converter))
        self._activity_ended(event, completed.scheduled_event_id, "", told)

    async def _activity_failed(self, event: HistoryEvent) -> None:
        failed = event.activity_task_failed_event_attributes
        told = Told(failed=True, detail={"failure": words_of(failed.failure)})
        self._activity_ended(event, failed.scheduled_event_id, ": failed", told)

    async def _activity_timed_out(self, event: HistoryEvent) -> None:
        late = event.activity_task_timed_out_event_attributes
        told = Told(failed=True, detail={"failure": words_of(late.failure)})
        self._activity_ended(event, late.scheduled_event_id, ": timed out", told)

    async def _activity_cancelled(self, event: HistoryEvent) -> None:
        cancelled = event.activity_task_canceled_event_attributes
        self._activity_ended(event, cancelled.scheduled_event_id, ": cancelled", NOTHING)

    def _activity_ended(self, event: HistoryEvent, scheduled_id: int, how: str, told: Told) -> None:
        asked = self._asked[scheduled_id]
        seconds = round((time_of(event.event_time) - asked.at).total_seconds(), 3)
        step, attempt = step_of(asked.activity.activity_type.name), self._attempts.get(scheduled_id)
        self._add(event, step, asked.what + how, told, attempt=attempt, seconds=seconds)

    def _bill(self, activity: ActivityTaskScheduledEventAttributes) -> Told | None:
        """Return what a model call took, None of what is none."""
        if step_of(activity.activity_type.name) != "model":
            return None
        if self._calls is None:
            return Told(words="this process can't know tokens and price")
        call = self._calls.get((self._run_id, activity.activity_id))
        return Told(words="tokens and price are not on record") if call is None else telling.of_call(call)
