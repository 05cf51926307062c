"""What it costs that many tickets wait, and how quickly Standfast answers then, to new tickets and to decisions.

The agent answers at once, and every plan needs a person. Cached: the worker remembers the ticket, one of those that
came last. Evicted: it was started a moment ago, and replays the ticket's history before it can react.

The target: while 1,000 tickets wait, 99 of 100 workflows react to a decision within 100 ms.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.enums.v1 import EventType

from bench.cost import cpu_seconds, memory_mib
from bench.installation import Installation, Services
from bench.planner import ticket
from bench.report import Machine, Report, Table, percentile
from standfast.decision import DecisionVerdict, Mode
from standfast.outcome import State
from standfast.report import SafetyReport
from standfast.steps import REVIEW, VALIDATE, Pool
from standfast.visibility import STATE

_AT_ONCE = 20  # tickets on their way to waiting
_LOOK = 0.1  # seconds between two looks at how many wait


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    waiting: tuple[int, ...] = (1_000, 10_000)
    """One after another, on the same servers."""
    idle: float = 60.0
    """Seconds in which nobody asks for anything."""
    starts: int = 100
    decisions: int = 100
    """Cached, and as many evicted, for each number of waiting tickets."""


QUICK = Size(waiting=(8, 16), idle=1.0, starts=2, decisions=3)


@dataclass(frozen=True, kw_only=True)
class Idle:
    """What a process uses while tickets wait."""

    cpu: float
    """Per cent of one core."""
    memory: float
    """MiB."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """What was found while so many tickets waited."""

    waiting: int
    idle: Mapping[str, Idle]
    """By process."""
    starts: Sequence[float]
    """Milliseconds of each submission."""
    cached: Sequence["Decided"]
    evicted: Sequence["Decided"]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One decision; all in milliseconds since it was sent."""

    reaction: float
    """Until the workflow's first command."""
    recorded: float
    """Until the sender was told that it is on record."""
    going_on: float
    """Until the ticket's next step was scheduled."""


async def run(size: Size) -> Report:
    """Measure, and return what was found."""
    async with Services.start() as services:
        address = await services.temporal("temporal")
        installation = await Installation.create(services, address, "shop", planner={"agent": "bench.planner:plan"})
        crowds: list[Crowd] = []
        submitted = 0
        for waiting in size.waiting:
            crowds.append(await _measure(installation, size, waiting, submitted))
            submitted = waiting + size.starts
        machine = await Machine.describe(installation.temporal, installation.owner_url)
    return Report(
        benchmark="latency",
        machine=machine,
        setting=(
            f"One worker a pool; {size.starts} starts, {size.decisions} decisions cached and as many evicted, one at a "
            f"time; idle for {size.idle:.0f} s"
        ),
        figures={
            f"decision to reaction, {crowd.waiting:,} waiting, {kind}, p{percent} ms": percentile(
                [decided.reaction for decided in decisions], percent
            )
            or 0
            for crowd in crowds
            for kind, decisions in (("cached", crowd.cached), ("evicted", crowd.evicted))
            for percent in (50, 99)
        },
        tables=tuple(table for crowd in crowds for table in _tables(crowd)),
    )


async def _measure(installation: Installation, size: Size, waiting: int, submitted: int) -> Crowd:
    """Submit tickets until `waiting` of them wait; `submitted` were before."""
    cached = range(waiting - size.decisions, waiting)
    evicted = range(waiting - 2 * size.decisions, waiting - size.decisions)
    workers = [installation.worker(pool) for pool in Pool]
    async with installation.serving(*workers) as pids:
        await _fill(installation, range(submitted, waiting))
        idle = await _idle({**pids, "Temporal server": installation.services.pid("temporal")}, size.idle)
        starts = [await _start(installation, waiting + number) for number in range(size.starts)]
        seen = {number: await _report_of(installation, number) for number in (*cached, *evicted)}
        by_memory = [await _decide(installation, number, seen[number]) for number in cached]
    async with installation.serving(*workers):
        by_replay = [await _decide(installation, number, seen[number]) for number in evicted]
    return Crowd(waiting=waiting, idle=idle, starts=starts, cached=by_memory, evicted=by_replay)


