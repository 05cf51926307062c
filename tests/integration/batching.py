"""An installation and its batches, and tickets for them whose plans the scripted planner answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from standfast import batch, cluster
from standfast.batch import Batch, Progress, Result
from standfast.batching import client
from standfast.batching.client import Batches, Started
from standfast.batching.workflow import BatchWorkflow
from standfast.decision import DecisionVerdict
from standfast.errors import UnknownTicket
from standfast.ticket import Ticket
from standfast.view import TicketView
from tests.integration.installation import Installation, runs
from tests.processes import LIMIT, eventually


@dataclass
class Batching:
    """An installation, and its batches."""

    shop: Installation
    batches: Batches
    temporal: Client

    async def start(self, tickets: Iterable[Ticket], **options: Any) -> str:
        return (await self.found(tickets, **options)).batch_id

    async def found(self, tickets: Iterable[Ticket], *, events_per_run: int = 4_000, **options: Any) -> Started:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "Batch", partial(Batch, events_per_run=events_per_run))
            return await self.batches.start(list(enumerate(tickets, 1)), **options)

    async def until(self, batch_id: str, condition: Callable[[Progress], bool]) -> Progress:
        async with asyncio.timeout(LIMIT):
            async for progress in self.batches.follow(batch_id):
                if condition(progress):
                    return progress
        msg = f"batch {batch_id} ended before the condition held"
        raise AssertionError(msg)

    async def until_ended(self, batch_id: str, number: int) -> Progress:
        return await self.until(batch_id, lambda progress: progress.ended >= number)

    async def end(self, batch_id: str) -> Progress:
        return await self.until(batch_id, lambda progress: progress.state.is_end)

    async def results(self, batch_id: str) -> list[Result]:
        return [result async for result in self.batches.results(batch_id)]

    async def runs(self, batch_id: str) -> list[WorkflowHistory]:
        """Return the histories of the batch's workflow, newest run first."""
        return await runs(self.temporal, batch.workflow_id(batch_id))

    async def scheduled(self, batch_id: str) -> AsyncIterator[str]:
        """Yield the activities of the batch's newest run, in their order."""
        history = await self.temporal.get_workflow_handle(batch.workflow_id(batch_id)).fetch_history()
        for event in history.events:
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                yield event.activity_task_scheduled_event_attributes.activity_type.name

    async def replay(self, batch_id: str) -> None:
        """Run the workflow's code on all its histories."""
        converter, namespace = self.temporal.data_converter, self.temporal.namespace
        replayer = Replayer(workflows=[BatchWorkflow], data_converter=converter, namespace=namespace)
        for run in await self.runs(batch_id):
            await replayer.replay_workflow(run)

    async def until_waiting(self, ticket: Ticket) -> TicketView:
        await eventually(lambda: self.is_started(ticket), bool)
        return await self.shop.until_waiting(ticket.workflow_id)

    async def is_started(self, ticket: Ticket) -> bool:
        try:
            await self.shop.client.row(ticket.workflow_id)
        except UnknownTicket:
            return False
        return True

    async def decide(self, ticket: Ticket, verdict: DecisionVerdict) -> None:
        view = await self.until_waiting(ticket)
        await self.shop.decide(view, verdict, comment="so it is")

    def executed(self, tickets: Iterable[Ticket]) -> list[tuple[str, int]]:
        """Return how often each of these tickets is in the ledger, if it is."""
        ids = [ticket.workflow_id for ticket in tickets]
        query = "SELECT workflow_id, count(*) FROM standfast.ledger WHERE workflow_id = ANY(%s) GROUP BY 1 ORDER BY 1"
        return [(one, times) for one, times in self.shop.query(query, ids)]


def ticket(plan: dict[str, Any], **changes: Any) -> Ticket:
    fields = {"id": f"B-{uuid4().hex[:12]}", "body": "please", "requester": "ana@example.com", "target": "shop"}
    return Ticket.model_validate(fields | {"metadata": {"plan": plan}} | changes)


def automatic(number: int) -> Ticket:
    """A ticket whose plan runs by itself: one row, all values from the ticket."""
    order = 1000 + number % 100
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
    plan = {"operations": [{"sql": sql, "params": ["please", order], "expect_rows": 1}]}
    return ticket(plan, subject={"order_id": order})


def risky() -> Ticket:
    """A ticket whose plan waits for a person, and changes nothing."""
    return ticket({"operations": [{"sql": "DELETE FROM shop.refunds WHERE order_id = $1", "params": [1]}]})


def forbidden() -> Ticket:
    return ticket({"operations": [{"sql": "TRUNCATE shop.orders CASCADE"}]})


def once(tickets: Iterable[Ticket]) -> list[tuple[str, int]]:
    return sorted((ticket.workflow_id, 1) for ticket in tickets)


@asynccontextmanager
async def batching(shop: Installation) -> AsyncIterator[Batching]:
    async with Batches.connect(shop.settings) as batches:
        yield Batching(shop, batches, await cluster.connect(shop.settings))
