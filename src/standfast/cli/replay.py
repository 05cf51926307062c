"""The command that tells whether this code can go on with what is under way."""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from standfast.cli.invocation import Invocation, pass_invocation, read_text, run
from standfast.cli.output import Output

if TYPE_CHECKING:
    from temporalio.client import WorkflowHistory

    from standfast.replay import Replayed
    from standfast.steps import Pool

BREAKS = 1


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--open", "open_", is_flag=True, help="What is under way on the connected cluster.  [default without FILEs]"
)
@click.option("--all", "all_", is_flag=True, help="Also what has ended and is remembered: it is shown and undone yet.")
@pass_invocation
def replay(invocation: Invocation, files: tuple[str, ...], open_: bool, all_: bool) -> int:
    """Replay histories on this code: FILEs as Temporal's UI and command line write them, or what the cluster has.

    Nothing is changed anywhere. Names what would break if this code were deployed, and why; exit code 1 then. Run it
    with the new version's code and the settings of the llm pool before any worker of the new version is started.
    """
    if files and (open_ or all_):
        raise click.UsageError("--open and --all replay what the cluster has, and exclude files")
    logging.disable()  # what is logged about a replay is in its result
    report = _Report(invocation.output)
    with report.progress:
        run(_files(invocation, files, report) if files else _cluster(invocation, report, ended_too=all_))
    return report.conclude()


async def _files(invocation: Invocation, files: tuple[str, ...], report: "_Report") -> None:
    from standfast.replay import POOLS, parse_history, replayed  # noqa: PLC0415 - commands import late

    read = [parse_history(*read_text(file)) for file in files]
    report.expect(len(read))
    for pool in POOLS:

        async def chosen(pool: "Pool" = pool) -> AsyncIterator["WorkflowHistory"]:
            for served_by, history in read:
                if served_by is pool:
                    yield history

        if any(served_by is pool for served_by, _ in read):
            async for one in replayed(pool, invocation.settings(), chosen()):
                report.add(one)


async def _cluster(invocation: Invocation, report: "_Report", *, ended_too: bool) -> None:
    from standfast import cluster  # noqa: PLC0415 - commands import late
    from standfast.replay import OPEN, count, histories, replayed  # noqa: PLC0415

    settings = invocation.settings()
    client = await cluster.connect(settings)
    condition = "" if ended_too else OPEN
    ours, others = await count(client, condition)
    report.expect(sum(ours.values()), others=others)
    for pool, number in ours.items():
        if number:
            async with aclosing(histories(client, pool, condition)) as found:
                async for one in replayed(pool, settings, found):
                    report.add(one)


class _Report:
    """What was replayed, told as it comes."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._broken: list[Replayed] = []
        self._replayed = 0
        self._others = 0
        columns = (TextColumn("replayed"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=output.people, transient=True, disable=not output.people.is_terminal)
        self._task = self.progress.add_task("", total=None)

    def expect(self, number: int, *, others: int = 0) -> None:
        self._others = others
        self.progress.update(self._task, total=number)

    def add(self, one: "Replayed") -> None:
        self._replayed += 1
        self.progress.advance(self._task)
        if one.breaks is not None:
            self._broken.append(one)
            if not self._output.as_json:
                self._output.line(f"{one.workflow_id}  breaks: {one.breaks}", "red")

    def conclude(self) -> int:
        """Say what was found, and return the exit code."""
        if self._output.as_json:
            broken = [vars(one) for one in self._broken]
            self._output.document({"replayed": self._replayed, "broken": broken, "others": self._others})
        else:
            others = f"; {self._others} workflows of other applications were left out" if self._others else ""
            fine = self._replayed - len(self._broken)
            self._output.line(f"{fine} of {self._replayed} histories replay on this code{others}")
        return BREAKS if self._broken else 0
