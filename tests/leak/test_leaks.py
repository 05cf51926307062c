"""Nothing of a ticket can be read outside of its target: not at Temporal, on the way there, in logs or beside them."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg.conninfo import make_conninfo
from temporalio.testing import TimeSkipper

from standfast import cluster
from standfast.batch import BatchState
from standfast.client import Standfast
from standfast.decision import DecisionVerdict
from standfast.errors import DecisionRefused
from standfast.local.ports import free_port
from standfast.local.supervisor import Supervisor
from standfast.local.temporal import TemporalServer
from standfast.logs import Discreet
from standfast.outcome import State
from standfast.settings import Encryption
from standfast.steps import Pool
from standfast.ticket import Ticket
from tests.integration.batching import batching
from tests.integration.installation import CONSTRAINTS, Installation, prepare, serving
from tests.leak.search import Leak, Marker, Source, files, leaks, postgres, sqlite
from tests.leak.wire import Recorder, said

APPROVE, REJECT, REVISE = DecisionVerdict.APPROVE, DecisionVerdict.REJECT, DecisionVerdict.REVISE
LARGE = 300_000  # characters: more than Temporal is given


@dataclass(frozen=True)
class Planted:
    """What is hidden in everything that people, rows and models say."""

    content: Marker
    """In tickets, rows, plans and errors."""
    people: Marker
    """In names and comments, which the audit chain keeps on purpose."""

    def ticket(self, plan: dict[str, Any], order: int, *, size: int = 0) -> dict[str, Any]:
        """Return the fields of a ticket about an order, with a secret in each of them."""
        secret = self.content.secret
        padding = {"padding": [secret(f"padding {number}") for number in range(size // 40)]} if size else {}
        return {
            "id": f"T-{uuid4().hex[:12]}",
            "title": secret("title"),
            "body": f"Please set it to {secret('value')}.",
            "requester": f"{self.people.text}-ana@example.com",
            "labels": [secret("label")],
            "subject": {"order_id": order, "name": secret("subject")},
            "metadata": {"plan": plan | {"summary": secret("summary")}, "note": secret("metadata"), **padding},
        }

    def automatic(self, order: int) -> dict[str, Any]:
        """A plan that runs by itself: its value stands in the ticket."""
        sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
        reason = self.content.secret("reason")
        params = [self.content.secret("value"), order]
        return {"operations": [{"sql": sql, "params": params, "reason": reason, "expect_rows": 1}]}

    def risky(self, order: int) -> dict[str, Any]:
        """A plan that needs a person."""
        sql = "UPDATE shop.orders SET status = status || $1 WHERE id = $2"
        return {"operations": [{"sql": sql, "params": [self.content.secret("made up"), order]}]}


class Run:
    """Tickets on every path, and then everything that was written down meanwhile."""

    def __init__(self, shop: Installation, planted: Planted) -> None:
        self.shop = shop
        self.planted = planted
        self._person = f"{planted.people.text}-ben@example.com"
        self._comment = planted.people.secret("comment")

    async def submit(self, plan: dict[str, Any], order: int, *, size: int = 0) -> str:
        ticket = Ticket.model_validate(self.planted.ticket(plan, order, size=size) | {"target": "shop"})
        return (await self.shop.client.submit(ticket)).workflow_id

    async def decided(self, plan: dict[str, Any], order: int, verdict: DecisionVerdict) -> str:
        workflow_id = await self.submit(plan, order)
        view = await self.shop.until_waiting(workflow_id)
        await self.shop.decide(view, verdict, by=self._person, comment=self._comment)
        return workflow_id

    async def end(self, workflow_id: str) -> State:
        return (await self.shop.client.wait(workflow_id)).state

    async def every_path(self) -> None:
        planted, decided = self.planted, self.decided
        done = await self.submit(planted.automatic(1000), 1000)
        assert await self.end(done) is State.DONE
        assert await self.end(await decided(planted.risky(1001), 1001, APPROVE)) is State.DONE
        assert await self.end(await decided(planted.risky(1002), 1002, REJECT)) is State.REJECTED
        revised = await decided(planted.risky(1003), 1003, REVISE)
        view = await self.shop.until(revised, lambda view: (view.plan_number, view.state) == (2, State.WAITING))
        with pytest.raises(DecisionRefused):
            await self.shop.decide(view, APPROVE, by=self._person, comment=self._comment, plan_digest="0" * 64)
        await self.shop.client.cancel(revised)
        assert await self.end(revised) is State.CANCELLED
        forbidden = {"operations": [{"sql": f"TRUNCATE shop.orders -- {planted.content.secret('sql')}"}]}
        assert await self.end(await self.submit(forbidden, 1004)) is State.BLOCKED
        assert await self.end(await self.submit({"operations": planted.content.text}, 1005)) is State.FAILED
        broken = {"operations": [{"sql": f"SELECT '{planted.content.secret('cast')}'::integer"}]}
        assert await self.end(await self.submit(broken, 1006)) is State.BLOCKED
        assert await self.end(await self.submit(planted.automatic(1007), 1007, size=LARGE)) is State.DONE
        await self.taken_back(done)

    async def taken_back(self, workflow_id: str) -> None:
        undo = (await self.shop.client.undo(workflow_id, by=self._person)).workflow_id
        view = await self.shop.until_waiting(undo)
        await self.shop.decide(view, APPROVE, by=f"{self.planted.people.text}-cleo@example.com")
        assert await self.end(undo) is State.DONE

    async def in_a_batch(self) -> None:
        tickets = [
            Ticket.model_validate(self.planted.ticket(self.planted.automatic(order), order) | {"target": "shop"})
            for order in (1010, 1011, 1012)
        ]
        async with batching(self.shop) as batches:
            end = await batches.end(await batches.start(tickets))
            assert end.state is BatchState.DONE

    async def expired(self, skipper: TimeSkipper) -> None:
        clock = replace(self.shop, client=Standfast(skipper.client, self.shop.settings))
        with skipper.with_time_skipping_disabled():
            workflow_id = await Run(clock, self.planted).submit(self.planted.risky(1013), 1013)
        await self.shop.until_waiting(workflow_id)
        waiting = skipper.client.get_workflow_handle(workflow_id)
        await skipper.fast_forward(waiting, timedelta(days=4))
        assert await self.end(workflow_id) is State.EXPIRED


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Let the workers of this process log as services do."""
    handler = logging.FileHandler(file)
    handler.setFormatter(Discreet("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


@asynccontextmanager
async def recorded(home: Path) -> AsyncIterator[str]:
    """A server of its own behind a proxy that writes down what is said to it."""
    temporal = TemporalServer(home / "temporal", port=free_port(), ui_port=free_port())
    program = temporal.service()
    skipping = "--dynamic-config-value=frontend.WorkflowTimeSkippingEnabled=true"
    host, _, port = temporal.address.rpartition(":")
    (home / "wire").mkdir()
    async with Supervisor(home / "logs", lambda _: None) as supervisor:
        await supervisor.start(replace(program, argv=(*program.argv, skipping)))
        async with Recorder(host, int(port), home / "wire").open() as recorder:
            yield recorder.address


@dataclass
class Found:
    """What leaked, by where."""

    content: list[Leak]
    people: list[Leak]

    def places(self) -> set[str]:
        """The kinds of places in which content was found."""
        return {leak.where.partition(" ")[0].partition(".")[0] for leak in self.content}


async def search(home: Path, postgres_url: str, *, encrypted: bool) -> Found:
    """Take tickets on every path, and search everything that was written outside of the target."""
    planted = Planted(Marker(), Marker())
    name = f"t{uuid4().hex[:8]}"
    async with recorded(home) as address:
        settings, owner = await prepare(postgres_url, address, name)
        if not encrypted:
            settings = settings.model_copy(update={"encryption": Encryption(enabled=False)})
        with logged(home / "logs" / "workers.log"):
            async with serving(settings, *Pool), Standfast.connect(settings) as client:
                run = Run(Installation(settings, client, owner), planted)
                await run.shop.constrain(CONSTRAINTS)
                run.shop.execute(f"UPDATE shop.orders SET status = '{planted.content.secret('row')}'")  # noqa: S608
                await run.every_path()
                await run.in_a_batch()
                await run.expired(TimeSkipper(await cluster.connect(settings)))
                database = home / "temporal" / "temporal.db"
                at_temporal: list[Source] = [*sqlite(database), *files(home / "temporal")]
    outside = [*at_temporal, *(Source(f"logs {s.name}", s.data) for s in files(home / "logs")), *said(home / "wire")]
    control = list(postgres(make_conninfo(postgres_url, dbname=f"{name}_control")))
    return Found(content=leaks(planted.content, [*outside, *control]), people=leaks(planted.people, outside))


@pytest.mark.timeout(300)
async def test_nothing_of_a_ticket_can_be_read_outside_of_its_target(home: Path, postgres: str) -> None:
    found = await search(home, postgres, encrypted=True)
    assert (found.content, found.people) == ([], [])


@pytest.mark.timeout(300)
async def test_without_encryption_it_would_be_found_everywhere(home: Path, postgres: str) -> None:
    found = await search(home, postgres, encrypted=False)
    assert {"temporal", "wire", "standfast"} <= found.places()
    assert found.people
