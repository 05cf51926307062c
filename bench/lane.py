"""An installation of its own in which workers are killed, one after another, each at the point that is asked for."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import psycopg
from pydantic import SecretStr
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.client import Plugin

from bench.gate import Gate
from bench.installation import TARGET, Installation, Services
from bench.planner import ticket
from standfast.decision import DecisionVerdict, Mode
from standfast.local.chaos import histories
from standfast.local.chaos.histories import End, History
from standfast.local.fake_provider import Answers, Calls, FakeProvider, Turn
from standfast.local.supervisor import Supervisor
from standfast.outcome import State
from standfast.plan import Plan
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.ticket import Ticket
from tests.integration.wire import Wire

TOOL = Calls("describe_table", table="orders")
_GATED = ("reader", "rehearser", "writer")
_LOOK = 0.02  # seconds between two looks at what can't be waited for
LIMIT = 120.0  # seconds for anything

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How the workers of a lane are run."""

    name: str
    module: str
    plugins: Sequence[Plugin] = ()
    """Of its clients."""


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What one kill cost."""

    progress: float
    """Seconds from the kill to the next event of real work in the ticket's histories."""
    end: float
    """Seconds from the kill to the ticket's end."""
    right: bool
    """Whether the ticket ended as it should, with one row in the ledger, and its change was made once."""


