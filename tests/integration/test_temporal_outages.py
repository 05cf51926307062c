"""Temporal dies, freezes or falls silent: workers and clients come back by themselves, and tickets go on."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from temporalio.client import Client

from standfast import cluster
from standfast.cli.output import Output
from standfast.cli.progress import follow
from standfast.client import Standfast
from standfast.decision import DecisionVerdict
from standfast.errors import ServiceUnavailable
from standfast.local.ports import free_port
from standfast.local.supervisor import Event, Happening, Supervisor
from standfast.local.temporal import TemporalServer
from standfast.outcome import State
from standfast.steps import Pool
from tests.integration.installation import CONSTRAINTS, Installation, prepare, serving
from tests.integration.proxy import Proxy
from tests.processes import eventually, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%standfast.ledger%%'"


@dataclass
class Shop(Installation):
    """An installation whose Temporal can be made to fail."""

    proxy: Proxy
    """Between Temporal and everybody else."""
    temporal: Client
    """Past the proxy."""
    supervisor: Supervisor
    events: list[Event]

    @property
    def pid(self) -> int:
        (status,) = self.supervisor.status()
        assert status.pid is not None
        return status.pid

    async def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        await until(lambda: any(event.happening is Happening.BACK for event in self.events))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    async def attempts(self, workflow_id: str) -> int:
        """Return which attempt of its activity a ticket is at, as Temporal sees it."""
        described = await self.temporal.get_workflow_handle(workflow_id).describe()
        return max(activity.attempt for activity in described.raw_description.pending_activities)

    async def tickets(self, first: int, count: int) -> list[str]:
        """Submit tickets that wait for a person."""
        return [await self.submit(refund(order), subject={"order_id": order}) for order in range(first, first + count)]

    async def assert_done_once(self, *tickets: str) -> None:
        for workflow_id in tickets:
            assert (await self.client.wait(workflow_id)).state is State.DONE
            assert len(self.ledger(workflow_id)) == 1


def refund(order: int) -> dict[str, Any]:
    """A plan that needs a person."""
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    return {"operations": [{"sql": sql, "params": [order]}]}


def set_status(order: int) -> dict[str, Any]:
    """A plan that runs by itself."""
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
    return {"operations": [{"sql": sql, "params": ["please", order], "expect_rows": 1}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str) -> AsyncIterator[Shop]:
    events: list[Event] = []
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        port = free_port()
        server = TemporalServer(Path(folder), port=port, ui_port=free_port())
        async with Supervisor(Path(folder) / "logs", events.append) as supervisor:
            await supervisor.start(server.service())
            async with Proxy("127.0.0.1", port).open() as proxy:
                settings, owner = await prepare(postgres, proxy.address, f"temporal_{port}")
                async with serving(settings, *Pool), Standfast.connect(settings) as client:
                    past = settings.temporal.model_copy(update={"address": f"127.0.0.1:{port}"})
                    temporal = await cluster.connect(settings.model_copy(update={"temporal": past}))
                    shop = Shop(settings, client, owner, proxy, temporal, supervisor, events)
                    await shop.constrain(CONSTRAINTS)
                    yield shop


async def decided(shop: Shop, *tickets: str) -> None:
    for workflow_id in tickets:
        await shop.decide(await shop.until_waiting(workflow_id), DecisionVerdict.APPROVE)


async def test_a_server_that_was_killed_goes_on_with_what_it_knew(shop: Shop) -> None:
    waiting, *running = await shop.tickets(1000, 4)
    view = await shop.until_waiting(waiting)
    await shop.kill()
    await shop.decide(view, DecisionVerdict.APPROVE)
    await decided(shop, *running)
    await shop.assert_done_once(waiting, *running)


async def test_a_server_that_answers_nobody_for_a_while(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    (workflow_id,) = await shop.tickets(1010, 1)
    await shop.until_waiting(workflow_id)
    with shop.frozen():
        monkeypatch.setattr("standfast.client.ANSWER", timedelta(seconds=1))
        with pytest.raises(ServiceUnavailable):
            await shop.client.view(workflow_id)
        with pytest.raises(ServiceUnavailable):
            await follow(shop.client, [workflow_id], Output(as_json=False))
    monkeypatch.undo()
    await decided(shop, workflow_id)
    await shop.assert_done_once(workflow_id)


@pytest.mark.parametrize("told", [True, False])
async def test_connections_that_are_lost_are_opened_again(shop: Shop, *, told: bool) -> None:
    tickets = [await shop.submit(set_status(order), subject={"order_id": order}) for order in range(1020, 1024)]
    if told:
        await shop.proxy.cut()
    else:
        shop.proxy.swallow()
        shop.proxy.heal()
    await shop.assert_done_once(*tickets)


async def test_temporal_is_out_of_reach_for_longer_than_any_heartbeat_or_keep_alive(shop: Shop) -> None:
    with psycopg.connect(shop.owner_url) as held:
        held.execute("LOCK TABLE standfast.ledger IN SHARE MODE")
        workflow_id = await shop.submit(set_status(1030), subject={"order_id": 1030})
        await until(lambda: bool(shop.query(BLOCKED)))
        shop.proxy.swallow()
    await until(lambda: bool(shop.ledger(workflow_id)))  # executed, and nobody can be told
    await shop.proxy.given_up()
    await eventually(lambda: shop.attempts(workflow_id), lambda attempts: attempts > 1)
    shop.proxy.heal()
    await shop.assert_done_once(workflow_id)
