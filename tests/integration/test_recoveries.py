"""What failed on the way, and how long it took to go on: in the history of a ticket, and in figures over many."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo
from temporalio.client import (
    Client,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowHistoryEventAsyncIterator,
)
from temporalio.service import RPCError, RPCStatusCode

from standfast import cluster
from standfast.client import Standfast
from standfast.decision import DecisionVerdict
from standfast.errors import NotPermitted, UnknownTicket
from standfast.local import configuration
from standfast.outcome import State
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.store.databases import Databases, Role
from standfast.store.roles import role_name
from standfast.timeline import TimelineEntry
from tests.integration.installation import CONSTRAINTS, Installation, database_name, prepare, serving
from tests.processes import LIMIT, eventually, until

REFUND = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
SETTLE = "UPDATE shop.orders SET status = $1 WHERE id = $2"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    """An installation of which only the llm pool is served."""
    settings, owner = await prepare(postgres, temporal_server, f"t{uuid4().hex[:8]}")
    async with serving(settings, Pool.LLM), Standfast.connect(settings) as client:
        installation = Installation(settings, client, owner)
        await installation.constrain(CONSTRAINTS)
        yield installation


@asynccontextmanager
async def worker(settings: Settings, pool: Pool, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in a process of its own, which a test may kill."""
    config, log = folder / f"{pool}.toml", folder / f"{pool}.log"
    config.write_text(configuration.to_toml(configuration.pool(settings, pool)))
    argv = [sys.executable, "-P", "-m", "standfast.cli", "--config", str(config), "worker", "--pool", pool]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*argv, stderr=output, env=dict(os.environ))
    try:
        await until(lambda: "is polling" in log.read_text())
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def submit(installation: Installation, order: int, *statements: tuple[str, list[Any]]) -> str:
    plan = {"operations": [{"sql": sql, "params": params} for sql, params in statements]}
    return await installation.submit(plan, subject={"order_id": order})


async def recoveries(installation: Installation, workflow_id: str) -> list[TimelineEntry]:
    return [entry for entry in await installation.client.history(workflow_id) if entry.step == "recovery"]


async def test_the_history_says_who_went_away_and_how_long_it_took_to_go_on(
    installation: Installation, tmp_path: Path
) -> None:
    begin = datetime.now(UTC)
    async with (
        worker(installation.settings, Pool.CORE, tmp_path) as core,
        worker(installation.settings, Pool.DATABASE, tmp_path) as database,
    ):
        workflow_id = await submit(installation, 1001, (REFUND, [1001]))
        view = await installation.until_waiting(workflow_id)
        core.kill()
        async with serving(installation.settings, Pool.CORE):
            with psycopg.connect(installation.owner_url) as connection:
                connection.execute("LOCK TABLE standfast.ledger IN EXCLUSIVE MODE")
                await installation.decide(view, DecisionVerdict.APPROVE)
                blocked = "SELECT FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
                await until(lambda: installation.query(blocked) != [])
                database.kill()
            async with serving(installation.settings, Pool.DATABASE):
                assert (await installation.client.wait(workflow_id)).state is State.DONE
    sticky, execution = await recoveries(installation, workflow_id)
    assert sticky.what.startswith("workflow went on after 1.")
    assert sticky.detail["failure"] == "its worker went away (a task waited for it for 1.0 s)"
    assert (sticky.attempt, sticky.detail["failed"], sticky.detail["of"]) == (None, "worker-lost", "workflow")
    assert execution.what.startswith("execution went on with attempt 2 after ")
    assert execution.detail["failure"] == "the worker went away (no heartbeat for 2 s)"
    assert (execution.attempt, execution.detail["failed"]) == (2, "worker-lost")
    assert 2 <= execution.detail["seconds"] < LIMIT
    figures = await eventually(lambda: installation.client.stats(["shop"], begin), lambda f: State.DONE in f.tickets)
    assert [(f.step, f.failed, f.number) for f in figures.recoveries_by_failure] == [
        ("workflow", "worker-lost", 1),
        ("execution", "worker-lost", 1),
    ]
    assert figures.recoveries is not None
    assert figures.recoveries.max == execution.detail["seconds"]
    assert figures.retries == {"execution": 1}