class Lane:
    """Two workers of each pool, a gate on each role's way to the database, and a scripted model."""

    def __init__(self, installation: Installation, provider: FakeProvider, supervisor: Supervisor) -> None:
        self.installation = installation
        self.gates = {role: Gate() for role in _GATED}
        self._provider = provider
        self._supervisor = supervisor
        self._number = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, services: Services, address: str, name: str, provider: FakeProvider, variant: Variant
    ) -> AsyncIterator["Lane"]:
        """Create the installation in the namespace of its name, and keep its workers running."""
        installation = await Installation.create(
            services, address, name, planner={"model": "openai:scripted"}, namespace=name, plugins=variant.plugins
        )
        environment = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "none", "NO_PROXY": "127.0.0.1"}
        async with AsyncExitStack() as stack:
            supervisor = await stack.enter_async_context(services.supervisor_of(name))
            lane = cls(installation, provider, supervisor)
            settings = await stack.enter_async_context(lane._gated())
            worker = partial(installation.worker, settings=settings, module=variant.module, environment=environment)
            await supervisor.start(*(worker(pool, number) for pool in Pool for number in (1, 2)))
            yield lane

    def new_ticket(self, *turns: Turn, needs_approval: bool = False) -> Ticket:
        """Return a ticket of an order of its own; the model answers `turns`, then its plan."""
        self._number += 1
        made = ticket(self._number, prefix=self.installation.name, needs_approval=needs_approval)
        self._provider.script[made.id] = [*turns, Answers(Plan.model_validate(made.metadata["plan"]))]
        return made

    async def submit(self, made: Ticket) -> None:
        """Submit it once all workers are there."""
        await until(self._all_ready)
        await self.installation.client.submit(made)

    async def approval(self, made: Ticket) -> Callable[[], Awaitable[object]]:
        """Return what approves the plan that the ticket waits with."""
        view = await self.installation.client.view(made.workflow_id)
        if view.report is None:
            raise RuntimeError(f"{made.workflow_id} waits with no report")
        return partial(
            self.installation.client.decide,
            made.workflow_id,
            verdict=DecisionVerdict.APPROVE,
            by="ben@example.com",
            mode=Mode.CLI,
            plan_digest=view.report.plan_digest,
            fingerprint=view.report.fingerprint,
        )

    async def holder(self, workflow_id: str) -> int:
        """Return the process that has the workflow's activity in hand."""

        async def identity() -> str:
            described = await self.installation.temporal.get_workflow_handle(workflow_id).describe()
            started = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
            pending = [a for a in described.raw_description.pending_activities if a.state == started]
            return pending[0].last_worker_identity if pending else ""

        return self._pid(await until(identity))

    async def keeper(self, workflow_id: str) -> int:
        """Return the process that has the workflow in its cache: the last one that worked on it."""
        events = (await self.installation.temporal.get_workflow_handle(workflow_id).fetch_history()).events
        kind = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        done = [e.workflow_task_completed_event_attributes for e in events if e.event_type == kind]
        return self._pid(done[-1].identity)

    async def in_task(self, workflow_id: str) -> bool:
        """Whether a worker has a workflow task of it in hand now."""
        events = (await self.installation.temporal.get_workflow_handle(workflow_id).fetch_history()).events
        return events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED

    async def is_waiting(self, made: Ticket) -> bool:
        """Whether the ticket waits for a decision."""
        return (await self.installation.client.view(made.workflow_id)).state is State.WAITING

    async def is_in_ledger(self, made: Ticket) -> bool:
        """Whether the ticket's plan was executed, once."""
        return self._count("SELECT count(*) FROM standfast.ledger WHERE workflow_id = %s", made.workflow_id) == 1

    async def recovered(self, made: Ticket, killed_at: datetime) -> Recovered:
        """Wait for the ticket's end, and return what the kill has cost."""
        outcome = await self.installation.client.wait(made.workflow_id)
        ticket_history = await self._history(made.workflow_id)
        planners = [await self._history(child) for child in ticket_history.children]
        progress = min(moment for h in (ticket_history, *planners) for moment in _work(h) if moment > killed_at)
        end = max(_work(ticket_history))
        (operation,) = Plan.model_validate(made.metadata["plan"]).operations
        changed = self._count("SELECT count(*) FROM shop.orders WHERE (note, id) = (%s, %s)", *operation.params)
        return Recovered(
            progress=(progress - killed_at).total_seconds(),
            end=(end - killed_at).total_seconds(),
            right=outcome.state is State.DONE and await self.is_in_ledger(made) and changed == 1,
        )

    async def _history(self, workflow_id: str) -> History:
        found = await self.installation.temporal.get_workflow_handle(workflow_id).fetch_history()
        return histories.read(workflow_id, found.events)

    def _count(self, query: str, *params: object) -> int:
        with psycopg.connect(self.installation.owner_url) as connection:
            row = connection.execute(query.encode(), params).fetchone()
        return int(row[0]) if row else 0

    def _pid(self, identity: str) -> int:
        pid = int(identity.partition("@")[0])
        if pid not in {status.pid for status in self._supervisor.status()}:
            raise RuntimeError(f"{identity} is no worker of {self.installation.name}")
        return pid

    async def _all_ready(self) -> bool:
        return all(status.ready for status in self._supervisor.status())

    @asynccontextmanager
    async def _gated(self) -> AsyncIterator[Settings]:
        """Give settings whose every way to the target leads through a gate."""
        settings = self.installation.settings
        target = settings.targets[TARGET]
        async with AsyncExitStack() as stack:
            urls: dict[str, SecretStr] = {}
            for role, gate in self.gates.items():
                wire = await stack.enter_async_context(Wire(getattr(target, role).get_secret_value()).open())
                wire.watch = gate.watch
                urls[role] = SecretStr(wire.url)
            yield settings.model_copy(update={"targets": {TARGET: target.model_copy(update=urls)}})


def kill(pid: int) -> datetime:
    """Kill a process, and return when."""
    at = datetime.now(UTC)
    os.kill(pid, signal.SIGKILL)
    return at


async def until(condition: Callable[[], Awaitable[Found]]) -> Found:
    """Wait until `condition` holds, and return what it returned."""
    deadline = time.monotonic() + LIMIT
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {LIMIT:.0f} s for {condition.__qualname__} in vain")
        await asyncio.sleep(_LOOK)
    return found


def _work(history: History) -> list[datetime]:
    """Return the moments of real work: an attempt began, or a workflow task was completed."""
    began = [run.started_at for run in history.activities if run.started_at]
    done = [task.closed_at for task in history.tasks if task.closed_at and task.end is End.COMPLETED]
    return began + done
