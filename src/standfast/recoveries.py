"""What failed on a ticket's way and how long it took to go on, read from a workflow's history.

A history keeps less than happened. Of an activity it has when it was asked for, when its last attempt began, and why
the attempt before that failed: not when an attempt failed, nor why the ones before did. So a recovery is measured from
when the step was asked for to when the attempt that answered began. That contains the whole failure, and also what
the lost attempts had done by then. Of a workflow task it has the first failure only, and when a task was completed
again, replay included. What interrupts no task leaves no trace: a worker that dies while nothing is asked of it, a
server that is back before a time-out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import EventType, RetryState, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo

from standfast import steps
from standfast.domain import Record

WORKFLOW = "workflow"
"""The step of a recovery in which no activity was interrupted but the workflow itself."""
WORKER_LOST = "worker-lost"
TIMED_OUT = "timed-out"
WORKFLOW_TASK_FAILED = "workflow-task-failed"

_STEPS = {
    steps.GATHER.name: "context",
    steps.VALIDATE.name: "validation",
    steps.REVIEW.name: "decision",
    steps.REMIND.name: "decision",
    steps.EXECUTE.name: "execution",
    steps.SETTLE.name: "execution",
    steps.CONCLUDE.name: "end",
}
_GAVE_UP = (RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED, RetryState.RETRY_STATE_TIMEOUT)


class Recovery(Record):
    """Something failed, and the work went on."""

    workflow_id: str
    event_id: int
    """Of the event in its history that tells of it."""
    step: str
    """One of context, planning, model, tool, validation, decision, execution, end, workflow."""
    failed: str
    """For counting: worker-lost, timed-out, workflow-task-failed, or the type of the error."""
    failure: str
    """What the last attempt failed with, in words."""
    attempt: int | None = None
    """The attempt that went on; None of a workflow task."""
    since: datetime
    """When the step was asked for that failed."""
    resumed_at: datetime | None
    """When the work went on; None if it did not so far."""

    @property
    def seconds(self) -> float | None:
        """How long it took at most, None if the work did not go on so far."""
        return None if self.resumed_at is None else round((self.resumed_at - self.since).total_seconds(), 3)

    @property
    def progress(self) -> str:
        """How it went on, in words."""
        if self.seconds is None:
            now = f"fails, attempt {self.attempt} is under way or due" if self.attempt else "has not gone on yet"
        else:
            now = f"went on{f' with attempt {self.attempt}' if self.attempt else ''} after {self.seconds:.1f} s"
        return f"{self.step} {now}"


def step_of(activity: str) -> str:
    """Return the step that an activity of this type belongs to."""
    if activity in _STEPS:
        return _STEPS[activity]
    return "model" if "model_request" in activity else "tool" if "tool" in activity else "planning"


def time_of(stamp: Timestamp) -> datetime:
    """Return a time of Temporal's."""
    return stamp.ToDatetime(tzinfo=UTC)


def recoveries(
    workflow_id: str, events: Iterable[HistoryEvent], pending: Iterable[PendingActivityInfo] = ()
) -> list[Recovery]:
    """Return the recoveries in one workflow's history, in their order.

    With `pending`, from the workflow's description, also what fails just now: a history has nothing of it.
    """
    reader = _Reader(workflow_id)
    for event in events:
        reader.read(event)
    return reader.finished(pending)


@dataclass(frozen=True)
class _Asked:
    """A task that was handed out."""

    event_id: int
    at: datetime
    activity: ActivityTaskScheduledEventAttributes


