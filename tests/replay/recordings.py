"""Recorded histories: how they are kept, and what one of them says."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from standfast.batch import BatchState, Progress
from standfast.outcome import Outcome, State
from standfast.plan import Plan
from standfast.replay import parse_history

FOLDER = Path(__file__).parent / "histories"
VERSION = version("standfast")
"""Recordings of this version are made anew; those of released versions stay, as their tickets may still wait."""
_RESULTS: Mapping[str, type[Any]] = {"Ticket": Outcome, "Planner": Plan, "Batch": Progress}
_MACHINE = frozenset({"identity", "stackTrace"})  # what tells of the machine that recorded


async def runs(client: Client, workflow_id: str) -> list[WorkflowHistory]:
    """Return the histories of all runs of a workflow, the first one first."""
    found: list[WorkflowHistory] = []
    latest = await client.get_workflow_handle(workflow_id).fetch_history()
    run_id = latest.events[0].workflow_execution_started_event_attributes.first_execution_run_id
    while run_id:
        found.append(await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history())
        run_id = found[-1].events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return found


def keep(name: str, histories: Sequence[WorkflowHistory], folder: Path) -> None:
    """Write the runs of one workflow as Temporal's command line would, without what tells of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob(f"{name}.*.json.gz"):
        earlier.unlink()
    for number, history in enumerate(histories, start=1):
        text = json.dumps(_anywhere(history.to_json_dict()), separators=(",", ":"))
        (folder / f"{name}.{number}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def recorded(name: str, folder: Path) -> list[WorkflowHistory]:
    """Return the runs of one workflow, the first one first."""
    files = sorted(folder.glob(f"{name}.*.json.gz"))
    return [parse_history(text_of(file), file.name)[1] for file in files]


def text_of(recording: Path) -> str:
    """Return the JSON of a recorded history."""
    return gzip.decompress(recording.read_bytes()).decode()


def ending(history: WorkflowHistory) -> State | BatchState | Plan:
    """Return the state that a ticket or a batch ended in, or the plan that a planner made.

    Raises:
        AssertionError: the workflow has not ended.
    """
    last = history.events[-1]
    match last.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            return State.FAILED
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
            return State.CANCELLED
    assert last.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, "it has not ended"
    kind = _RESULTS[history.events[0].workflow_execution_started_event_attributes.workflow_type.name]
    payloads = last.workflow_execution_completed_event_attributes.result.payloads
    (result,) = pydantic_data_converter.payload_converter.from_payloads(payloads, [kind])
    assert isinstance(result, Plan | Outcome | Progress)
    return result if isinstance(result, Plan) else result.state


def steps(histories: Sequence[WorkflowHistory]) -> Counter[str]:
    """Count the activities, child workflows and signals, by type."""
    return Counter(name for history in histories for name in _steps(history))


def _steps(history: WorkflowHistory) -> Iterator[str]:
    for event in history.events:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                yield event.activity_task_scheduled_event_attributes.activity_type.name
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                yield event.start_child_workflow_execution_initiated_event_attributes.workflow_type.name
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                yield "signal"


def _anywhere(value: Any) -> Any:
    match value:
        case {"kind": "TASK_QUEUE_KIND_STICKY"}:
            return value | {"name": "sticky"}
        case dict():
            return {name: _anywhere(item) for name, item in value.items() if name not in _MACHINE}
        case list():
            return [_anywhere(item) for item in value]
    return value