async def _idle(pids: Mapping[str, int], seconds: float) -> dict[str, Idle]:
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    await asyncio.sleep(seconds)
    return {
        name: Idle(cpu=100 * (cpu_seconds(pid) - before[name]) / seconds, memory=memory_mib(pid))
        for name, pid in pids.items()
    }


def _tables(crowd: Crowd) -> Iterable[Table]:
    milliseconds = (
        _row("start a ticket: round trip", crowd.starts),
        *_rows("cached", crowd.cached),
        *_rows("evicted", crowd.evicted),
    )
    columns = ("what", "p50", "p99", "max")
    yield Table(title=f"{crowd.waiting:,} waiting: milliseconds", columns=columns, rows=milliseconds)
    idle = tuple((name, used.cpu, used.memory) for name, used in crowd.idle.items())
    columns_idle = ("process", "% of one core", "memory MiB")
    yield Table(title=f"{crowd.waiting:,} waiting: nobody asks for anything", columns=columns_idle, rows=idle)


def _rows(kind: str, decided: Sequence[Decided]) -> Iterable[tuple[str, float | None, float | None, float]]:
    yield _row(f"decision to the workflow's first reaction, {kind}", [d.reaction for d in decided])
    yield _row(f"decision to its being on record, {kind}", [d.recorded for d in decided])
    yield _row(f"decision to the next step, {kind}", [d.going_on for d in decided])


def _row(what: str, values: Sequence[float]) -> tuple[str, float | None, float | None, float]:
    return what, percentile(values, 50), percentile(values, 99), max(values)


async def _fill(installation: Installation, numbers: Sequence[int]) -> None:
    """Submit tickets until all of them wait for a decision."""
    others = await _waiting(installation)
    for number in numbers:
        if number % _AT_ONCE == 0:
            await _until_waiting(installation, others + number - numbers[0] - _AT_ONCE)
        await installation.client.submit(ticket(number, needs_approval=True))
    await _until_waiting(installation, others + len(numbers))


async def _until_waiting(installation: Installation, count: int) -> None:
    while await _waiting(installation) < count:  # noqa: ASYNC110 - the server counts
        await asyncio.sleep(_LOOK)


async def _waiting(installation: Installation) -> int:
    return (await installation.temporal.count_workflows(f'{STATE.name} = "{State.WAITING}"')).count


async def _start(installation: Installation, number: int) -> float:
    """Return how long the submission took, once its ticket waits, too."""
    others = await _waiting(installation)
    began = time.monotonic()
    await installation.client.submit(ticket(number, needs_approval=True))
    milliseconds = 1000 * (time.monotonic() - began)
    await _until_waiting(installation, others + 1)
    return milliseconds


async def _report_of(installation: Installation, number: int) -> SafetyReport:
    workflow_id = ticket(number, needs_approval=True).workflow_id
    view = await installation.client.view(workflow_id)
    if view.report is None:
        raise RuntimeError(f"{workflow_id} waits with no report")
    return view.report


async def _decide(installation: Installation, number: int, seen: SafetyReport) -> Decided:
    """Approve, wait for the ticket's end, and read from its history when it reacted."""
    workflow_id = ticket(number, needs_approval=True).workflow_id
    sent = datetime.now(UTC)
    await installation.client.decide(
        workflow_id,
        verdict=DecisionVerdict.APPROVE,
        by="ben@example.com",
        mode=Mode.CLI,
        plan_digest=seen.plan_digest,
        fingerprint=seen.fingerprint,
    )
    recorded = datetime.now(UTC)
    await installation.client.wait(workflow_id)
    scheduled = await _scheduled(installation, workflow_id)
    return Decided(
        reaction=_milliseconds(sent, scheduled[REVIEW.name]),
        recorded=_milliseconds(sent, recorded),
        going_on=_milliseconds(sent, scheduled[VALIDATE.name]),
    )


async def _scheduled(installation: Installation, workflow_id: str) -> dict[str, datetime]:
    """Return when each step was scheduled last: what is approved is validated once more."""
    history = await installation.temporal.get_workflow_handle(workflow_id).fetch_history()
    return {
        event.activity_task_scheduled_event_attributes.activity_type.name: event.event_time.ToDatetime(tzinfo=UTC)
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    }


def _milliseconds(since: datetime, until: datetime) -> float:
    return 1000 * (until - since).total_seconds()
