"""The command `chaos`: faults on purpose while tickets run, then a table of recoveries and the proofs."""

import asyncio
import os
import shutil
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output, text_table
from standfast.cli.ranges import Range

if TYPE_CHECKING:
    from standfast.local.chaos.injection import Injected
    from standfast.local.chaos.run import ChaosRun, Report
    from standfast.local.supervisor import Event

NOT_PROVED = 1
INTERRUPTED = 130
_LOOK = 0.25  # seconds between two pictures
_SHOWN = 20  # violations of a proof that people get to see; machines get all
_COLUMNS = [
    "fault",
    "times",
    "tickets",
    "median s",
    "max s",
    "lasted",
    "since then: median",
    "max",
    "pool idle",
    "the slowest waited for",
]


@click.command()
@click.option("--minutes", type=Range(0.1, 1440), default=10, show_default=True, help="For how long there are faults.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides on tickets, faults and their order.")
@pass_invocation
def chaos(invocation: Invocation, minutes: float, seed: int) -> int:
    """Kill and freeze the parts of a local set-up while tickets run, and prove that nothing is lost or done twice.

    It brings a set-up of its own in a temporary folder, and refuses to run where settings name other servers or
    databases. The exit code is 1 if a proof fails; the folder is kept then.
    """
    from standfast.cli.services import until_signal  # noqa: PLC0415 - commands import when they run

    report = run(until_signal(_chaos(invocation, timedelta(minutes=minutes), seed)))
    if report is None:
        return INTERRUPTED
    return 0 if report.holds else NOT_PROVED


async def _chaos(invocation: Invocation, duration: timedelta, seed: int) -> "Report":
    from standfast.local.chaos.run import ChaosRun  # noqa: PLC0415

    output = invocation.output
    folder = Path(mkdtemp(prefix="standfast-chaos-"))
    report: Report | None = None
    try:
        one = ChaosRun(
            invocation.settings(local=False),
            duration=duration,
            seed=seed,
            home=folder,
            environment=os.environ,
            on_event=lambda event: _event(event, output),
        )
        report = await _watched(one, output)
        if output.as_json:
            output.document(_document(report, duration, seed))
        _print(report, output)
    finally:
        if report is not None and not report.holds:
            output.line(f"Databases and logs are kept in {folder}", "yellow")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report


def _event(event: "Event", output: Output) -> None:
    away = f" after {event.away.total_seconds():.1f} s" if event.away is not None else ""
    output.line(f"{event.at:%H:%M:%S}  {event.service:<20} {event.happening}{away}", "dim")


async def _watched(one: "ChaosRun", output: Output) -> "Report":
    """Show the run as it goes: a live picture on a terminal, else a line for each fault."""
    running = asyncio.create_task(one.run())
    on_terminal = output.people.is_terminal
    said = 0
    try:
        with Live(console=output.people, auto_refresh=False, transient=True) as live:
            while not running.done():
                if on_terminal:
                    live.update(_picture(one), refresh=True)
                for injected in one.injected[said:]:
                    output.line(_sentence(injected))
                said = len(one.injected)
                await asyncio.wait({running}, timeout=_LOOK)
    finally:
        running.cancel()
        await asyncio.wait({running})
    return running.result()


def _sentence(injected: "Injected") -> str:
    where = f" ({injected.service}, process {injected.pid})" if injected.service else ""
    return f"{injected.at:%H:%M:%S}  {injected.fault.name}{where} for {injected.seconds:.1f} s"


def _picture(one: "ChaosRun") -> Group:
    lines = [Text(f"\n{one.clock}  now: {one.doing}", style="bold")]
    if one.crowd is None:
        return Group(*lines)
    faults = Counter(injected.fault.name for injected in one.injected)
    now = datetime.now(UTC)
    going = [[p.ticket.id, p.ticket.kind, _short((now - p.submitted_at).total_seconds())] for p in one.crowd.going]
    ends = [[kind, end, number] for (kind, end), number in sorted(one.crowd.ended.items())]
    return Group(
        *lines,
        text_table(["ticket", "kind", "for s"], going),
        text_table(["kind of ticket", "end", "tickets"], ends),
        text_table(["fault", "times"], [[name, times] for name, times in sorted(faults.items())]),
    )


def _print(report: "Report", output: Output) -> None:
    output.line()
    ends = [[kind, end, number] for (kind, end), number in sorted(report.crowd.ended.items())]
    output.table(["kind of ticket", "end", "tickets"], ends)
    output.line()
    output.table(_COLUMNS, [[_short(value) for value in asdict(line).values()] for line in report.table])
    for number, proof in enumerate(report.proofs, 1):
        counts = ", ".join(f"{name} {count}" for name, count in proof.counts.items())
        output.line(
            f"\n{number}. {'holds' if proof.holds else 'FAILS'}: {proof.claim}", "green" if proof.holds else "red"
        )
        output.line(f"   {counts}")
        for violation in proof.violations[:_SHOWN]:
            output.line(f"   {violation.where}: expected {violation.expected}; found {violation.found}", "red")


def _short(value: Any) -> Any:
    return f"{value:.1f}" if isinstance(value, float) else value


def _document(report: "Report", duration: timedelta, seed: int) -> dict[str, Any]:
    """Return all of it for machines."""
    ends = report.crowd.ended.items()
    return {
        "seed": seed,
        "minutes": duration.total_seconds() / 60,
        "holds": report.holds,
        "tickets": [{"kind": kind, "end": end, "tickets": number} for (kind, end), number in sorted(ends)],
        "recoveries": [asdict(line) for line in report.table],
        "faults": [
            {
                "fault": one.injected.fault.name,
                "service": one.injected.service or None,
                "at": one.injected.at.isoformat(),
                "lasted": one.injected.seconds,
                "gap": one.gap,
                "recoveries": [asdict(recovery) for recovery in one.recoveries],
            }
            for one in report.disturbances
        ],
        "proofs": [
            {"proof": number, "holds": proof.holds, **asdict(proof)} for number, proof in enumerate(report.proofs, 1)
        ],
    }