class _Reader:
    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._found: list[Recovery] = []
        self._asked: dict[int, _Asked] = {}
        self._started: dict[int, HistoryEvent] = {}
        self._task_at: datetime | None = None
        self._interrupted: Recovery | None = None
        """A workflow task that failed, and none was completed since."""
        self._readers = {
            EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: self._scheduled,
            EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: self._activity_started,
            EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: self._completed,
            EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: self._failed,
            EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: self._cancelled,
            EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED: self._task_scheduled,
            EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: self._task_timed_out,
            EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: self._task_failed,
            EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED: self._task_completed,
        }

    def read(self, event: HistoryEvent) -> None:
        if event.event_type in self._readers:
            self._readers[event.event_type](event)

    def finished(self, pending: Iterable[PendingActivityInfo]) -> list[Recovery]:
        found = [*self._found, self._interrupted] if self._interrupted else list(self._found)
        asked = {asked.activity.activity_id: asked for asked in self._asked.values()}
        for info in pending:
            if info.attempt > 1 and info.activity_id in asked:
                found.append(self._recovery(asked[info.activity_id], info.last_failure, info.attempt, None))
        return found

    def _scheduled(self, event: HistoryEvent) -> None:
        activity = event.activity_task_scheduled_event_attributes
        self._asked[event.event_id] = _Asked(event.event_id, time_of(event.event_time), activity)

    def _activity_started(self, event: HistoryEvent) -> None:
        self._started[event.activity_task_started_event_attributes.scheduled_event_id] = event

    def _completed(self, event: HistoryEvent) -> None:
        self._answered(event.activity_task_completed_event_attributes.scheduled_event_id)

    def _failed(self, event: HistoryEvent) -> None:
        failed = event.activity_task_failed_event_attributes
        if failed.retry_state not in _GAVE_UP:  # an error that is final is an answer, too
            self._answered(failed.scheduled_event_id)

    def _cancelled(self, event: HistoryEvent) -> None:
        self._answered(event.activity_task_canceled_event_attributes.scheduled_event_id)

    def _answered(self, scheduled_id: int) -> None:
        asked, event = self._asked.pop(scheduled_id), self._started.pop(scheduled_id, None)
        if event is None:
            return  # cancelled before any attempt began
        started = event.activity_task_started_event_attributes
        if started.attempt > 1:
            self._found.append(self._recovery(asked, started.last_failure, started.attempt, event))

    def _recovery(self, asked: _Asked, failure: Failure, attempt: int, went_on: HistoryEvent | None) -> Recovery:
        failed, words = _in_words(failure, asked.activity)
        return Recovery(
            workflow_id=self._workflow_id,
            event_id=asked.event_id if went_on is None else went_on.event_id,
            step=step_of(asked.activity.activity_type.name),
            failed=failed,
            failure=words,
            attempt=attempt,
            since=asked.at,
            resumed_at=None if went_on is None else time_of(went_on.event_time),
        )

    def _task_scheduled(self, event: HistoryEvent) -> None:
        self._task_at = time_of(event.event_time)

    def _task_timed_out(self, event: HistoryEvent) -> None:
        at = time_of(event.event_time)
        waited = f"{(at - (self._task_at or at)).total_seconds():.1f} s"
        sticky = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
        if event.workflow_task_timed_out_event_attributes.timeout_type == sticky:
            words = f"its worker went away (a task waited for it for {waited})"
        else:
            words = f"its worker went away in the middle of a task (no answer for {waited})"
        self._interrupt(event, WORKER_LOST, words)

    def _task_failed(self, event: HistoryEvent) -> None:
        failed = event.workflow_task_failed_event_attributes
        if failed.cause != WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND:  # mere news in between
            words = f"a worker failed on the workflow itself: {words_of(failed.failure)}"
            self._interrupt(event, WORKFLOW_TASK_FAILED, words)

    def _interrupt(self, event: HistoryEvent, failed: str, words: str) -> None:
        if self._interrupted is None:
            self._interrupted = Recovery(
                workflow_id=self._workflow_id,
                event_id=event.event_id,
                step=WORKFLOW,
                failed=failed,
                failure=words,
                since=self._task_at or time_of(event.event_time),
                resumed_at=None,
            )

    def _task_completed(self, event: HistoryEvent) -> None:
        if self._interrupted is not None:
            self._found.append(self._interrupted.model_copy(update={"resumed_at": time_of(event.event_time)}))
            self._interrupted = None


def _in_words(failure: Failure, activity: ActivityTaskScheduledEventAttributes) -> tuple[str, str]:
    """Return what failed, for counting and in words."""
    if not failure.HasField("timeout_failure_info"):
        kind = failure.application_failure_info.type or "unknown"
        return kind, words_of(failure)
    if failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT:
        silence = activity.heartbeat_timeout.ToTimedelta().total_seconds()
        return WORKER_LOST, f"the worker went away (no heartbeat for {silence:g} s)"
    limit = activity.start_to_close_timeout.ToTimedelta().total_seconds()
    return TIMED_OUT, f"no answer within {limit:g} s"


def words_of(failure: Failure) -> str:
    """Return what failed, in words and on one line."""
    return " ".join(_words(failure).split()) or "(without a message)"


def _words(failure: Failure) -> str:
    """Return what a failure says, and what its cause adds: the SDK hides errors behind words of its own."""
    cause = _words(failure.cause) if failure.HasField("cause") else ""
    return f"{failure.message}: {cause}" if cause and cause not in failure.message else failure.message
