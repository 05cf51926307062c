"""A batch goes on by itself whatever dies meanwhile, and each of its tickets is executed once."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from standfast import cluster
from standfast.batch import Pace, Progress, TicketState
from standfast.client import Standfast
from standfast.local import configuration, readiness
from standfast.local.ports import free_port
from standfast.local.supervisor import Service, Supervisor
from standfast.local.temporal import TemporalServer
from standfast.settings import Settings
from standfast.steps import Pool
from tests.integration.batching import Batching, automatic, batching, once
from tests.integration.installation import CONSTRAINTS, Installation, prepare, serving
from tests.processes import until


async def core_worker(settings: Settings, folder: Path) -> Service:
    """A process that has what the core pool has."""
    file = folder / "core.toml"
    file.write_text(configuration.to_toml(configuration.pool(settings, Pool.CORE)))
    return Service(
        name="core",
        argv=(sys.executable, "-P", "-m", "standfast.cli", "--config", str(file), "worker", "--pool", "core"),
        environment={"PATH": "/usr/bin:/bin"},
        folder=folder,
        ready=readiness.polls(await cluster.connect(settings), Pool.CORE),
    )


@dataclass
class Outages:
    """An installation whose Temporal server and core worker are processes that can be killed, and its batches."""

    batching: Batching
    supervisor: Supervisor

    async def kill(self, victim: str) -> None:
        """Kill a service once it is there: it may have ended by itself and be on its way back."""
        await until(lambda: any(status.ready for status in self.supervisor.status() if status.service == victim))
        (pid,) = [status.pid for status in self.supervisor.status() if status.service == victim]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def outages(postgres: str) -> AsyncIterator[Outages]:
    with TemporaryDirectory(prefix="standfast-test-") as name:
        folder = Path(name)
        server = TemporalServer(folder / "temporal", port=free_port(), ui_port=free_port())
        async with Supervisor(folder / "logs", lambda _: None) as supervisor:
            await supervisor.start(server.service())
            settings, owner = await prepare(postgres, server.address, f"t{uuid4().hex[:8]}")
            await supervisor.start(await core_worker(settings, folder))
            async with serving(settings, Pool.LLM, Pool.DATABASE), Standfast.connect(settings) as client:
                installation = Installation(settings, client, owner)
                await installation.constrain(CONSTRAINTS)
                async with batching(installation) as shop:
                    yield Outages(shop, supervisor)


async def test_a_batch_goes_on_when_its_worker_and_then_temporal_are_killed(outages: Outages) -> None:
    shop, tickets = outages.batching, [automatic(number) for number in range(24)]
    batch_id = await shop.start(tickets, pace=Pace(at_once=4))
    for victim, ended in (("core", 1), ("temporal", 8)):
        await shop.until_ended(batch_id, ended)
        await outages.kill(victim)
    assert (await shop.end(batch_id)).states == {TicketState.DONE: len(tickets)}
    assert shop.executed(tickets) == once(tickets)
    await shop.replay(batch_id)


async def test_questions_that_reach_a_worker_before_its_tasks_do_no_harm(outages: Outages) -> None:
    shop, tickets = outages.batching, [automatic(number) for number in range(32)]
    batch_id = await shop.start(tickets, pace=Pace(at_once=4))

    async def follow() -> Progress:
        return [progress async for progress in shop.batches.follow(batch_id)][-1]

    async with asyncio.TaskGroup() as asking:
        followers = [asking.create_task(follow()) for _ in range(4)]
        for ended in (4, 16):
            await shop.until_ended(batch_id, ended)
            await outages.kill("core")
    for follower in followers:
        assert follower.result().states == {TicketState.DONE: len(tickets)}
    assert shop.executed(tickets) == once(tickets)
    await shop.replay(batch_id)
