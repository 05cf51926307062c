"""The command `check`: the safety report of a plan, with nothing but a database at hand."""

from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, read_text, run
from standfast.errors import InvalidInput

if TYPE_CHECKING:
    from standfast.safety.constraints import Constraints
    from standfast.settings import Settings
    from standfast.ticket import Ticket

BLOCKED = 1
_DATABASE = "database"  # what the target is called if only a URL is given


@click.command()
@click.argument("plan")
@click.option("--target", default=None, help="A target of the settings, rehearsed as its rehearser.")
@click.option("--database", default=None, metavar="URL", help="Any PostgreSQL 14 to 18 instead of a target.")
@click.option("--schema", "schemas", multiple=True, help="Schemas of --database; may be repeated.  [default: public]")
@click.option("--constraints", "constraints_file", default=None, metavar="FILE", help="Constraints to hold it to.")
@click.option("--ticket", "ticket_file", default=None, metavar="FILE", help="Values must come from this ticket.")
@pass_invocation
def check(  # noqa: PLR0917 - click passes them by name
    invocation: Invocation,
    plan: str,
    target: str | None,
    database: str | None,
    schemas: tuple[str, ...],
    constraints_file: str | None,
    ticket_file: str | None,
) -> int:
    """Print the safety report of the PLAN in a file (`-` is stdin). It is rehearsed and rolled back, never executed.

    Exit code 1 if the verdict is `block`. Without --constraints the target's own hold, or strict ones in which every
    write needs a person. Without --ticket values are not traced to their source.
    """
    from standfast.cli.pages import report_page  # noqa: PLC0415 - commands import when they run
    from standfast.safety.check import check as check_plan  # noqa: PLC0415
    from standfast.safety.check import parse_plan  # noqa: PLC0415
    from standfast.safety.constraints import parse_constraints  # noqa: PLC0415

    if target is not None and database is not None:
        raise InvalidInput("--target and --database exclude each other; give one of them")
    if schemas and database is None:
        raise InvalidInput("--schema goes with --database; a target's schemas stand in the settings")
    text, source = read_text(plan)
    parsed = parse_plan(text, source=source)
    constraints = None
    if constraints_file is not None:
        text, source = read_text(constraints_file)
        constraints = parse_constraints(text, source=source)
    if database is not None:
        name = constraints.target if constraints else _DATABASE
        url, known_schemas = database, schemas or ("public",)
    else:
        settings = invocation.settings()
        name = target or (constraints.target if constraints else settings.default_target_name())
        url, known_schemas = _rehearser(settings, name), settings.target(name).schemas
    ticket = _ticket(ticket_file, name) if ticket_file else None

    async def work() -> int:
        held = constraints
        if held is None and database is None:
            held = await _stored(invocation.settings(), name)
        report = await check_plan(parsed, url=url, target=name, schemas=known_schemas, constraints=held, ticket=ticket)
        if invocation.output.as_json:
            invocation.output.document(report)
        else:
            report_page(parsed, report, name, invocation.output)
        return BLOCKED if report.verdict == "block" else 0

    return run(work())


def _rehearser(settings: "Settings", name: str) -> str:
    target = settings.target(name)
    secret = target.rehearser or target.writer
    if secret is None:
        raise InvalidInput(f"targets.{name}.rehearser is not set; set it, or give --database URL")
    return secret.get_secret_value()


def _ticket(file: str, target: str) -> "Ticket":
    from standfast.documents import read_json_documents, validate  # noqa: PLC0415
    from standfast.ticket import Ticket  # noqa: PLC0415

    text, source = read_text(file)
    documents = list(read_json_documents(text, source=source))
    if len(documents) != 1:
        raise InvalidInput(f"{source}: expected one ticket, got {len(documents)}")
    ((line, document, value),) = documents
    if isinstance(value, dict) and "target" not in value:
        value = value | {"target": target}
    return validate(Ticket, value, source=source, line=line, text=document)


async def _stored(settings: "Settings", target: str) -> "Constraints | None":
    """Return the target's constraints in the control database, None if the settings name no such database."""
    from standfast.safety.versions import read_latest  # noqa: PLC0415
    from standfast.store.connections import Databases  # noqa: PLC0415

    if settings.control.url is None:
        return None
    async with Databases(settings, application="standfast check") as databases, databases.control() as connection:
        return await read_latest(connection, target, settings.target(target).schemas)
