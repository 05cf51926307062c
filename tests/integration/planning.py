"""Planner runs with a model provider that answers by script."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import tomli_w
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from standfast import cluster, steps
from standfast.context import Context
from standfast.local.fake_provider import FakeProvider, Turn
from standfast.plan import Operation, Plan
from standfast.settings import Settings
from standfast.steps import PlanRequest, Pool
from standfast.ticket import Ticket
from tests.integration.installation import ENCRYPTION, serving

PLAN = Plan(
    summary="Mark order 1042 as refunded.",
    operations=(
        Operation(sql="UPDATE orders SET status = $1 WHERE id = $2", params=("refunded", 1042), expect_rows=1),
    ),
)
WORKER = "import asyncio; from standfast import layers, worker; asyncio.run(worker.run('llm', layers.load_settings()))"


class Planning:
    """Planner runs with a provider that answers by script."""

    def __init__(self, settings: Settings, client: Client, provider: FakeProvider) -> None:
        self.settings = settings
        self.client = client
        self.provider = provider

    async def start(
        self, *turns: Turn, body: str = "Refund order 1042.", subject: dict[str, Any] | None = None
    ) -> WorkflowHandle[Any, Plan]:
        """Start a run for a new ticket, for which the provider has these turns."""
        ticket = Ticket(
            id=f"T-{uuid4().hex[:12]}", body=body, requester="ana@example.com", target="shop", subject=subject or {}
        )
        self.provider.script[ticket.id] = turns
        return await self.client.start_workflow(
            steps.PLANNER,
            PlanRequest(context=Context(ticket=ticket, retrieved_at=datetime.now(UTC))),
            id=f"{ticket.workflow_id}/plan/1",
            task_queue=Pool.LLM,
            execution_timeout=timedelta(seconds=90),
            result_type=Plan,
        )

    async def plan(self, *turns: Turn) -> Plan:
        return await (await self.start(*turns)).result()

    async def failure(self, *turns: Turn) -> str:
        """Return the reason that the ticket workflow would show."""
        with pytest.raises(WorkflowFailureError) as caught:
            await self.plan(*turns)
        assert isinstance(caught.value.cause, ApplicationError)
        return caught.value.cause.message


@asynccontextmanager
async def planning_with(shop: Settings, provider: FakeProvider, **planner: Any) -> AsyncIterator[Planning]:
    """Serve the llm pool with these settings of the planner."""
    settings = shop.model_copy(update={"planner": shop.planner.model_copy(update=planner)})
    async with serving(settings, Pool.LLM):
        yield Planning(settings, await cluster.connect(settings), provider)


@asynccontextmanager
async def llm_worker(
    settings: Settings, folder: Path, *, program: str = WORKER
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker process that has the credentials of the llm pool and no others."""
    target = settings.target("shop")
    journal, storage = settings.control.journal, settings.storage.url
    assert target.reader is not None
    assert journal is not None
    assert storage is not None
    config = {
        "targets": {"shop": {"reader": target.reader.get_secret_value(), "schemas": list(target.schemas)}},
        "control": {"journal": journal.get_secret_value()},
        "storage": {"url": storage.get_secret_value()},
        "temporal": {"address": settings.temporal.address},
        "planner": {"model": settings.planner.model},
        "encryption": ENCRYPTION | {"accept_plain": settings.encryption.accept_plain},
    }
    file = folder / "llm.toml"
    file.write_text(tomli_w.dumps(config))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env={**os.environ, "STANDFAST_CONFIG": str(file)}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
