"""Thousands of tickets by one batch workflow, with an agent that answers at once.

Looked at are each tenth of the tickets, since time should be linear; each run of the batch's workflow, since its
history should stay short; and every ticket afterwards: done, in the ledger once, and its one row changed once.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import psycopg

from bench.cost import cpu_seconds
from bench.installation import Installation, Services
from bench.planner import ticket
from bench.report import Cell, Machine, Report, Table, median
from standfast.batch import Pace, Progress, TicketState, workflow_id
from standfast.batching.client import Batches
from standfast.steps import Pool
from standfast.store.databases import Databases
from standfast.ticket import Ticket

_PLANNER = {"agent": "bench.planner:plan"}
_PARTS = 10


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    tickets: tuple[int, ...] = (1_000, 10_000)
    """Of each batch, one after the other in one installation."""
    at_once: int = 20


QUICK = Size(tickets=(20,), at_once=4)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One tenth of a batch."""

    tickets: int
    """Ended at its end, counted from the batch's beginning."""
    at: datetime
    cpu: Mapping[str, float]
    """Seconds of processor time so far, by process."""


async def run(size: Size) -> Report:
    """Measure, and return what was found."""
    async with Services.start() as services:
        address = await services.temporal("temporal")
        installation = await Installation.create(services, address, "batches", planner=_PLANNER)
        tables: list[Table] = []
        figures: dict[str, float] = {}
        async with (
            installation.serving(*map(installation.worker, Pool)) as pids,
            Databases(installation.settings, application="bench") as databases,
        ):
            pids |= {"temporal": services.pid("temporal"), "postgres": services.pid("postgres")}
            batches = Batches(installation.temporal, installation.settings, databases)
            first = 1
            for number in size.tickets:
                tickets = {n: ticket(n) for n in range(first, first + number)}
                batch_id, parts = await _batch(batches, tickets, size.at_once, pids)
                await _prove(batches, installation, batch_id, tickets)
                seconds = (parts[-1].at - parts[0].at).total_seconds()
                figures[f"tickets/s, {number:,} tickets"] = number / seconds
                tables += [_speed(number, parts), await _runs(installation, batch_id, number)]
                first += number
        machine = await Machine.describe(installation.temporal, installation.owner_url)
    return Report(
        benchmark="batch",
        machine=machine,
        setting=f"{size.at_once} tickets at once, one worker a pool",
        figures=figures,
        tables=tuple(tables),
    )


async def _batch(
    batches: Batches, tickets: Mapping[int, Ticket], at_once: int, pids: Mapping[str, int]
) -> tuple[str, Sequence[Part]]:
    """Run a batch to its end, and look at the clock and the processor after each tenth."""
    parts: list[Part] = []
    started = await batches.start(list(tickets.items()), pace=Pace(at_once=at_once))
    async for progress in batches.follow(started.batch_id):
        if not parts:
            parts.append(Part(tickets=0, at=progress.started_at, cpu=_cpu(pids)))
        if progress.ended * _PARTS // len(tickets) > parts[-1].tickets * _PARTS // len(tickets):
            parts.append(_part(progress, pids))
    return started.batch_id, parts


def _part(progress: Progress, pids: Mapping[str, int]) -> Part:
    return Part(tickets=progress.ended, at=datetime.now(progress.started_at.tzinfo), cpu=_cpu(pids))


def _cpu(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


async def _prove(batches: Batches, installation: Installation, batch_id: str, tickets: Mapping[int, Ticket]) -> None:
    """Compare results, ledger and shop with what the tickets asked for.

    Raises:
        RuntimeError: something is missing, there twice, or different.
    """
    results = {result.line: result async for result in batches.results(batch_id)}
    with psycopg.connect(installation.owner_url) as connection:
        ids = [ticket.workflow_id for ticket in tickets.values()]
        query = "SELECT workflow_id, count(*) FROM standfast.ledger WHERE workflow_id = ANY(%s) GROUP BY 1"
        ledger: dict[str, int] = dict(connection.execute(query, [ids]).fetchall())
        notes = connection.execute("SELECT id, note FROM shop.orders").fetchall()
    changed = Counter((order, int(number)) for order, note in notes for number in re.findall(r"seen (\d+)", note))
    wrong = [
        number
        for number, asked in tickets.items()
        if results[number].workflow_id != asked.workflow_id
        or results[number].state is not TicketState.DONE
        or ledger.get(asked.workflow_id) != 1
        or changed[asked.subject["order_id"], number] != 1
    ]
    if wrong or len(results) != len(tickets):
        raise RuntimeError(f"{len(results)} results for {len(tickets)} tickets, {len(wrong)} wrong: {wrong[:10]}")


def _speed(number: int, parts: Sequence[Part]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for before, part in pairwise(parts):
        tickets = part.tickets - before.tickets
        seconds = (part.at - before.at).total_seconds()
        used = [1000 * (part.cpu[name] - before.cpu[name]) / tickets for name in part.cpu]
        rows.append((f"{before.tickets + 1:,}-{part.tickets:,}", tickets / seconds, *used, sum(used)))
    names = [f"{name} ms" for name in parts[0].cpu]
    columns = ("tickets", "tickets/s", *names, "all ms")
    return Table(title=f"Each tenth of {number:,} tickets", columns=columns, rows=tuple(rows))


async def _runs(installation: Installation, batch_id: str, number: int) -> Table:
    """Look at the histories of the batch's workflow."""
    query = f'WorkflowId = "{workflow_id(batch_id)}"'
    events: list[float] = []
    kilobytes: list[float] = []
    async for found in installation.temporal.list_workflows(query):
        handle = installation.temporal.get_workflow_handle(found.id, run_id=found.run_id)
        info = (await handle.describe()).raw_description.workflow_execution_info
        events.append(info.history_length)
        kilobytes.append(info.history_size_bytes / 1000)
    rows = (
        ("events", median(events), max(events), sum(events), sum(events) / number),
        ("kB", median(kilobytes), max(kilobytes), sum(kilobytes), sum(kilobytes) / number),
    )
    title = f"The {len(events)} histories of the workflow of {number:,} tickets"
    return Table(title=title, columns=("of a run", "median", "max", "all runs", "a ticket"), rows=rows)
