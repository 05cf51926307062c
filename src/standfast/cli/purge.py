"""The command that removes what is kept of old tickets."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output, moment
from standfast.errors import InvalidInput
from standfast.system_user import system_user

if TYPE_CHECKING:
    from standfast.retention.purge import Purged

MEANING = {
    "payloads": "large payloads",
    "payload_bytes": "their bytes",
    "answers": "answers of models (model, tokens and price stay)",
    "shown": "contents of tickets as people were shown them (the audit chain keeps their hashes)",
    "batch_tickets": "tickets of batches (their states stay)",
    "sessions": "sessions that had expired",
    "login_links": "login links that had expired",
    "noted_rows": "notes of rows that waiting plans would have changed",
    "statements": "executed statements with their values (their number and digests stay)",
    "row_images": "images of changed rows",
    "histories": "histories in Temporal",
}
"""What a purge removes, for people."""


@click.command()
@click.option("--before", required=True, metavar="DATE", help="Tickets that ended before then: 2026-10-01[T12:00].")
@click.option("--histories", is_flag=True, help="Also have Temporal remove the histories of these tickets.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@pass_invocation
def purge(invocation: Invocation, before: str, histories: bool, dry_run: bool) -> None:
    """Remove the content of tickets that ended before DATE (UTC): large payloads, answers of models, what people were
    shown, and from the ledgers statements and images of rows. What these tickets changed can't be taken back then. That
    they were, their figures, and the audit chain stay. Open tickets are never touched.

    Needs `control.owner`, and `targets.NAME.owner` for each ledger. Interrupted, it goes on when called again.
    """  # noqa: D205 - click shows it as one paragraph
    from standfast.retention.purge import purge as purge_all  # noqa: PLC0415 - commands import late

    found = run(
        purge_all(
            invocation.settings(),
            before=_moment(before),
            by=system_user(),
            histories=histories,
            dry_run=dry_run,
            progress=lambda done, of: click.echo(f"{done} of {of}", err=True),
        )
    )
    if invocation.output.as_json:
        invocation.output.document(found)
    else:
        _page(found, invocation.output)


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--before {text!r}: expected a date such as 2026-10-01 or 2026-10-01T12:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _page(found: "Purged", output: Output) -> None:
    done = "would be removed" if found.dry_run else "removed"
    output.line(f"{found.tickets} tickets ended before {moment(found.before)} and had content left; {done}:", "bold")
    for kind, number in found.removed.items():
        if number:
            output.line(f"  {number:>12,} {MEANING[kind]}")
    for target in found.left:
        output.line(f"the ledger of {target} was left alone: targets.{target}.owner is not set", "yellow")
