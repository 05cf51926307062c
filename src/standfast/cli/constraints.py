"""Commands for the constraint database."""

from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from standfast.cli.invocation import Invocation, pass_invocation, read_text, run
from standfast.cli.output import Output, moment
from standfast.errors import InvalidInput, UnknownTicket
from standfast.system_user import system_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from standfast.safety.constraints import Constraints
    from standfast.safety.preview import Preview
    from standfast.store.databases import Databases
    from standfast.view import TicketView

_LAST = 50
_WITH_REPORT = 10  # one ticket in so many has a report at least: what is listed to find those that have

_note = click.option("--note", default="", help="Why; it is kept with the version.")
_target = click.option("--target", default=None, help="Whose.  [default: the default target]")
_dry_run = click.option("--dry-run", is_flag=True, help="Store nothing: show what it would have decided so far.")
_last = click.option(
    "--last", default=None, type=click.IntRange(1, 1000), help=f"For how many tickets.  [default: {_LAST}]"
)


@click.group()
def constraints() -> None:
    """List and change constraints: what plans may do by themselves, with a person, or never.

    Each change is a new version, and on the audit chain. With --dry-run nothing is stored: the newest tickets' plans
    are rehearsed and judged once more, by the present constraints and by the changed ones.
    """


@constraints.command(name="list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List all versions, newest first; a target's newest holds."""
    from standfast.safety.versions import versions  # noqa: PLC0415 - commands import when they run

    async def work() -> None:
        async with _databases(invocation) as databases, databases.control() as connection:
            found = await versions(connection)
        if invocation.output.as_json:
            invocation.output.document(found)
        else:
            rows: list[list[object]] = [
                [v.target, v.version, moment(v.created_at), v.created_by, v.note] for v in found
            ]
            invocation.output.table(["target", "version", "created", "by", "note"], rows)

    run(work())


@constraints.command(name="import")
@click.argument("file")
@_note
@_dry_run
@_last
@pass_invocation
def import_(invocation: Invocation, file: str, note: str, dry_run: bool, last: int | None) -> None:
    """Store the constraints in FILE as the newest version of their target; older versions stay.

    Refused if they name a table or column that the target doesn't have.
    """
    from standfast.safety.constraints import parse_constraints  # noqa: PLC0415

    text, source = read_text(file)
    parsed = parse_constraints(text, source=source)
    tickets = _tickets(dry_run, last)
    run(_change(invocation, parsed.target, lambda _: parsed, source=source, note=note, tickets=tickets))


@constraints.command()
@click.argument("section")
@click.argument("entry")
@_target
@_note
@_dry_run
@_last
@pass_invocation
def add(  # noqa: PLR0917 - click passes them by name
    invocation: Invocation, section: str, entry: str, target: str | None, note: str, dry_run: bool, last: int | None
) -> None:
    r"""Add ENTRY, in YAML or JSON, to a SECTION of a target's constraints.

    \b
    standfast constraints add tables '{name: public.orders, writes: auto}'
    standfast constraints add functions.auto public.net_price
    standfast constraints add limits '{auto_rows_per_operation: 3}'
    """
    from standfast.safety.editing import added  # noqa: PLC0415

    name = target or invocation.settings().default_target_name()
    tickets = _tickets(dry_run, last)
    source = f"{section} {entry}"
    run(_change(invocation, name, lambda c: added(c, section, entry), source=source, note=note, tickets=tickets))


@constraints.command()
@click.argument("section")
@click.argument("entry")
@_target
@_note
@_dry_run
@_last
@pass_invocation
def remove(  # noqa: PLR0917 - click passes them by name
    invocation: Invocation, section: str, entry: str, target: str | None, note: str, dry_run: bool, last: int | None
) -> None:
    r"""Remove ENTRY from a SECTION of a target's constraints.

    An entry is named by its table or its column, by its text, or by its place in the list, the first being 0.

    \b
    standfast constraints remove tables public.orders
    standfast constraints remove columns public.orders.total
    standfast constraints remove freezes 0
    """
    from standfast.safety.editing import removed  # noqa: PLC0415

    name = target or invocation.settings().default_target_name()
    tickets = _tickets(dry_run, last)
    source = f"{section} without {entry}"
    run(_change(invocation, name, lambda c: removed(c, section, entry), source=source, note=note, tickets=tickets))


@constraints.command()
@_target
@pass_invocation
def export(invocation: Invocation, target: str | None) -> None:
    """Print a target's newest constraints as YAML."""
    from standfast.safety.constraints import dump_constraints  # noqa: PLC0415
    from standfast.safety.versions import read_latest  # noqa: PLC0415

    settings = invocation.settings()
    name = target or settings.default_target_name()
    schemas = settings.target(name).schemas

    async def work() -> None:
        async with _databases(invocation) as databases, databases.control() as connection:
            latest = await read_latest(connection, name, schemas)
        if invocation.output.as_json:
            invocation.output.document(latest.model_dump(mode="json", by_alias=True))
        else:
            click.echo(dump_constraints(latest), nl=False)

    run(work())


def _tickets(dry_run: bool, last: int | None) -> int | None:
    """Return for how many tickets to try the change, None to store it."""
    if last is not None and not dry_run:
        raise InvalidInput("--last goes with --dry-run; without it the change is stored")
    return (last or _LAST) if dry_run else None


async def _change(
    invocation: Invocation,
    target: str,
    change: "Callable[[Constraints], Constraints]",
    *,
    source: str,
    note: str,
    tickets: int | None,
) -> None:
    """Store what `change` makes of the target's constraints, or show what it would have decided for some tickets."""
    from standfast.safety import versions  # noqa: PLC0415 - commands import when they run
    from standfast.safety.access import constrained  # noqa: PLC0415
    from standfast.safety.schema_check import check_against_schema  # noqa: PLC0415
    from standfast.store.databases import Role  # noqa: PLC0415

    settings = invocation.settings()
    schemas = settings.target(target).schemas
    async with _databases(invocation) as databases:
        async with databases.control() as control:
            await versions.lock(control, target)
            present = await versions.read_latest(control, target, schemas)
            changed = change(present)
            async with databases.target(target, Role.READER) as connection:
                await check_against_schema(connection, changed, source=source)
                was, becomes = [await constrained(c)(connection, schemas) for c in (present, changed)]
            if tickets is None:
                version = await versions.append(control, changed, created_by=system_user(), note=note)
        if tickets is not None:
            await _show_preview(invocation, databases, present, changed, tickets)
        elif invocation.output.as_json:
            invocation.output.document({"target": target, "version": version, "moves_rights": was != becomes})
        else:
            invocation.output.line(f"{target}: version {version} holds from now on")
            if was != becomes:
                invocation.output.line("  the rights of its roles follow with the next `standfast migrate`", "yellow")


async def _show_preview(
    invocation: Invocation, databases: "Databases", present: "Constraints", changed: "Constraints", tickets: int
) -> None:
    from standfast.safety.preview import preview  # noqa: PLC0415

    views = await _views(invocation, present.target, tickets)
    found = await preview(views, present, changed, databases, invocation.settings())
    if invocation.output.as_json:
        invocation.output.document({"target": present.target, "stored": False} | found.model_dump(mode="json"))
    else:
        _preview_page(found, present.target, invocation.output)


async def _views(invocation: Invocation, target: str, tickets: int) -> "list[TicketView]":
    """Return the newest tickets of the target that had a report."""
    views: list[TicketView] = []
    async with invocation.client() as client:
        for row in await client.lists.tickets(targets=[target], limit=_WITH_REPORT * tickets):
            if row.risk is not None and len(views) < tickets:
                with suppress(UnknownTicket):  # it ended long ago, and Temporal has removed it
                    views.append(await client.view(row.workflow_id))
    return views


def _preview_page(found: "Preview", target: str, output: Output) -> None:
    if found.differences:
        rows: list[list[Any]] = [[d.workflow_id, d.before, d.after, "; ".join(d.why)] for d in found.differences]
        output.table(["ticket", "before", "after", "why"], rows)
    counts = "; ".join(
        f"{when}: " + (", ".join(f"{number} {verdict}" for verdict, number in sorted(by_verdict.items())) or "none")
        for when, by_verdict in (("now", found.before), ("then", found.after))
    )
    output.line(
        f"{len(found.differences)} of {found.assessed} tickets on {target} would be judged otherwise ({counts})"
    )
    if found.unavailable:
        output.line(f"not judged, as their rows are busy: {', '.join(found.unavailable)}", "yellow")
    output.line("Judged on the rows of now, which have moved on since the tickets were planned. Nothing was stored.")


@asynccontextmanager
async def _databases(invocation: Invocation) -> "AsyncIterator[Databases]":
    from standfast.store.databases import Databases  # noqa: PLC0415

    async with Databases(invocation.settings(), application="standfast constraints") as databases:
        yield databases
