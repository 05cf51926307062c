"""kill -9 of a worker at each step of a ticket: how long until its work goes on, with our time-outs and the SDK's.

Each kill hits a step in its middle: a gate on the wire to PostgreSQL, or the scripted model, keeps the worker there.
Two workers of each pool run on either side, and are started again when they die. Several lanes, each an installation of
its own with its own workers, take their turns at the same time; the lanes of both sides share the machine all the time.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event

from bench.gate import commit_of, nth
from bench.installation import Services, namespaces
from bench.lane import LIMIT, TOOL, Lane, Recovered, Variant, kill, until
from bench.report import Machine, Report, Table, median
from bench.sdk_defaults import START_TO_CLOSE, SdkDefaults
from standfast.local.fake_provider import FakeProvider, Waits
from standfast.local.supervisor import Service
from standfast.ticket import Ticket
from tests.integration.wire import Fate

_OURS = Variant(name="Standfast", module="standfast.cli")
_DEFAULTS = Variant(name="SDK defaults", module="bench.sdk_defaults", plugins=(SdkDefaults(),))
_TIMER_SHIFT = "history.timerProcessorMaxTimeShift"
_IN_THE_MIDDLE = 8  # messages to the database that a step has sent before it is hit

Killed = tuple[Ticket, datetime]
Found = dict[Variant, dict[str, list[Recovered]]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    kills: int = 10
    """At each step, on either side."""
    lanes: tuple[int, int] = 3, 2
    """Of the SDK's defaults, which take longer, and of ours."""


QUICK = Size(kills=1, lanes=(1, 1))


async def run(size: Size) -> Report:
    """Measure, and return what was found."""
    names = {
        variant: [f"{variant.module.rpartition('.')[2]}-{number}" for number in range(1, lanes + 1)]
        for variant, lanes in zip((_DEFAULTS, _OURS), size.lanes, strict=True)
    }
    found: Found = {variant: {step: [] for step in STEPS} for variant in names}
    with FakeProvider({}) as provider:
        async with Services.start() as services, AsyncExitStack() as stack:
            addresses = {
                _DEFAULTS: await services.temporal("untuned", lambda s: namespaces(_untuned(s), names[_DEFAULTS])),
                _OURS: await services.temporal("tuned", lambda s: namespaces(s, names[_OURS])),
            }
            lanes = [
                (variant, await stack.enter_async_context(Lane.open(services, address, name, provider, variant)))
                for variant, address in addresses.items()
                for name in names[variant]
            ]
            todo = {variant: [*STEPS] * size.kills for variant in found}
            async with asyncio.TaskGroup() as group:
                for variant, lane in lanes:
                    group.create_task(_turns(lane, todo[variant], found[variant]))
            machine = await Machine.describe(lanes[0][1].installation.temporal, services.postgres.url())
    return Report(
        benchmark="recovery",
        machine=machine,
        setting=(
            f"{size.kills} kills at each step and side; {len(lanes)} installations at a time, {size.lanes[0]} of them "
            f"with the SDK's defaults, where start_to_close, which has none, is {START_TO_CLOSE.total_seconds():.0f} s"
        ),
        figures={
            f"{variant.name}: longest until work goes on, s": max(r.progress for by in steps.values() for r in by)
            for variant, steps in found.items()
        },
        tables=(_table(found),),
    )


def _table(found: Found) -> Table:
    rows = []
    for step in STEPS:
        row: list[str | int | float | None] = [step]
        for steps in found.values():
            progress, end = [r.progress for r in steps[step]], [r.end for r in steps[step]]
            row += [median(progress), max(progress), median(end)]
        right = sum(r.right for steps in found.values() for r in steps[step])
        rows.append((*row, f"{right} of {sum(len(steps[step]) for steps in found.values())}"))
    measured = ("median", "max", "end")
    columns = (
        "killed during",
        *(f"{variant.name}: {what}" for variant in found for what in measured),
        "once and right",
    )
    title = "Seconds from kill -9 until work goes on (median, max) and until the ticket has ended (median)"
    return Table(title=title, columns=columns, rows=tuple(rows))


def _untuned(service: Service) -> Service:
    return replace(service, argv=tuple(argument for argument in service.argv if _TIMER_SHIFT not in argument))