async def test_what_fails_just_now_is_in_the_history_with_its_reason(installation: Installation) -> None:
    role = role_name("shop", Role.REHEARSER)
    async with serving(installation.settings, Pool.CORE, Pool.DATABASE):
        installation.execute(f"ALTER ROLE {role} NOLOGIN")
        workflow_id = await submit(installation, 1002, (SETTLE, ["please", 1002]))
        failing = await eventually(lambda: recoveries(installation, workflow_id), bool)
        installation.execute(f"ALTER ROLE {role} LOGIN")
        assert (await installation.client.wait(workflow_id)).state is State.DONE
    assert failing[0].what.startswith("validation fails, attempt ")
    assert failing[0].detail["failure"].endswith(f'role "{role}" is not permitted to log in')
    assert "seconds" not in failing[0].detail
    (recovered,) = await recoveries(installation, workflow_id)
    assert recovered.what.startswith("validation went on with attempt ")
    assert recovered.detail["failed"] == "service-unavailable"
    assert recovered.detail["seconds"] > 0


async def test_figures_over_tickets(installation: Installation) -> None:
    begin = datetime.now(UTC)
    async with serving(installation.settings, Pool.CORE, Pool.DATABASE):
        clean = await submit(installation, 1003, (SETTLE, ["please", 1003]))
        await installation.client.wait(clean)
        approved, expired, waits = [await submit(installation, n, (REFUND, [n])) for n in (1004, 1005, 1006)]
        await installation.decide(await installation.until_waiting(approved), DecisionVerdict.APPROVE)
        assert (await installation.client.wait(approved)).state is State.DONE
        await installation.until_waiting(expired)
        await installation.client.cancel(expired)
        assert (await installation.client.wait(expired)).state is State.CANCELLED
        await installation.until_waiting(waits)
    _bill(installation, approved)
    states = {State.WAITING: 1, State.DONE: 2, State.CANCELLED: 1}
    # The visibility store lags a little behind.
    figures = await eventually(lambda: installation.client.stats(["shop"], begin), lambda f: f.tickets == states)
    assert figures.waiting is not None
    assert figures.decision is not None
    assert figures.total is not None
    assert (figures.waiting.number, figures.decision.number, figures.total.number) == (2, 1, 3)
    assert figures.waiting.median <= figures.waiting.p90 <= figures.waiting.max
    assert figures.waiting.max < figures.total.max
    assert (figures.recoveries, figures.recoveries_by_failure, figures.retries) == (None, (), {})
    assert figures.model_calls.spent.calls == 5  # of the four own functions nobody knows the price
    assert (figures.model_calls.spent.usd, figures.model_calls.spent.unpriced) == (0.25, 4)
    assert figures.models["big"].spent.input_tokens == 1000
    saved = figures.model_calls.not_spent_again
    assert (saved.calls, saved.input_tokens, saved.output_tokens, saved.usd, saved.unpriced) == (2, 2000, 40, 0.5, 0)
    later = await installation.client.stats(["shop"], datetime.now(UTC) + timedelta(hours=1))
    assert (later.tickets, later.total) == ({}, None)


def _bill(installation: Installation, workflow_id: str) -> None:
    """Put a model call with a price on record, whose answer was used twice more."""
    control = make_conninfo(installation.owner_url, dbname=database_name(installation.control_url))
    with psycopg.connect(control) as connection:
        connection.execute(
            "INSERT INTO standfast.model_call (run_id, activity_id, workflow_id, activity, attempt, answer, model,"
            " input_tokens, output_tokens, cost_usd, reused)"
            " VALUES ('r', '1', %(workflow)s, 'model_request', 1, '', 'big', 1000, 20, 0.25, 2)",
            {"workflow": f"{workflow_id}/plan/1"},
        )


class _Retention(Interceptor):
    """Removes the histories of planner workflows as Temporal does when the namespace's retention is over."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - temporalio's name
        return _Removed(next)


class _Removed(OutboundInterceptor):
    def fetch_workflow_history_events(
        self,
        input: FetchWorkflowHistoryEventsInput,  # noqa: A002 - temporalio's name
    ) -> WorkflowHistoryEventAsyncIterator:
        if "/plan/" in input.id:
            raise RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b"")
        return super().fetch_workflow_history_events(input)


async def test_a_ticket_outlives_the_histories_of_its_planners(installation: Installation) -> None:
    async with serving(installation.settings, Pool.CORE):
        workflow_id = await submit(installation, 1007, (REFUND, [1007]))
        await installation.until_waiting(workflow_id)
    temporal = await cluster.connect(installation.settings)
    config = temporal.config() | {"interceptors": [_Retention()]}
    async with Databases(installation.settings, application="test") as databases:
        later = Standfast(Client(**config), installation.settings, databases)
        assert {entry.workflow_id for entry in await later.history(workflow_id)} == {workflow_id}
        assert (await later.stats()).tickets[State.WAITING] >= 1
        with pytest.raises(UnknownTicket):
            await later.history("ticket/shop/NOBODY")


async def test_figures_need_the_control_database(installation: Installation) -> None:
    with pytest.raises(NotPermitted, match=r"set control\.url"):
        await Standfast(await cluster.connect(installation.settings), installation.settings).stats()
