"""Commands for batches: thousands of tickets by one durable workflow, followed, steered, and read afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from standfast.batch import MAX_AT_ONCE, MAX_PER_MINUTE, Pace, Progress, Result, TicketState
from standfast.cli.invocation import Invocation, pass_invocation, read_text, run
from standfast.cli.output import Output
from standfast.errors import InvalidInput

if TYPE_CHECKING:
    from standfast.batching.client import Batches
    from standfast.ticket import Ticket

NOT_THROUGH = 1


class _StartByDefault(click.Group):
    """`batch FILE` is `batch start FILE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See the base class."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_StartByDefault, subcommand_metavar="FILE | COMMAND [ARGS]...")
def batch() -> None:
    """Hand out the tickets of a file, thousands of them, a few at a time.

    `standfast batch FILE` starts the batch, or finds it, and shows how far it is. It goes on by itself, whatever
    happens to this program; the same command again shows it again.
    """


@batch.command(short_help="Start a batch, or find it, and follow it, as `batch FILE` does.")
@click.argument("file")
@click.option("--id", "batch_id", default=None, help="The batch's name.  [default: made from its content]")
@click.option(
    "--at-once", default=20, show_default=True, type=click.IntRange(1, MAX_AT_ONCE), help="Tickets under way."
)
@click.option("--per-minute", default=None, type=click.IntRange(1, MAX_PER_MINUTE), help="Tickets started in a minute.")
@click.option("--skip-invalid", is_flag=True, help="Leave out the invalid tickets of the file.")
@click.option("--detach", is_flag=True, help="Start it, and don't wait for it.")
@pass_invocation
def start(
    invocation: Invocation,
    *,
    file: str,
    batch_id: str | None,
    at_once: int,
    per_minute: int | None,
    skip_invalid: bool,
    detach: bool,
) -> int:
    """Start a batch of the tickets in FILE (`-` is stdin), JSON lines as a rule, or find it; then follow it.

    Nothing is started if one ticket is invalid. Tickets that wait for a person keep no others from being started. Exit
    code 0 if every ticket ended as done, 1 if one did not.
    """
    output = invocation.output
    source, tickets = _tickets(invocation, file, skip_invalid=skip_invalid)
    pace = Pace(at_once=at_once, per_minute=per_minute)
    known: list[str] = []

    async def work() -> int:
        async with _batches(invocation) as batches:
            started = await batches.start(tickets, source=source, batch_id=batch_id, pace=pace)
            known.append(started.batch_id)
            if detach:
                _print(output, started, f"{started.batch_id}{'' if started.started else '  (started before)'}")
                return 0
            if not started.started:
                output.line(f"batch {started.batch_id} was started before; it keeps the pace that it was given", "dim")
            return await _follow(batches, started.batch_id, output)

    try:
        return run(work())
    except KeyboardInterrupt:
        for one in known:
            click.echo(f"batch {one} goes on; `standfast batch show {one}` tells how far it is", err=True)
        raise


@batch.command()
@click.argument("batch_id", metavar="ID")
@pass_invocation
def show(invocation: Invocation, batch_id: str) -> None:
    """Show how far a batch is, also after its end."""

    async def work() -> None:
        async with _batches(invocation) as batches:
            _report(await batches.progress(batch_id), invocation.output)

    run(work())


@batch.command()
@click.argument("batch_id", metavar="ID")
@pass_invocation
def pause(invocation: Invocation, batch_id: str) -> None:
    """Start no further tickets until `resume`. Those that were started go on."""

    async def work() -> None:
        async with _batches(invocation) as batches:
            _report(await batches.pause(batch_id), invocation.output)

    run(work())


@batch.command()
@click.argument("batch_id", metavar="ID")
@pass_invocation
def resume(invocation: Invocation, batch_id: str) -> None:
    """Go on after a pause."""

    async def work() -> None:
        async with _batches(invocation) as batches:
            _report(await batches.resume(batch_id), invocation.output)

    run(work())


@batch.command()
@click.argument("batch_id", metavar="ID")
@click.option("--tickets", is_flag=True, help="Cancel the tickets that were started, too.")
@pass_invocation
def cancel(invocation: Invocation, batch_id: str, tickets: bool) -> None:
    """Start no further tickets, for good. Those that were started go on; the batch ends when they have ended."""

    async def work() -> None:
        async with _batches(invocation) as batches:
            _report(await batches.cancel(batch_id, tickets=tickets), invocation.output)

    run(work())


@batch.command(short_help="Print what became of each ticket, as JSON lines.")
@click.argument("batch_id", metavar="ID")
@pass_invocation
def results(invocation: Invocation, batch_id: str) -> None:
    """Print what became of each ticket, as JSON lines in the order of the file; also before the batch has ended."""

    async def work() -> None:
        document = Output(as_json=True).document
        async with _batches(invocation) as batches:
            async for result in batches.results(batch_id):
                document(_result(result))

    run(work())


@asynccontextmanager
async def _batches(invocation: Invocation) -> AsyncIterator["Batches"]:
    from standfast.batching.client import Batches  # noqa: PLC0415

    async with Batches.connect(invocation.settings()) as batches:
        yield batches


def _tickets(invocation: Invocation, file: str, *, skip_invalid: bool) -> tuple[str, list[tuple[int, "Ticket"]]]:
    """Return how to name the file, and its tickets, each with its line."""
    from standfast.ticket_files import parse_numbered_tickets  # noqa: PLC0415

    text, source = read_text(file)
    invalid: list[InvalidInput] = []

    def skip(error: InvalidInput) -> None:
        invocation.output.line(f"skipped: {error}", "yellow")

    on_invalid = skip if skip_invalid else invalid.append
    try:
        tickets = parse_numbered_tickets(text, source=source, settings=invocation.settings(), on_invalid=on_invalid)
    except InvalidInput:  # also if no ticket is left, for reasons that we know
        if not invalid:
            raise
    if invalid:
        more = f"; {len(invalid) - 1} further tickets are invalid" if len(invalid) > 1 else ""
        raise type(invalid[0])(f"{invalid[0]}{more}; nothing was started, --skip-invalid leaves them out")
    return source, tickets


async def _follow(batches: "Batches", batch_id: str, output: Output) -> int:
    from standfast.cli.bar import Bar  # noqa: PLC0415

    shown: Progress | None = None
    with Bar(batch_id) as bar:
        async for progress in batches.follow(batch_id):
            bar.show(progress)
            if output.as_json and not progress.state.is_end and progress != shown:
                output.document(progress)
            shown = progress
    if shown is None:
        return NOT_THROUGH
    _report(shown, output)
    return 0 if shown.states == {TicketState.DONE: shown.tickets} else NOT_THROUGH


def _report(progress: Progress, output: Output) -> None:
    """Print how far a batch is."""
    _print(output, progress, f"batch {progress.batch_id}  {progress.state}")
    if not output.as_json:
        output.table(["tickets", "state"], [[number, state.value] for state, number in progress.states.items()])
        if progress.state == "stopped":
            output.line(f"{progress.reason}; `standfast batch` with the same file goes on with it", "red")


def _print(output: Output, document: Any, line: str) -> None:
    if output.as_json:
        output.document(document)
    else:
        output.line(line)


def _result(result: Result) -> dict[str, Any]:
    """Return one line of the results."""
    ending = result.ending
    execution = ending.execution if ending else None
    return {
        "line": result.line,
        "id": result.workflow_id.rpartition("/")[2],
        "workflow_id": result.workflow_id,
        "state": result.state,
        "reason": ending.reason if ending else None,
        "submitted_before": result.submitted_before,
        "ended_at": ending.ended_at.isoformat() if ending else None,
        "executed_at": execution.executed_at.isoformat() if execution else None,
        "counts": [{table: counts.model_dump() for table, counts in one.items()} for one in execution.counts]
        if execution
        else [],
    }
