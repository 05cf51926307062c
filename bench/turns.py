"""Sides that take turns in one run, so that what a busy machine does to one it does to the other."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.cost import cpu_seconds
from bench.installation import Installation
from bench.planner import ticket
from bench.report import Table, median, percentile
from standfast.outcome import State

Do = Callable[[int], Awaitable[None]]
"""Takes the n-th ticket from its submission to its end."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Some tickets of one side, one after another on each of a few lanes."""

    seconds: float
    latencies: tuple[float, ...]
    cpu: Mapping[str, float]
    """Seconds of processor time, by process."""

    @property
    def rate(self) -> float:
        """Tickets a second."""
        return len(self.latencies) / self.seconds


def standfast(installation: Installation) -> Do:
    """Return what takes tickets through an installation."""

    async def do(number: int) -> None:
        submitted = await installation.client.submit(ticket(number))
        outcome = await installation.client.wait(submitted.workflow_id)
        if outcome.state is not State.DONE:
            raise RuntimeError(f"{submitted.workflow_id} ended {outcome.state}: {outcome.reason}")

    return do


async def alternating(
    sides: Mapping[str, Do], pids: Mapping[str, Mapping[str, int]], *, rounds: int, tickets: int, in_flight: int
) -> dict[str, list[Turn]]:
    """Let the sides take turns, each going first as often as the others."""
    names = list(sides)
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for name in names:
        await measure(sides[name], range(10, 10 + in_flight), in_flight, pids[name])  # caches and connections
    for number in range(rounds):
        first = number % len(names)
        numbers = range(100 + number * tickets, 100 + (number + 1) * tickets)
        for name in names[first:] + names[:first]:
            turns[name].append(await measure(sides[name], numbers, in_flight, pids[name]))
    return turns


async def measure(do: Do, numbers: Iterable[int], in_flight: int, pids: Mapping[str, int]) -> Turn:
    """Do some tickets, so many at a time, and return what it took; `pids` are the processes that work on them."""
    waiting = iter(numbers)
    latencies: list[float] = []

    async def lane() -> None:
        for number in waiting:
            began = time.monotonic()
            await do(number)
            latencies.append(time.monotonic() - began)

    before = _cpu(pids)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(lane())
    seconds = time.monotonic() - began
    used = {name: after - before[name] for name, after in _cpu(pids).items()}
    return Turn(seconds=seconds, latencies=tuple(latencies), cpu=used)


def _cpu(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(pid) for name, pid in pids.items()} | {"client": time.process_time()}


def rates(mine: Sequence[Turn], other: Sequence[Turn]) -> list[float]:
    """Return how fast a side was beside another one, turn by turn."""
    return [own.rate / its.rate for own, its in zip(mine, other, strict=True)]


def ratio(mine: Sequence[Turn], other: Sequence[Turn]) -> float:
    """Return how fast a side was beside another one, as a rule."""
    return statistics.median(rates(mine, other))


def speed(turns: Mapping[str, Sequence[Turn]], mine: str) -> Table:
    """Return how fast each side was, and how fast `mine` was beside it."""
    rows = []
    for name, done in turns.items():
        latencies = [1000 * latency for turn in done for latency in turn.latencies]
        beside = rates(turns[mine], done)
        rows.append(
            (
                name,
                median([turn.rate for turn in done]),
                percentile(latencies, 50),
                percentile(latencies, 95),
                ratio(turns[mine], done),
                min(beside),
                max(beside),
            )
        )
    columns = ("side", "tickets/s", "p50 ms", "p95 ms", f"{mine} to it", "worst round", "best round")
    return Table(title="Throughput and latency, side by side", columns=columns, rows=tuple(rows))


def processor_time(turns: Mapping[str, Sequence[Turn]]) -> Table:
    """Return what each side cost, process by process."""
    processes = list(next(iter(turns.values()))[0].cpu)
    rows = []
    for name, done in turns.items():
        tickets = sum(len(turn.latencies) for turn in done)
        used = [1000 * sum(turn.cpu[process] for turn in done) / tickets for process in processes]
        rows.append((name, *used, sum(used)))
    return Table(title="Processor time of a ticket, ms", columns=("side", *processes, "all"), rows=tuple(rows))
