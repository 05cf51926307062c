"""What the timeline says of each path that a ticket can take, from the recorded histories of real tickets."""

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from standfast import telling
from standfast.spending import ModelCall
from standfast.timeline import Calls, TimelineEntry, timeline
from tests.replay.recordings import FOLDER, VERSION, recorded

CALL = ModelCall(model="big", input_tokens=1200, output_tokens=34, usd=0.0123, reused=2)


def history(name: str, run: int = -1) -> WorkflowHistory:
    return recorded(name, FOLDER / VERSION)[run]


async def told(name: str, calls: Calls | None = None, run: int = -1) -> list[TimelineEntry]:
    return await timeline(history(name, run), lambda _: pydantic_data_converter, calls=calls)


async def only(name: str, step: str) -> TimelineEntry:
    (entry,) = [entry for entry in await told(name) if entry.step == step and "update" not in entry.what]
    return entry


@pytest.mark.parametrize(
    ("path", "step", "said", "detail"),
    [
        ("approved", "start", "for ana@example.com", {"requester": "ana@example.com"}),
        ("approved", "context", "1 row by 1 query, 2 tables described", {"facts": 1, "queries": 1, "tables": 2}),
        ("blocked", "validation", "block: statement.kind", {"verdict": "block"}),
        ("done-automatic", "validation", "auto: nothing speaks against it", {"verdict": "auto"}),
        ("rejected", "decision", "reject by ben@example.com (cli): counts", {"by": "ben@example.com", "mode": "cli"}),
        ("approved", "execution", "1 row changed, on the ledger as plan", {"rows": 1}),
        ("expired", "timer", "", {}),
        ("undone", "planning", "1 operation", {"operations": 1}),
    ],
)
async def test_each_step_says_what_came_of_it(path: str, step: str, said: str, detail: dict[str, object]) -> None:
    entry = await only(path, step)
    assert entry.outcome.startswith(said)
    assert {name: entry.detail.get(name) for name in detail} == detail


async def test_refused_decisions_say_who_took_them_and_why_they_changed_nothing() -> None:
    refused = [entry for entry in await told("refused-decisions") if "refused" in entry.detail]
    assert [(e.detail["by"], e.detail.get("mode"), e.detail["refused"]) for e in refused] == [
        ("ana@example.com", "cli", "own-ticket"),
        ("ben@example.com", "cli", "stale-plan"),
        ("ben@example.com", "cli", "stale-rows"),
        ("eve@example.com", None, "unsigned"),
    ]
    assert all(entry.failed for entry in refused)
    assert refused[0].outcome.endswith("refused, own-ticket: the requester of a ticket may not decide on it")


async def test_findings_stand_with_their_rule_verdict_and_message() -> None:
    (finding,) = (await only("blocked", "validation")).detail["findings"]
    assert finding == {
        "rule": "statement.kind",
        "verdict": "block",
        "message": "truncate is not allowed on this target",
    }


async def test_plans_are_numbered_and_say_how_many_operations_they_have() -> None:
    plans = [entry for entry in await told("done-replanned") if "number" in entry.detail]
    assert [(e.what, e.outcome, e.detail["number"]) for e in plans] == [
        ("plan 1", "1 operation", 1),
        ("plan 2", "1 operation", 2),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (CALL, "big: 1,200 tokens in, 34 out, 0.0123 USD, not paid again 2 times"),
        (CALL.model_copy(update={"usd": None, "reused": 0}), "big: 1,200 tokens in, 34 out, price not known"),
        (CALL.model_copy(update={"input_tokens": None, "model": None}), "model not known: tokens not"),
        (None, "tokens and price are not on record"),
    ],
)
async def test_model_calls_say_what_they_took_or_that_it_is_not_on_record(call: ModelCall | None, said: str) -> None:
    calls = {} if call is None else {(history("planned-by-an-agent").run_id, "1"): call}
    models = [entry for entry in await told("planned-by-an-agent", calls) if entry.step == "model"]
    assert models[0].what == "request model: openai:fake"
    assert models[0].detail["seconds"] > 0
    assert models[0].outcome.startswith(said)
    assert [entry.outcome for entry in models[1:]] == ["tokens and price are not on record"] * 2


async def test_a_process_without_the_journal_says_that_it_can_not_know() -> None:
    assert (await told("planned-by-an-agent"))[1].outcome == "this process can't know tokens and price"


async def test_tool_calls_say_what_they_found() -> None:
    tools = [(e.what, e.outcome) for e in await told("planned-by-an-agent") if e.step == "tool"]
    assert tools == [
        ("call tool: database:describe_table", "answered"),
        ("call tool: database:look_up_rows", "1 row"),
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"kind": "model_retry", "message": "there is no table 'x'"}, "sent back: there is no table 'x'"),
        ({"kind": "validation_error", "errors": [{"msg": "Field required"}]}, "sent back: Field required"),
        ({"kind": "tool_return", "result": {"rows": [], "more": True}}, "0 rows, and there are more"),
        ({"kind": "tool_return", "result": "anything"}, "answered"),
    ],
)
async def test_a_tool_that_sent_the_model_back_says_why(answer: dict[str, Any], said: str) -> None:
    payloads = await pydantic_data_converter.encode([answer])
    tool = await telling.of_step("agent__mine__toolset__x__call_tool", [], payloads, pydantic_data_converter)
    assert (tool.words, tool.failed) == (said, said.startswith("sent back"))


async def test_a_run_that_goes_on_with_another_one_names_it() -> None:
    first, second = (history("continued", run) for run in (0, 1))
    (start,) = [entry for entry in await told("continued", run=1) if entry.step == "start"]
    assert (start.what, start.detail["before"]) == ("ticket workflow continued as new", first.run_id)
    assert start.run_id == second.run_id


async def test_reminders_and_the_deadline_stand_in_it() -> None:
    entries = await told("expired")
    reminder, deadline = [e for e in entries if e.what.startswith("remind people") or e.step == "timer"]
    assert (deadline.what, deadline.failed) == ("deadline passed", True)
    assert reminder.at < deadline.at


@pytest.mark.parametrize(
    "path", sorted({file.name.split(".")[0] for file in (FOLDER / VERSION).glob("*.gz")} - {"batch"})
)
async def test_every_entry_names_an_event_of_its_run(path: str) -> None:
    of_run = history(path)
    entries = await told(path)
    assert {(e.workflow_id, e.run_id) for e in entries} == {(of_run.workflow_id, of_run.run_id)}
    assert {e.event_id for e in entries} <= {event.event_id for event in of_run.events}
    assert entries == sorted(entries, key=lambda entry: entry.at)


async def test_what_fails_just_now_names_the_step_that_was_asked_for() -> None:
    events = history("approved").events
    asked = next(e for e in events if e.HasField("activity_task_scheduled_event_attributes"))
    waiting = WorkflowHistory("ticket/shop/T-1", events[: asked.event_id])
    failing = {"activityId": asked.activity_task_scheduled_event_attributes.activity_id, "attempt": 3}
    entries = await timeline(waiting, lambda _: pydantic_data_converter, [ParseDict(failing, PendingActivityInfo())])
    (recovery,) = [entry for entry in entries if entry.step == "recovery"]
    assert (recovery.event_id, recovery.failed) == (asked.event_id, True)
    assert recovery.what == "context fails, attempt 3 is under way or due"
