"""Every worker that asks for work is seen, at whichever partition of its queue it waits."""

import asyncio
from contextlib import AsyncExitStack

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from standfast.pollers import ACTIVITY, pollers
from standfast.steps import Pool
from tests.processes import eventually

WORKERS = 12  # with one poll each, most of them wait where the queue's root partition doesn't see them


@activity.defn
async def nothing() -> None:
    """Wait for work that never comes."""


async def test_no_worker_is_overlooked(temporal_server: str) -> None:
    names = {f"{number}@test" for number in range(WORKERS)}
    asking = await Client.connect(temporal_server, namespace="default")
    async with AsyncExitStack() as stack:
        for name in names:
            client = await Client.connect(temporal_server, identity=name)
            worker = Worker(client, task_queue=Pool.LLM, activities=[nothing], max_concurrent_activity_task_polls=1)
            await stack.enter_async_context(worker)

        async def seen() -> set[str]:
            return {poller.identity for poller in await pollers(asking, Pool.LLM, ACTIVITY)}

        async with asyncio.timeout(20):  # a poll lasts a minute, and the next one may wait elsewhere
            await eventually(seen, names.issubset)
