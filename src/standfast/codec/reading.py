"""Reading a history: whose context its payloads have, and what the failures in it say."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter, WorkflowSerializationContext

_FAILURES: Mapping[int, Callable[[HistoryEvent], Failure]] = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: lambda e: e.activity_task_started_event_attributes.last_failure,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: lambda e: e.activity_task_failed_event_attributes.failure,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: lambda e: e.activity_task_timed_out_event_attributes.failure,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: lambda e: e.workflow_task_failed_event_attributes.failure,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: lambda e: e.workflow_execution_failed_event_attributes.failure,
}


def of_workflow(converter: DataConverter, namespace: str, workflow_id: str) -> DataConverter:
    """Return the converter for the payloads of one workflow and its activities."""
    return converter.with_context(WorkflowSerializationContext(namespace=namespace, workflow_id=workflow_id))


def failures(events: Iterable[HistoryEvent]) -> Iterator[Failure]:
    """Yield the failures in a history."""
    for event in events:
        if event.event_type in _FAILURES:
            yield _FAILURES[event.event_type](event)


async def reveal(found: Iterable[Failure], converter: DataConverter) -> None:
    """Put message and stack trace of each failure, and of its causes, where they are in one that was never encrypted.

    Raises:
        UnknownKey: a key is missing.
        PayloadRefused: a payload was changed, or belongs to another workflow than `converter`.
    """
    for failure in found:
        if failure.HasField("encoded_attributes"):
            (hidden,) = await converter.decode([failure.encoded_attributes])
            failure.message, failure.stack_trace = hidden["message"], hidden["stack_trace"]
            failure.ClearField("encoded_attributes")
        if failure.HasField("cause"):
            await reveal([failure.cause], converter)
