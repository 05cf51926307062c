"""The whole pipeline with an agent that answers at once, beside a bare Temporal workflow that sends the same SQL.

What is the same on both sides: the Temporal server, the PostgreSQL server, the sample shop (a copy each), one process a
pool, task queues, time-outs, payloads (ours encrypted), no compression on the wire, and every SQL statement, recorded
from the product. What is not: everything that Standfast does in Python and tells Temporal beyond that. The sides take
turns in one run; the figure is their ratio.

The bare workflow has a child workflow, as ours has. How much that child costs, the bare one without it tells.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, GrpcCompression, WorkflowHistory

from bench.bare_worker import Instructions
from bench.bare_workflow import queue
from bench.installation import TARGET, Installation, Services, program
from bench.planner import ticket
from bench.recording import Recorder, Recording, urls_of
from bench.report import Machine, Report, Table, percentile
from bench.turns import Do, alternating, measure, processor_time, ratio, speed, standfast
from standfast import steps
from standfast.local.supervisor import Service
from standfast.plan import Plan
from standfast.steps import Pool

_PLANNER = {"agent": "bench.planner:plan"}
_OURS, _BARE, _FLAT = "Standfast", "bare", "bare, no child workflow"
_FIRST_GROWTH = 1_000_000  # numbers of tickets that no round uses


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int = 8
    tickets: int = 50
    """Of one side in one round."""
    in_flight: int = 10
    growth: tuple[int, ...] = (100, 1_000, 10_000)
    """Tickets in all at the end of each stretch."""


QUICK = Size(rounds=1, tickets=4, in_flight=2, growth=(4, 8))


async def run(size: Size) -> Report:
    """Measure, and return what was found."""
    async with Services.start() as services:
        address = await services.temporal("temporal")
        ours = await Installation.create(services, address, "ours", planner=_PLANNER)
        twin = await Installation.create(services, address, "bare", planner=_PLANNER)
        file = services.folder / "bare.json"
        file.write_text((await _instructions(twin, address)).model_dump_json(), "utf-8")
        bare = [_bare_worker(pool, file) for pool in Pool]
        client = await Client.connect(address, grpc_compression=GrpcCompression.NONE)
        sides = {_OURS: standfast(ours), _BARE: _bare(client, "Bare"), _FLAT: _bare(client, "BareFlat")}
        async with ours.serving(*map(ours.worker, Pool)) as our_pids, twin.serving(*bare) as bare_pids:
            servers = {"temporal": services.pid("temporal"), "postgres": services.pid("postgres")}
            pids = {_OURS: servers | our_pids, _BARE: servers | bare_pids, _FLAT: servers | bare_pids}
            turns = await alternating(sides, pids, rounds=size.rounds, tickets=size.tickets, in_flight=size.in_flight)
            per_step = await _per_step(ours, size.tickets)
            growth = await _growth(sides[_OURS], ours, pids[_OURS], size)
        machine = await Machine.describe(client, ours.owner_url)
    return Report(
        benchmark="pipeline",
        machine=machine,
        setting=f"{size.rounds} rounds of {size.tickets} tickets a side, {size.in_flight} in flight, one worker a pool",
        figures={f"ratio to {name}": ratio(turns[_OURS], other) for name, other in turns.items() if name != _OURS},
        tables=(speed(turns, _OURS), processor_time(turns), per_step, growth),
    )


# --- the two sides ---------------------------------------------------------------------------------------------------


def _bare(client: Client, workflow: str) -> Do:
    async def do(number: int) -> None:
        document = ticket(number, prefix=workflow).model_dump(mode="json")
        handle = await client.start_workflow(
            workflow,
            document,
            id=f"{workflow}/{document['id']}",
            task_queue=queue(Pool.CORE),
            task_timeout=steps.WORKFLOW_TASK,
        )
        await handle.result()

    return do


async def _instructions(installation: Installation, address: str) -> Instructions:
    """Let Standfast itself do two tickets on the bare side's databases, and record the second one."""
    recorder = Recorder()
    async with (
        recorder.tapped(installation) as settings,
        installation.serving(*(installation.worker(pool, settings=settings) for pool in Pool)),
    ):
        do = standfast(installation)
        await do(1)
        recorder.start()
        await do(2)
        recorded = ticket(2)
        view = await installation.client.view(recorded.workflow_id)
    run = await installation.temporal.get_workflow_handle(recorded.workflow_id).describe()
    planner = await installation.temporal.get_workflow_handle(f"{recorded.workflow_id}/plan/1").describe()
    (operation,) = Plan.model_validate(recorded.metadata["plan"]).operations
    seen = view.model_dump(mode="json")
    return Instructions(
        address=address,
        urls=urls_of(installation.settings.control) | urls_of(installation.settings.targets[TARGET]),
        recording=Recording(
            ticket_id=recorded.id,
            params=operation.params,
            workflow_id=recorded.workflow_id,
            run_id=run.run_id,
            planner_run_id=planner.run_id,
            steps=recorder.steps,
        ),
        answers={
            "gather": seen["context"],
            "validate": seen["report"],
            "execute": seen["outcome"]["execution"],
            "conclude": {"hash": "0" * 64},
        },
    )


