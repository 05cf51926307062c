"""The command `demo`: everything on this machine, and the sample tickets through it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output
from standfast.domain import Record

if TYPE_CHECKING:
    from standfast.client import Standfast
    from standfast.local.stack import Stack
    from standfast.local.supervisor import Event
    from standfast.ticket import Ticket
    from standfast.view import TicketView

NOT_AS_EXPECTED = 1
REVIEWER = "reviewer@example.com"


class Expected(Record):
    """What a sample ticket's file says about its end."""

    state: str
    verdict: str
    decision: str | None = None
    """What the second person says, if the ticket waits."""


class Result(Record):
    """What became of a sample ticket."""

    workflow_id: str
    state: str
    expected: str
    verdict: str | None
    expected_verdict: str
    decision: str | None = None
    model_calls: int
    reason: str
    as_expected: bool


@click.command()
@click.option("--once", is_flag=True, help="Unattended, in a folder of its own: decide, print a table, stop.")
@pass_invocation
def demo(invocation: Invocation, once: bool) -> int:
    """Run everything on this machine, submit the sample tickets, and wait for you to decide in a browser.

    With --once a second person decides through the client, and the exit code is 0 only if every ticket ended as its
    file says it should.
    """
    from standfast.cli.services import until_signal  # noqa: PLC0415 - commands import when they run

    if not once:
        run(until_signal(_attended(invocation)))
        return 0
    code = run(until_signal(_once(invocation)))
    if code is None:
        raise click.Abort  # interrupted
    return code


async def _once(invocation: Invocation) -> int:
    began = monotonic()
    output = invocation.output
    with TemporaryDirectory(prefix="standfast-demo-") as folder:
        async with _running(invocation, Path(folder)) as (_, client):
            started = monotonic()
            results = await _through(client, _tickets(), output)
    if output.as_json:
        output.document(results)
    else:
        _summary(results, output)
        output.line(f"services up in {started - began:.1f} s, tickets done in {monotonic() - started:.1f} s")
    return 0 if all(result.as_expected for result in results) else NOT_AS_EXPECTED


async def _attended(invocation: Invocation) -> None:
    from standfast.cli.progress import follow  # noqa: PLC0415
    from standfast.cli.services import announce  # noqa: PLC0415
    from standfast.layers import home_folder  # noqa: PLC0415

    output = invocation.output
    async with _running(invocation, home_folder()) as (stack, client):
        submitted = await client.submit_all(_tickets())
        if not any(one.started for one in submitted):
            output.line(f"the sample tickets were submitted before; remove {home_folder()} to begin anew", "yellow")
        await announce(stack, output)
        output.line("Some tickets wait for you: open the dashboard and decide.\n", "bold")
        await follow(client, [one.workflow_id for one in submitted], output)
        output.line("\nAll sample tickets have ended. Submit your own with `standfast submit`, or stop with Ctrl-C.")
        await asyncio.Event().wait()


@asynccontextmanager
async def _running(invocation: Invocation, home: Path) -> "AsyncIterator[tuple[Stack, Standfast]]":
    from standfast.cli.services import show  # noqa: PLC0415
    from standfast.client import Standfast  # noqa: PLC0415
    from standfast.local.stack import Stack  # noqa: PLC0415

    output = invocation.output
    chosen = invocation.settings(local=False)

    def on_event(event: "Event") -> None:
        if not output.as_json:  # machines get the results only
            show(event, output)

    async with (
        Stack(chosen, home=home, on_event=on_event) as stack,
        Standfast.connect(stack.settings) as client,
    ):
        yield stack, client


def _tickets() -> list["Ticket"]:
    from standfast.local.sample import TICKETS  # noqa: PLC0415
    from standfast.ticket import Ticket  # noqa: PLC0415

    return [Ticket.model_validate_json(file.read_bytes()) for file in sorted(TICKETS.glob("*.json"))]


async def _through(client: "Standfast", tickets: list["Ticket"], output: Output) -> list[Result]:
    from standfast.cli.progress import follow  # noqa: PLC0415
    from standfast.together import together  # noqa: PLC0415

    expected = {ticket.workflow_id: _expected(ticket) for ticket in tickets}
    await client.submit_all(tickets)
    decided = (_decide(client, workflow_id, what.decision) for workflow_id, what in expected.items())
    await together([follow(client, list(expected), output), *decided])
    return [await _result(client, workflow_id, what) for workflow_id, what in expected.items()]


def _expected(ticket: "Ticket") -> Expected:
    return Expected.model_validate(ticket.metadata["expected"])


async def _decide(client: "Standfast", workflow_id: str, verdict: str | None) -> None:
    """Decide as a second person would, on what the ticket shows when it waits; end one that should not wait."""
    from standfast.decision import DecisionVerdict, Mode  # noqa: PLC0415

    async for view in client.watch(workflow_id):
        if view.state != "waiting" or view.report is None:
            continue
        if verdict is None:
            await client.cancel(workflow_id)
            return
        await client.decide(
            workflow_id,
            verdict=DecisionVerdict(verdict),
            by=REVIEWER,
            mode=Mode.CLI,
            plan_digest=view.report.plan_digest,
            fingerprint=view.report.fingerprint,
            comment="Seen in the demo.",
        )
        return


async def _result(client: "Standfast", workflow_id: str, expected: Expected) -> Result:
    view = await client.view(workflow_id)
    outcome = await client.wait(workflow_id)
    calls = sum(entry.step == "model" for entry in await client.history(workflow_id))
    verdict = view.report.verdict.value if view.report else None
    decision = _decision(view)
    right = (outcome.state, verdict, decision) == (expected.state, expected.verdict, expected.decision)
    return Result(
        workflow_id=workflow_id,
        state=outcome.state,
        expected=expected.state,
        verdict=verdict,
        expected_verdict=expected.verdict,
        decision=decision,
        model_calls=calls,
        reason=outcome.reason,
        as_expected=right and calls > 0,
    )


def _decision(view: "TicketView") -> str | None:
    counted = [record.verdict.value for record in view.decisions if record.refused is None]
    return counted[-1] if counted else None


def _summary(results: list[Result], output: Output) -> None:
    rows: list[list[Any]] = [
        [r.workflow_id, r.verdict, r.decision, r.state, r.model_calls, "yes" if r.as_expected else "NO", r.reason]
        for r in results
    ]
    output.line()
    output.table(["ticket", "verdict", "decision", "end", "model calls", "as expected", "reason"], rows)
    wrong = [r for r in results if not r.as_expected]
    for r in wrong:
        output.line(f"{r.workflow_id}: expected {r.expected_verdict}, then {r.expected}: {json.dumps(r.model_dump())}")
