"""Sides that take turns in one run, so that what a busy machine does to one it does to the other."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from bench.cost import cpu_seconds
from bench.installation import Installation
from bench.planner import ticket
from bench.report import Table, median, percentile
from standfast.outcome import State

Do = Callable[[int], Awaitable[None]]
"""Takes the n-th ticket from its submission to its end."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some tickets, one after another on each of a few lanes."""

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
) -> dict[str, list[Batch]]:
    """Let the sides take turns, each going first as often as the others."""
    names = list(sides)
    batches: dict[str, list[Batch]] = {name: [] for name in names}
    for name in names:
        await measure(sides[name], range(10, 10 + in_flight), in_flight, pids[name])  # caches and connections
    for number in range(rounds):
        first = number % len(names)
        numbers = range(100 + number * tickets, 100 + (number + 1) * tickets)
        for name in names[first:] + names[:first]:
            batches[name].append(await measure(sides[name], numbers, in_flight, pids[name]))
    return batches


async def measure(do: Do, numbers: Iterable[int], in_flight: int, pids: Mapping[str, int]) -> Batch:
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
    return Batch(seconds=seconds, latencies=tuple(latencies), cpu=used)


def _cpu(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(pid) for name, pid in pids.items()} | {"client": time.process_time()}


def speed(batches: Mapping[str, list[Batch]], mine: str) -> Table:
    """Return how fast each side was, and how fast `mine` was beside it."""
    rows = []
    for name, done in batches.items():
        latencies = [1000 * latency for batch in done for latency in batch.latencies]
        rates = [own.rate / batch.rate for own, batch in zip(batches[mine], done, strict=True)]
        rows.append(
            (
                name,
                median([batch.rate for batch in done]),
                percentile(latencies, 50),
                percentile(latencies, 95),
                median(rates),
                min(rates),
                max(rates),
            )
        )
    columns = ("side", "tickets/s", "p50 ms", "p95 ms", f"{mine} to it", "worst round", "best round")
    return Table(title="Throughput and latency, side by side", columns=columns, rows=tuple(rows))


def processor_time(batches: Mapping[str, list[Batch]]) -> Table:
    """Return what each side cost, process by process."""
    processes = list(next(iter(batches.values()))[0].cpu)
    rows = []
    for name, done in batches.items():
        tickets = sum(len(batch.latencies) for batch in done)
        used = [1000 * sum(batch.cpu[process] for batch in done) / tickets for process in processes]
        rows.append((name, *used, sum(used)))
    return Table(title="Processor time of a ticket, ms", columns=("side", *processes, "all"), rows=tuple(rows))
