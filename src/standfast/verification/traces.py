"""Reading what Temporal's histories say about the audit chain."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from standfast import cluster, steps
from standfast.audit import EACH_ATTEMPT
from standfast.decision import DecisionRecord
from standfast.errors import PayloadLost, PayloadRefused, ServiceUnavailable, UnknownKey
from standfast.verification.evidence import STEPS, Step, Trace

_ENDS = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "completed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed out",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continued as new",
}
_NO_SUCH_RUN = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)


async def trace(client: Client, workflow_id: str, run_id: str) -> Trace | None:
    """Return what a run's history says, None if Temporal has no such history.

    Raises:
        ServiceUnavailable: Temporal can't be reached.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    context = WorkflowSerializationContext(namespace=client.namespace, workflow_id=workflow_id)
    reader = _Reader(run_id, client.data_converter.with_context(context))
    try:
        async for event in handle.fetch_history_events():
            await reader.read(event)
    except RPCError as error:
        if error.status in _NO_SUCH_RUN:
            return None
        raise ServiceUnavailable(f"Temporal: {error.message}; try again") from error
    return reader.trace()


async def runs(client: Client, query: str) -> AsyncIterator[tuple[str, str]]:
    """Yield workflow id and run id of all runs that a query finds.

    Raises:
        ServiceUnavailable: Temporal can't be reached.
    """
    try:
        async for found in client.list_workflows(query):
            yield found.id, found.run_id
    except RPCError as error:
        raise ServiceUnavailable(f"Temporal: {error.message}; try again") from error


async def retention(client: Client) -> timedelta:
    """Return for how long Temporal keeps a history after its end.

    Raises:
        ServiceUnavailable: Temporal can't be reached.
    """
    try:
        return await cluster.retention(client)
    except RPCError as error:
        raise ServiceUnavailable(f"Temporal: {error.message}; try again") from error


@dataclass(frozen=True, kw_only=True)
class _Asked:
    name: str
    activity_id: str
    run_id: str = ""
    """Set once it is known that it was another run: the history of a run that was reset begins with that one's."""
    attempts: int | None = None
    completed: bool = False
    hash: str = ""
    decision: DecisionRecord | None = None


class _Reader:
    def __init__(self, run_id: str, converter: DataConverter) -> None:
        self._run_id = run_id
        self._converter = converter
        self._asked: dict[int, _Asked] = {}
        self._ended = ""
        self._unreadable: list[str] = []

    def trace(self) -> Trace:
        found = {}
        for asked in self._asked.values():
            place = f"{asked.run_id or self._run_id}/{asked.activity_id}"
            key = f"{place}/{asked.attempts}" if asked.name in EACH_ATTEMPT else place
            found[place] = Step(
                name=asked.name,
                key=key if asked.completed else "",
                hash=asked.hash,
                decision=asked.decision,
                attempts=asked.attempts,
            )
        return Trace(run_id=self._run_id, ended=self._ended, steps=found, unreadable=self._unreadable)

    async def read(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                if scheduled.activity_type.name in STEPS:
                    asked = _Asked(name=scheduled.activity_type.name, activity_id=scheduled.activity_id)
                    self._asked[event.event_id] = asked
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                started = event.activity_task_started_event_attributes
                self._note(started.scheduled_event_id, attempts=started.attempt)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                await self._completed(event)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                failed = event.workflow_task_failed_event_attributes
                if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
                    self._reset(failed.base_run_id)
            case end if end in _ENDS:
                self._ended = _ENDS[end]

    def _reset(self, base_run_id: str) -> None:
        """What was completed so far was the other run's; what was not is done anew by this one."""
        for number, asked in self._asked.items():
            if asked.completed:
                self._note(number, run_id=asked.run_id or base_run_id)

    async def _completed(self, event: HistoryEvent) -> None:
        completed = event.activity_task_completed_event_attributes
        number = completed.scheduled_event_id
        if number not in self._asked:
            return
        self._note(number, completed=True)
        try:
            await self._told(number, completed.result.payloads)
        except (UnknownKey, PayloadLost, PayloadRefused) as error:
            self._unreadable.append(str(error))

    async def _told(self, number: int, payloads: Sequence[Payload]) -> None:
        match self._asked[number].name:
            case steps.REVIEW.name:
                (decision,) = await self._converter.decode(payloads, [DecisionRecord])
                self._note(number, hash=decision.receipt, decision=decision)
            case steps.CONCLUDE.name:
                (told,) = await self._converter.decode(payloads, [str])
                self._note(number, hash=told)

    def _note(self, number: int, **changes: Any) -> None:
        if number in self._asked:
            self._asked[number] = replace(self._asked[number], **changes)
