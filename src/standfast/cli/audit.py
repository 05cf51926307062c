"""Commands for the audit chain."""

import re
import sys
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output, moment
from standfast.cli.stats import ago
from standfast.errors import InvalidInput

if TYPE_CHECKING:
    from standfast.audit import Row
    from standfast.verification.verify import Verified

NOT_WELL = 1
_HASH = re.compile(r"[0-9a-f]{64}")
_SHOWN = 12  # digits of a hash


@click.group(invoke_without_command=True)
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many of the newest.")
@click.option("--ticket", default=None, help="Only what is on record about this ticket.")
@pass_invocation
@click.pass_context
def audit(ctx: click.Context, invocation: Invocation, last: int, ticket: str | None) -> None:
    """Show the newest records: who submitted, saw, decided, and what was executed.

    Each record is hashed together with the one before. `standfast audit verify` finds what was changed afterwards.
    """
    if ctx.invoked_subcommand is not None:
        for option in ("last", "ticket"):
            if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{option} is not for `audit {ctx.invoked_subcommand}`; leave it out", ctx)
        return
    from standfast.audit import newest  # noqa: PLC0415 - commands import when they run
    from standfast.store.databases import Databases  # noqa: PLC0415

    workflow_id = None if ticket is None else invocation.workflow_id(ticket)

    async def work() -> None:
        async with (
            Databases(invocation.settings(), application="standfast audit") as databases,
            databases.control() as connection,
        ):
            rows = await newest(connection, last, workflow_id)
        if invocation.output.as_json:
            invocation.output.document([row.exported() for row in rows])
        else:
            _table(rows, invocation.output)

    run(work())


@audit.command()
@click.option("--head", "heads", multiple=True, help="A hash that the chain had once; may be repeated.")
@click.option("--target", "targets", multiple=True, help="Only tickets of this target; may be repeated.")
@pass_invocation
def verify(invocation: Invocation, heads: tuple[str, ...], targets: tuple[str, ...]) -> int:
    """Verify that nothing on record was changed, and that all of it agrees with the ledgers and with Temporal's
    histories: what was executed was allowed, and is on record; exit code 1 if something is not so.

    Reads a ledger as the target's writer if it has its URL, else as the rehearser. Only a --HEAD that was kept
    elsewhere (`standfast audit head`, or the receipt of a decision) tells whether the newest records were removed whose
    tickets Temporal doesn't know any more.
    """  # noqa: D205 - click shows it as one paragraph
    from standfast.verification.verify import verify as verified  # noqa: PLC0415 - commands import when they run

    for head in heads:
        if not _HASH.fullmatch(head):
            raise InvalidInput(
                f"--head {head!r}: expected the 64 hexadecimal digits that `standfast audit head` prints"
            )
    output, settings = invocation.output, invocation.settings()

    async def work() -> "Verified":
        with output.people.status("verifying") as status:
            return await verified(settings, targets=targets, heads=heads, on_progress=status.update)

    found = run(work())
    if output.as_json:
        output.document(found)
    else:
        _page(found, output)
    return NOT_WELL if found.problems else 0


@audit.command()
@pass_invocation
def head(invocation: Invocation) -> None:
    """Print number, time and hash of the newest record: kept elsewhere, it proves later that nothing before it is
    missing."""  # noqa: D205, D209 - click shows it as one paragraph
    from standfast.audit import head as newest  # noqa: PLC0415 - commands import when they run
    from standfast.store.databases import Databases  # noqa: PLC0415

    async def work() -> None:
        async with (
            Databases(invocation.settings(), application="standfast audit") as databases,
            databases.control() as connection,
        ):
            found = await newest(connection)
        if found is None:
            raise InvalidInput("nothing is on record yet")
        if invocation.output.as_json:
            invocation.output.document(found)
        else:
            invocation.output.line(f"{found.sequence} {moment(found.at)} {found.hash}")

    run(work())


@audit.command()
@click.argument("hash_", metavar="HASH")
@pass_invocation
def shown(invocation: Invocation, hash_: str) -> None:
    """Show a ticket as somebody was shown it: HASH is what stands under `shown` in the record of the view."""
    from standfast import cluster  # noqa: PLC0415 - commands import when they run
    from standfast.cli.pages import ticket_page  # noqa: PLC0415
    from standfast.codec.converter import data_converter  # noqa: PLC0415
    from standfast.codec.sealing import Seal  # noqa: PLC0415
    from standfast.shown import find  # noqa: PLC0415
    from standfast.store.databases import Databases  # noqa: PLC0415

    if not _HASH.fullmatch(hash_):
        raise InvalidInput(f"HASH {hash_!r}: expected the 64 hexadecimal digits that a record has under `shown`")

    async def work() -> None:
        settings = invocation.settings()
        seal = Seal(data_converter(settings), cluster.namespace(settings))
        async with (
            Databases(settings, application="standfast audit") as databases,
            databases.control() as connection,
        ):
            found = await find(connection, seal, hash_)
        if invocation.output.as_json:
            invocation.output.document(found)
        else:
            invocation.output.line(f"as it was shown, for the first time on {moment(found.first_at)}", "dim")
            ticket_page(found.view, (), invocation.output)

    run(work())


@audit.command()
@click.option("--since", metavar="AGE", help="From the first record on that is not older, such as 90m, 24h or 7d.")
@pass_invocation
def export(invocation: Invocation, since: str | None) -> None:
    """Print the records as JSON lines, each in canonical form (RFC 8785) with its hash: docs/audit.md has a program of
    a few lines that verifies them without Standfast."""  # noqa: D205, D209 - click shows it as one paragraph
    from standfast.audit import rows  # noqa: PLC0415 - commands import when they run
    from standfast.domain import canonical_json  # noqa: PLC0415
    from standfast.verification.streams import control_url, reading  # noqa: PLC0415

    after = None if since is None else ago(since)

    async def work() -> None:
        async with reading(control_url(invocation.settings())) as connection:
            async for row in rows(connection, after):
                sys.stdout.write(canonical_json(row.exported()).decode() + "\n")

    run(work())


def _table(rows: "list[Row]", output: Output) -> None:
    output.table(
        ["record", "time", "kind", "about", "who", "content", "hash"],
        [
            [row.sequence, moment(row.at), row.kind, row.workflow_id, row.actor, row.content, row.hash[:_SHOWN]]
            for row in rows
        ],
    )


def _page(found: "Verified", output: Output) -> None:
    for problem in found.problems:
        output.line(f"{problem.where}: {problem.problem} (look at {problem.look})", "red")
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(found.kinds.items()))
    output.line(f"{found.rows} records ({kinds})" if kinds else "no records")
    output.line(f"{found.tickets} tickets, {found.executions} executions in ledgers, {found.histories} histories")
    if found.removed:
        output.line(f"Temporal has no history any more of {found.removed} tickets: only the chain was compared", "dim")
    if found.unread:
        output.line(f"not in the settings, their ledgers were not compared: {', '.join(found.unread)}", "yellow")
    output.line(f"newest hash {found.head}")
    if found.problems:
        output.line(f"{len(found.problems)} problems", "bold red")
    else:
        output.line("all is as it was written, and agrees", "bold green")