async def _turns(lane: Lane, todo: list[str], found: dict[str, list[Recovered]]) -> None:
    """Kill until nothing is left to do."""
    while todo:
        step = todo.pop(0)
        async with asyncio.timeout(LIMIT):  # a step that was not hit where it should would be awaited for ever
            made, killed_at = await STEPS[step](lane)
            found[step].append(await lane.recovered(made, killed_at))


# --- the steps -------------------------------------------------------------------------------------------------------


async def _reading(lane: Lane, role: str) -> Killed:
    """Kill in the middle of what a step of the ticket workflow reads or rehearses."""
    made = lane.new_ticket(TOOL)
    hold = lane.gates[role].stop(nth(_IN_THE_MIDDLE))
    await lane.submit(made)
    await hold.reached.wait()
    killed_at = kill(await lane.holder(made.workflow_id))
    hold.let(Fate.CUT)
    return made, killed_at


async def _gather(lane: Lane) -> Killed:
    return await _reading(lane, "reader")


async def _validate(lane: Lane) -> Killed:
    return await _reading(lane, "rehearser")


async def _model_call(lane: Lane) -> Killed:
    asked, answer = Event(), Event()
    made = lane.new_ticket(Waits(asked, answer, TOOL), TOOL)  # who is asked again calls the tool as well
    await lane.submit(made)
    await until(lambda: _is_set(asked))
    killed_at = kill(await lane.holder(f"{made.workflow_id}/plan/1"))
    answer.set()
    return made, killed_at


async def _tool_call(lane: Lane) -> Killed:
    asked, answer = Event(), Event()
    made = lane.new_ticket(Waits(asked, answer, TOOL))
    await lane.submit(made)
    await until(lambda: _is_set(asked))
    hold = lane.gates["reader"].stop(nth(_IN_THE_MIDDLE))
    answer.set()
    await hold.reached.wait()
    killed_at = kill(await lane.holder(f"{made.workflow_id}/plan/1"))
    hold.let(Fate.CUT)
    return made, killed_at


async def _is_set(event: Event) -> bool:
    return event.is_set()


async def _waiting(lane: Lane) -> Killed:
    """Kill who knows the ticket by heart, and decide at once."""
    made = lane.new_ticket(TOOL, needs_approval=True)
    await lane.submit(made)
    await until(lambda: lane.is_waiting(made))
    approve = await lane.approval(made)
    killed_at = kill(await lane.keeper(made.workflow_id))
    await approve()
    return made, killed_at


async def _before_commit(lane: Lane) -> Killed:
    made = lane.new_ticket(TOOL)
    hold = lane.gates["writer"].stop(commit_of(made.workflow_id))
    await lane.submit(made)
    await hold.reached.wait()
    killed_at = kill(await lane.holder(made.workflow_id))
    hold.let(Fate.CUT)
    return made, killed_at


async def _after_commit(lane: Lane) -> Killed:
    """Freeze the worker that is about to commit, let the COMMIT through, and kill it before it hears of it."""
    made = lane.new_ticket(TOOL)
    hold = lane.gates["writer"].stop(commit_of(made.workflow_id))
    await lane.submit(made)
    await hold.reached.wait()
    pid = await lane.holder(made.workflow_id)
    os.kill(pid, signal.SIGSTOP)
    hold.let(Fate.PASS)
    await until(lambda: lane.is_in_ledger(made))
    return made, kill(pid)


async def _outcome(lane: Lane) -> Killed:
    """Kill who was just handed the task of writing the outcome."""
    made = lane.new_ticket(TOOL)
    hold = lane.gates["writer"].stop(commit_of(made.workflow_id))
    await lane.submit(made)
    await hold.reached.wait()
    pid = await lane.keeper(made.workflow_id)
    os.kill(pid, signal.SIGSTOP)
    hold.let(Fate.PASS)
    await until(lambda: lane.in_task(made.workflow_id))
    return made, kill(pid)


STEPS: dict[str, Callable[[Lane], Awaitable[Killed]]] = {
    "gather": _gather,
    "model call": _model_call,
    "tool call": _tool_call,
    "validate": _validate,
    "waiting, then decided": _waiting,
    "execute, before COMMIT": _before_commit,
    "execute, after COMMIT": _after_commit,
    "outcome": _outcome,
}