def _bare_worker(pool: Pool, file: Path) -> Service:
    async def ready(pid: int) -> bool:
        return pid > 0  # the first tickets are not measured

    return program(f"bare-{pool}", (sys.executable, "-P", "-m", "bench.bare_worker", pool, str(file)), ready=ready)


# --- step by step ----------------------------------------------------------------------------------------------------


async def _per_step(installation: Installation, tickets: int) -> Table:
    """Look into the histories of the first round: from scheduled to completed."""
    seen: dict[str, list[float]] = {}
    for number in range(100, 100 + tickets):
        workflow_id = ticket(number).workflow_id
        for part in (workflow_id, f"{workflow_id}/plan/1"):
            history = await installation.temporal.get_workflow_handle(part).fetch_history()
            for step, milliseconds in _durations(history):
                seen.setdefault(step, []).append(milliseconds)
    rows = [(step, percentile(seen[step], 50), percentile(seen[step], 95)) for step in _STEPS if step in seen]
    return Table(title="Step by step, ms", columns=("step", "p50", "p95"), rows=tuple(rows))


_STEPS = ("first task", "gather", "planner workflow", "plan", "validate", "execute", "conclude")


def _durations(history: WorkflowHistory) -> Iterable[tuple[str, float]]:
    began: dict[int, tuple[str, int]] = {}
    for event in history.events:
        at = event.event_time.ToMilliseconds()
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED if event.event_id == 3:  # noqa: PLR2004 - the first one
                yield "first task", at - history.events[0].event_time.ToMilliseconds()
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                began[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name, at
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                began[event.event_id] = "planner workflow", at
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                step, then = began[event.activity_task_completed_event_attributes.scheduled_event_id]
                yield step, at - then
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                step, then = began[event.child_workflow_execution_completed_event_attributes.initiated_event_id]
                yield step, at - then


# --- growth ----------------------------------------------------------------------------------------------------------


async def _growth(do: Do, installation: Installation, pids: Mapping[str, int], size: Size) -> Table:
    """Go on with the same servers, databases and workers, and look at what a ticket costs meanwhile."""
    rows = []
    done = 0
    stored = _stored(installation)
    for total in size.growth:
        numbers = range(_FIRST_GROWTH + done, _FIRST_GROWTH + total)
        grown = await measure(do, numbers, size.in_flight, pids)
        now = _stored(installation)
        tickets = len(grown.latencies)
        servers = {"temporal": grown.cpu["temporal"], "postgres": grown.cpu["postgres"]}
        workers = sum(used for name, used in grown.cpu.items() if name in {pool.value for pool in Pool})
        used = [1000 * seconds / tickets for seconds in (*servers.values(), workers)]
        kilobytes = [(now[name] - stored[name]) / 1000 / tickets for name in now]
        milliseconds = [1000 * latency for latency in grown.latencies]
        rows.append((f"{done + 1:,}-{total:,}", grown.rate, percentile(milliseconds, 50), *used, *kilobytes))
        done, stored = total, now
    columns = (
        "tickets",
        "tickets/s",
        "p50 ms",
        "temporal ms",
        "postgres ms",
        "workers ms",
        "temporal kB",
        "postgres kB",
    )
    return Table(title="A ticket's cost as tickets grow", columns=columns, rows=tuple(rows))


def _stored(installation: Installation) -> dict[str, int]:
    """Return the bytes in Temporal's database files, and in the target's and the control database."""
    files = (installation.services.folder / "temporal").glob("temporal.db*")
    with psycopg.connect(installation.owner_url) as connection:
        names = [installation.name, f"{installation.name}_control"]
        query = "SELECT sum(pg_database_size(name))::bigint FROM unnest(%s::name[]) AS name"
        row = connection.execute(query, [names]).fetchone()
    return {"temporal": sum(file.stat().st_size for file in files), "postgres": row[0] if row else 0}
