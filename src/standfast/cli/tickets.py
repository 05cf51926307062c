"""Commands that submit tickets and look at them."""

from contextlib import suppress
from typing import Any

import click

from standfast.cli.invocation import Invocation, pass_invocation, read_text, run
from standfast.cli.output import moment
from standfast.errors import InvalidInput, ServiceUnavailable

NOT_THROUGH = 1


@click.command()
@click.argument("file")
@click.option("--wait", is_flag=True, help="Wait until every ticket has ended; exit 1 if one did not go through.")
@click.option("--skip-invalid", is_flag=True, help="Start the valid tickets of a file that has invalid ones.")
@pass_invocation
def submit(invocation: Invocation, file: str, wait: bool, skip_invalid: bool) -> int:
    """Submit the tickets in FILE (`-` is stdin): one JSON object, an array, or JSON lines.

    Prints the workflow ids. A ticket that was submitted before is found again, not started twice. Nothing is started
    if one ticket of the file is invalid.
    """
    from standfast.ticket_files import parse_tickets  # noqa: PLC0415 - commands import when they run

    text, source = read_text(file)
    output = invocation.output

    def skip(error: InvalidInput) -> None:
        output.line(f"skipped: {error}", "yellow")

    tickets = parse_tickets(
        text, source=source, settings=invocation.settings(), on_invalid=skip if skip_invalid else None
    )

    async def work() -> int:
        from standfast.cli.progress import follow  # noqa: PLC0415

        async with invocation.client() as client:
            submitted = await client.submit_all(tickets)
            for one in submitted:
                if not output.as_json:
                    output.line(f"{one.workflow_id}{'' if one.started else '  (submitted before)'}")
                elif not wait:
                    output.document(one)
            if not wait:
                return 0
            outcomes = await follow(client, [one.workflow_id for one in submitted], output)
            if output.as_json:
                for one in submitted:
                    output.document(one.model_dump() | {"outcome": outcomes[one.workflow_id]})
            return 0 if all(outcome.state == "done" for outcome in outcomes.values()) else NOT_THROUGH

    return run(work())


@click.command(name="list")
@click.option("--state", "states", multiple=True, help="Only tickets in this state; may be repeated.")
@click.option("--target", "targets", multiple=True, help="Only tickets of this target; may be repeated.")
@click.option("--limit", default=200, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@pass_invocation
def list_(invocation: Invocation, states: tuple[str, ...], targets: tuple[str, ...], limit: int) -> None:
    """List tickets, newest first."""
    from standfast.outcome import State  # noqa: PLC0415

    known = [state.value for state in State]
    for state in states:
        if state not in known:
            raise InvalidInput(f"--state {state!r}: expected one of {', '.join(known)}")

    async def work() -> None:
        async with invocation.client() as client:
            rows = await client.lists.tickets([State(state) for state in states], targets, limit)
        output = invocation.output
        if output.as_json:
            output.document(rows)
        elif not rows:
            output.line("no tickets")
        else:
            cells: list[list[Any]] = [
                [r.workflow_id, r.state, r.risk, moment(r.started_at), r.closed_at and moment(r.closed_at)]
                for r in rows
            ]
            output.table(["ticket", "state", "verdict", "started", "ended"], cells)

    run(work())


@click.command()
@click.argument("ticket")
@pass_invocation
def show(invocation: Invocation, ticket: str) -> None:
    """Show TICKET whole: what it asks for, plan, safety report, decisions, outcome."""

    async def work() -> None:
        from standfast.cli.pages import ticket_page  # noqa: PLC0415

        async with invocation.client() as client:
            view = await client.view(invocation.workflow_id(ticket))
            conflicts: tuple[str, ...] = ()
            with suppress(ServiceUnavailable):  # the ticket is worth showing without
                conflicts = await client.conflicts(view)
        if invocation.output.as_json:
            invocation.output.document(view.model_dump(mode="json") | {"conflicts": conflicts})
        else:
            ticket_page(view, conflicts, invocation.output)

    run(work())


@click.command()
@click.argument("ticket")
@pass_invocation
def history(invocation: Invocation, ticket: str) -> None:
    """Show what happened to TICKET, step by step: model calls, tool calls, retries and recoveries included."""

    async def work() -> None:
        async with invocation.client() as client:
            entries = await client.history(invocation.workflow_id(ticket))
        output = invocation.output
        if output.as_json:
            output.document(entries)
        else:
            cells: list[list[Any]] = [
                [moment(e.at), e.step, e.what, e.outcome, e.detail.get("seconds"), e.attempt, e.detail.get("failure")]
                for e in entries
            ]
            output.table(["time", "step", "what", "outcome", "seconds", "attempt", "failure"], cells)

    run(work())
