"""The whole verification.

The chain is read first and all else after it, so that each row's witnesses exist by then. What the witnesses say beyond
the chain is looked for in it once more before it counts as missing: tickets may be under way meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from temporalio.client import Client

from standfast import cluster
from standfast.domain import Record
from standfast.errors import NotPermitted
from standfast.settings import Settings, Target
from standfast.storage.external import external_storage
from standfast.store.connections import Connection
from standfast.store.databases import Databases
from standfast.verification import chain, streams, traces
from standfast.verification.checks import problems
from standfast.verification.evidence import Executed, Placed, Problem, Run, Ticket, Trace, place

_AT_ONCE = 16  # tickets whose histories are read together
_CLOCKS = timedelta(minutes=5)  # between this machine and Temporal's


class Verified(Record):
    """What was compared, and what was found."""

    rows: int
    head: str
    """Hash of the newest row, 64 zeros of an empty chain."""
    kinds: dict[str, int]
    """Rows by kind."""
    tickets: int
    """That are in the chain, a ledger or Temporal."""
    executions: int
    """Rows of the ledgers that are tickets' of targets in the settings."""
    histories: int
    removed: int
    """Tickets of which Temporal has removed a history, as it does some time after their end."""
    unread: tuple[str, ...]
    """Targets that the settings don't name: their ledgers were not compared."""
    problems: tuple[Problem, ...]


async def verify(
    settings: Settings,
    *,
    targets: Sequence[str] = (),
    heads: Collection[str] = (),
    on_progress: Callable[[str], None],
) -> Verified:
    """Compare the chain with itself, with `heads` that were kept elsewhere, with the ledgers and with the histories.

    Raises:
        UnknownTarget: the settings don't name one of the targets.
        NotPermitted: this process has no URL of the control database, or neither writer nor rehearser of a target.
        ServiceUnavailable: a database or Temporal can't be reached.
    """
    compared = {name: settings.target(name) for name in targets or settings.targets}
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(streams.reading(streams.control_url(settings)))
        ledgers = [
            await stack.enter_async_context(streams.reading(_ledger_url(name, target)))
            for name, target in compared.items()
        ]
        temporal = await stack.enter_async_context(_temporal(settings))
        read = await chain.read(control, heads, lambda rows: on_progress(f"{rows:,} rows of the chain"))
        found = read.problems + await chain.constraints(control)
        kept = _Kept(retention=await traces.retention(temporal), purged=read.purged)
        examiner = _Examiner(control, temporal, kept, frozenset(compared), only=bool(targets))
        sides = streams.grouped(
            streams.by_ticket(control, read.sequence),
            streams.runs(temporal, targets),
            *(streams.executed(ledger) for ledger in ledgers),
        )
        async for batch in streams.batches(sides, _AT_ONCE):
            for more in await asyncio.gather(*(examiner.examine(workflow_id, *known) for workflow_id, known in batch)):
                found += more
            on_progress(f"{read.rows:,} rows of the chain, {examiner.tickets:,} tickets")
    return Verified(
        rows=read.rows,
        head=read.hash,
        kinds=dict(read.kinds),
        tickets=examiner.tickets,
        executions=examiner.executions,
        histories=examiner.histories,
        removed=examiner.removed,
        unread=tuple(sorted(examiner.unread)),
        problems=tuple(found),
    )


@asynccontextmanager
async def _temporal(settings: Settings) -> AsyncIterator[Client]:
    """A client that reads what histories say wherever it is stored."""
    async with (
        Databases(settings, application="standfast audit") as databases,
        external_storage(settings, databases) as storage,
    ):
        yield await cluster.connect(settings, storage)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What Temporal still has."""

    retention: timedelta
    purged: datetime

    def since(self) -> datetime:
        """Return from when on it has the histories of all that happened: that moves on while others are read."""
        return max(datetime.now(UTC) - self.retention + _CLOCKS, self.purged)


class _Examiner:
    """Examines tickets, and counts what it has seen."""

    def __init__(
        self, control: Connection, temporal: Client, kept: _Kept, targets: frozenset[str], *, only: bool
    ) -> None:
        self.tickets = self.executions = self.histories = self.removed = 0
        self.unread: set[str] = set()
        self._control = control
        self._temporal = temporal
        self._kept = kept
        self._targets = targets
        self._only = only

    async def examine(
        self, workflow_id: str, rows: Sequence[Placed], runs: Sequence[Run], *ledgers: Sequence[Executed]
    ) -> list[Problem]:
        """Return what is wrong about a ticket, or about rows of ledgers that are no ticket's; nothing about what is not
        to be compared.
        """  # noqa: D205 - one sentence
        kind, _, rest = workflow_id.partition("/")
        target = rest.partition("/")[0]
        executed = {one for ledger in ledgers for one in ledger if not self._only or one.target in self._targets}
        own = {one for one in executed if workflow_id.startswith(f"ticket/{one.target}/")}
        found = [_astray(one) for one in executed - own]
        self.unread |= {one.target for one in executed} - self._targets
        compared = target in self._targets
        if kind != "ticket" or (self._only and not compared):
            return found
        kept_since = self._kept.since()
        ticket = Ticket(
            workflow_id=workflow_id,
            rows=rows,
            later=rows,
            executed=sorted(own, key=lambda one: one.executed_at) if compared else None,
            traces=await self._traces(workflow_id, rows, runs, kept_since),
            kept_since=kept_since,
        )
        self._count(ticket, target)
        if any(problems(ticket)):
            found += problems(replace(ticket, later=await streams.of_ticket(self._control, workflow_id)))
        return found

    async def _traces(
        self, workflow_id: str, rows: Sequence[Placed], runs: Sequence[Run], kept_since: datetime
    ) -> list[Trace]:
        """Read the histories that Temporal lists, and those that it should have: its list lags behind."""
        wanted = {run.run_id for run in runs}
        wanted |= {place(row)[0] for row in rows if row.reached > kept_since} - {""}
        found = [await traces.trace(self._temporal, workflow_id, run_id) for run_id in sorted(wanted)]
        return [trace for trace in found if trace is not None]

    def _count(self, ticket: Ticket, target: str) -> None:
        self.tickets += 1
        self.histories += len(ticket.traces)
        self.removed += bool(ticket.gone)
        if ticket.executed is None:
            self.unread.add(target)
        else:
            self.executions += len(ticket.executed)


def _astray(one: Executed) -> Problem:
    """The ledger of a target has executions of this target's tickets, which carry its name."""
    found = f"plan {one.plan_digest:.12} is in a ledger for target {one.target!r}, of which this is no ticket"
    return Problem(where=one.workflow_id, problem=found, look="standfast.ledger of the targets")


def _ledger_url(name: str, target: Target) -> str:
    secret = target.writer or target.rehearser  # a rehearser may be on another server, which has no ledger
    if secret is None:
        raise NotPermitted(f"this process can't read the ledger of target {name!r}; set targets.{name}.rehearser")
    return secret.get_secret_value()
