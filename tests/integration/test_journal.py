"""An answer of a model that was received is never paid for again."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowExecutionStatus

from standfast import cluster, steps
from standfast.codec.encryption import Binding, binding
from standfast.local.fake_provider import Answers, FakeProvider, Raw, Waits
from standfast.planner.journal import _bill, is_paid
from standfast.settings import Settings
from standfast.storage.contents import MARK
from standfast.store.connections import Connection
from standfast.store.databases import Databases
from standfast.store.roles import JOURNAL_ROLE
from tests.integration.planning import PLAN, Planning, llm_worker, planning_with
from tests.processes import eventually, until

DIES_BEFORE_IT_REPORTS = """
import asyncio, os, signal
from standfast import layers, worker
from standfast.planner.journal import _Journaled

record = _Journaled._record

async def record_and_die(*arguments):
    await record(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

_Journaled._record = record_and_die
asyncio.run(worker.run('llm', layers.load_settings()))
"""

BEFORE_ENCRYPTION = f"""
from standfast.planner import journal

async def unchanged(payload):
    return payload

journal._encrypted = unchanged
{DIES_BEFORE_IT_REPORTS}"""


@pytest_asyncio.fixture
async def planning(shop: Settings, provider: FakeProvider) -> AsyncIterator[Planning]:
    async with planning_with(shop, provider) as planning:
        yield planning


class Journal:
    """The journal, as the database's owner sees it."""

    def __init__(self, settings: Settings, postgres: str) -> None:
        assert settings.control.url is not None
        database = conninfo_to_dict(settings.control.url.get_secret_value())["dbname"]
        self._url = make_conninfo(postgres, dbname=str(database))

    def calls(self, workflow_id: str) -> list[dict[str, Any]]:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            query = "SELECT * FROM standfast.model_call WHERE workflow_id = %s"
            return connection.execute(query, [workflow_id]).fetchall()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let nobody record or read anything."""
        role = sql.Identifier(JOURNAL_ROLE)
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(role))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [JOURNAL_ROLE]
            )
            try:
                yield
            finally:
                connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(role))

    def missing(self) -> AbstractContextManager[None]:
        """Have a database that was not migrated."""
        return self._altered("model_call RENAME TO later", back="later RENAME TO model_call")

    def refusing(self) -> AbstractContextManager[None]:
        """Let nobody record an answer, though the journal can be read."""
        shut = "model_call ADD CONSTRAINT shut CHECK (false) NOT VALID"
        return self._altered(shut, back="model_call DROP CONSTRAINT shut")

    @contextmanager
    def _altered(self, change: LiteralString, *, back: LiteralString) -> Iterator[None]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER TABLE standfast.{}").format(sql.SQL(change)))
            try:
                yield
            finally:
                connection.execute(sql.SQL("ALTER TABLE standfast.{}").format(sql.SQL(back)))

    @asynccontextmanager
    async def recording_fails_once(self) -> AsyncIterator[None]:
        """Let somebody begin to record an answer before the end of the block, and lose his connection."""
        with psycopg.connect(self._url) as locks, psycopg.connect(self._url, autocommit=True) as looks:
            locks.execute("LOCK TABLE standfast.model_call")
            yield
            end_waiting = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'"
            )
            async with asyncio.timeout(30):
                while looks.execute(end_waiting, [JOURNAL_ROLE]).fetchone() is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


@pytest.fixture
def journal(shop: Settings, postgres: str) -> Journal:
    return Journal(shop, postgres)


async def test_every_answer_is_in_the_journal_with_its_price(planning: Planning, journal: Journal) -> None:
    handle = await planning.start(Answers(PLAN))
    assert await handle.result() == PLAN

    (call,) = journal.calls(handle.id)
    assert (call["run_id"], call["activity"]) == (handle.result_run_id, "agent__planner__model_request")
    assert (call["model"], call["input_tokens"], call["output_tokens"]) == ("fake", 10, 5)
    assert (call["cost_usd"], call["attempt"], call["reused"]) == (None, 1, 0)


async def test_nothing_of_an_answer_can_be_read_in_the_journal(planning: Planning, journal: Journal) -> None:
    handle = await planning.start(Answers(PLAN))
    await handle.result()
    (call,) = journal.calls(handle.id)
    stored = Payload.FromString(call["answer"])
    assert binding(stored) == Binding("default", handle.id)
    assert PLAN.operations[0].sql.encode() not in call["answer"]


async def test_a_large_answer_is_not_to_be_recognized_in_the_journal(
    shop: Settings, provider: FakeProvider, journal: Journal
) -> None:
    everything_is_large = shop.storage.model_copy(update={"threshold": 1})
    async with planning_with(shop.model_copy(update={"storage": everything_is_large}), provider) as planning:
        handle = await planning.start(Answers(PLAN))
        done = await eventually(handle.describe, lambda seen: seen.status is not WorkflowExecutionStatus.RUNNING)
        assert done.status is WorkflowExecutionStatus.COMPLETED
    (call,) = journal.calls(handle.id)
    stored = Payload.FromString(call["answer"])
    assert binding(stored) == Binding("default", handle.id)
    assert MARK not in stored.metadata


@pytest.mark.parametrize("program", [DIES_BEFORE_IT_REPORTS, BEFORE_ENCRYPTION], ids=["encrypted", "from version 0.1"])
async def test_a_worker_that_dies_before_it_reports_an_answer_has_not_wasted_it(
    shop: Settings, provider: FakeProvider, journal: Journal, tmp_path: Path, program: str
) -> None:
    planning = Planning(shop, await cluster.connect(shop), provider)
    handle = await planning.start(Answers(PLAN))
    encryption = shop.encryption.model_copy(update={"accept_plain": program is BEFORE_ENCRYPTION})
    settings = shop.model_copy(update={"encryption": encryption})
    async with llm_worker(settings, tmp_path, program=program) as first:
        await first.wait()

    async with llm_worker(settings, tmp_path):
        assert await handle.result() == PLAN

    assert provider.asked.total() == 1
    assert [call["reused"] for call in journal.calls(handle.id)] == [1]


async def test_nobody_is_asked_while_the_journal_cannot_tell_whether_it_was_paid(
    planning: Planning, journal: Journal
) -> None:
    with journal.away():
        handle = await planning.start(Answers(PLAN))
        await until_retried(planning, handle.id)
        assert planning.provider.asked.total() == 0
    assert await handle.result() == PLAN
    assert planning.provider.asked.total() == 1


async def test_an_answer_waits_for_its_journal(planning: Planning, journal: Journal) -> None:
    asked, released = threading.Event(), threading.Event()
    handle = await planning.start(Waits(asked, released, Answers(PLAN)))
    await asyncio.to_thread(asked.wait)
    async with journal.recording_fails_once():
        released.set()
    assert await handle.result() == PLAN
    assert planning.provider.asked.total() == len(journal.calls(handle.id)) == 1


async def test_an_answer_is_not_lost_with_its_journal(
    planning: Planning, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "JOURNAL", timedelta(seconds=0.5))
    asked, released = threading.Event(), threading.Event()
    handle = await planning.start(Waits(asked, released, Answers(PLAN)))
    await asyncio.to_thread(asked.wait)
    with journal.away():
        released.set()
        assert await handle.result() == PLAN
    assert planning.provider.asked.total() == 1
    assert journal.calls(handle.id) == []


@pytest.mark.parametrize(
    ("told", "recorded"),
    [
        (
            {"model": "fa\0ke", "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}},
            (None, 10, 5),
        ),
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 2**31, "total_tokens": 2**31}}, ("fake", 10, None)),
    ],
    ids=["a name with NUL", "more than a column holds"],
)
async def test_an_answer_is_paid_for_once_whatever_its_provider_says_about_its_price(
    shop: Settings, provider: FakeProvider, journal: Journal, told: dict[str, Any], recorded: tuple[Any, ...]
) -> None:
    answer = {"name": "final_result", "arguments": PLAN.model_dump_json()}
    message = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": answer}]}
    body = {
        "id": "fake-1",
        "object": "chat.completion",
        "created": 0,
        "model": "fake",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
    }
    async with planning_with(shop, provider, model="openai-chat:fake") as planning:
        handle = await planning.start(Raw(200, json.dumps(body | told)))
        assert await handle.result() == PLAN
    assert planning.provider.asked.total() == 1
    (call,) = journal.calls(handle.id)
    assert (call["model"], call["input_tokens"], call["output_tokens"]) == recorded


async def test_an_answer_is_not_lost_where_the_journal_refuses_it(planning: Planning, journal: Journal) -> None:
    with journal.refusing():
        handle = await planning.start(Answers(PLAN))
        assert await handle.result() == PLAN
    assert planning.provider.asked.total() == 1
    assert journal.calls(handle.id) == []


def test_a_number_of_tokens_that_is_none_is_left_out() -> None:
    bill = _bill(ModelResponse(parts=[], model_name="gpt-5", usage=RequestUsage(input_tokens=-1, output_tokens=5)))
    assert bill == {"model": "gpt-5", "input_tokens": None, "output_tokens": 5, "cost_usd": None}


async def test_a_function_is_called_once_the_journal_can_be_read_however_long_that_takes(
    shop: Settings, provider: FakeProvider, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = 0, Databases.journal

    def counted(databases: Databases) -> AbstractAsyncContextManager[Connection]:
        nonlocal looks
        looks += 1
        return look(databases)

    monkeypatch.setattr(Databases, "journal", counted)
    soon = replace(steps.PLAN.retry, initial_interval=timedelta(milliseconds=1))
    monkeypatch.setattr("standfast.planner.own_agent.PLAN", replace(steps.PLAN, retry=soon))
    async with planning_with(shop, provider, agent="examples.own_function:plan") as planning:
        with journal.missing():
            handle = await planning.start(subject={"order_id": 1042})
            await until(lambda: looks > soon.maximum_attempts)
        assert (await handle.result()).operations[0].params == ("cancelled", 1042)


@pytest.mark.parametrize(
    ("activity", "paid"),
    [
        ("agent__planner__model_request", True),
        ("agent__mine__model_request_stream", True),
        ("agent__mine__model_compact_messages", True),
        ("plan", True),
        ("agent__planner__toolset__database__call_tool", False),
        ("fill_playbook", False),
    ],
)
def test_what_costs_money_is_journaled(activity: str, paid: bool) -> None:
    assert is_paid(activity) is paid


async def until_retried(planning: Planning, workflow_id: str) -> None:
    """Wait until an activity of the workflow is at its third attempt at least."""
    async with asyncio.timeout(30):
        while True:
            described = await planning.client.get_workflow_handle(workflow_id).describe()
            if any(pending.attempt > 2 for pending in described.raw_description.pending_activities):
                return
            await asyncio.sleep(0.05)
