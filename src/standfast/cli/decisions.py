"""Commands with which a person decides, on the same path as the page."""

from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import moment
from standfast.errors import InvalidInput
from standfast.system_user import system_user

if TYPE_CHECKING:
    from standfast.view import TicketView

_SHORTEST_DIGEST = 8  # digits that `show` prints suffice; fewer could be meant for another plan

_by = click.option("--by", default=None, help="Who decides, if not the user of this system; you vouch for it.")
_optional_digest = click.option("--digest", default=None, help="What you saw; refused if it is another now.")


@click.command()
@click.argument("ticket")
@click.option("--digest", required=True, help="What you saw, as `standfast show` prints it: PLAN or PLAN.ROWS.")
@click.option("--comment", default="", help="Why.")
@_by
@pass_invocation
def approve(invocation: Invocation, ticket: str, digest: str, comment: str, by: str | None) -> None:
    """Approve the plan of a waiting TICKET: it is executed if it still has the effect that was shown."""
    _decide(invocation, ticket, "approve", digest=digest, comment=comment, by=by)


@click.command()
@click.argument("ticket")
@click.option("--comment", required=True, help="Why.")
@_optional_digest
@_by
@pass_invocation
def reject(invocation: Invocation, ticket: str, digest: str | None, comment: str, by: str | None) -> None:
    """Reject the plan of a waiting TICKET: nothing is changed, and the ticket ends."""
    _decide(invocation, ticket, "reject", digest=digest, comment=comment, by=by)


@click.command()
@click.argument("ticket")
@click.option("--comment", required=True, help="What to do otherwise; the agent reads it.")
@_optional_digest
@_by
@pass_invocation
def revise(invocation: Invocation, ticket: str, digest: str | None, comment: str, by: str | None) -> None:
    """Ask the agent for another plan for a waiting TICKET."""
    _decide(invocation, ticket, "revise", digest=digest, comment=comment, by=by)


@click.command()
@click.argument("ticket")
@pass_invocation
def cancel(invocation: Invocation, ticket: str) -> None:
    """End TICKET. A change that is under way is finished or rolled back as a whole first."""
    workflow_id = invocation.workflow_id(ticket)

    async def work() -> None:
        async with invocation.client() as client:
            await client.cancel(workflow_id, by=system_user())

    run(work())
    if invocation.output.as_json:
        invocation.output.document({"workflow_id": workflow_id, "cancel_requested": True})
    else:
        invocation.output.line(f"{workflow_id}  cancellation requested")


@click.command()
@click.argument("ticket")
@click.option("--by", default=None, help="Who asks for it, if not the user of this system; you vouch for it.")
@pass_invocation
def undo(invocation: Invocation, ticket: str, by: str | None) -> None:
    """Take back what TICKET has changed: starts a ticket of its own, which is validated and waits for a person."""
    workflow_id = invocation.workflow_id(ticket)

    async def work() -> None:
        async with invocation.client() as client:
            submitted = await client.undo(workflow_id, by=by or system_user())
        if invocation.output.as_json:
            invocation.output.document(submitted)
        else:
            known = "" if submitted.started else "  (asked for before)"
            invocation.output.line(f"{submitted.workflow_id}{known}")

    run(work())


def _decide(
    invocation: Invocation, ticket: str, verdict: str, *, digest: str | None, comment: str, by: str | None
) -> None:
    from standfast.decision import DecisionVerdict, Mode  # noqa: PLC0415 - commands import when they run

    if verdict != "approve" and not comment.strip():
        raise InvalidInput(f"--comment {comment!r}: say why; it is kept with the decision")
    workflow_id = invocation.workflow_id(ticket)
    solo = by is None and invocation.settings().review.solo

    async def work() -> None:
        async with invocation.client() as client:
            view = await client.view(workflow_id)
            plan_digest, fingerprint = _seen(view, digest)
            record = await client.decide(
                workflow_id,
                verdict=DecisionVerdict(verdict),
                by=system_user() if by is None else by,
                mode=Mode.SOLO if solo else Mode.CLI,
                plan_digest=plan_digest,
                fingerprint=fingerprint,
                comment=comment,
            )
        if invocation.output.as_json:
            invocation.output.document(record)
        else:
            invocation.output.line(f"{workflow_id}  {record.verdict} by {record.by} at {moment(record.at)}")

    run(work())


def _seen(view: "TicketView", given: str | None) -> tuple[str, str]:
    """Return plan digest and fingerprint that `given` stands for; others than the present ones, to be refused."""
    present = (view.report.plan_digest, view.report.fingerprint) if view.report else ("", "")
    if given is None:
        return present
    parts = given.split(".")
    if len(parts) > len(present) or any(len(p) < _SHORTEST_DIGEST or set(p) - set("0123456789abcdef") for p in parts):
        raise InvalidInput(
            f"--digest {given!r}: expected PLAN or PLAN.ROWS, each at least {_SHORTEST_DIGEST} hexadecimal digits"
        )
    plan = present[0] if present[0].startswith(parts[0]) else parts[0]
    rows = present[1] if len(parts) == 1 or present[1].startswith(parts[1]) else parts[1]
    return plan, rows
