"""The command `check`: the safety report of a plan, or a test of all locks, with nothing but a database at hand."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, read_text, run
from standfast.cli.output import Output
from standfast.errors import InvalidInput, NotMigrated

if TYPE_CHECKING:
    from standfast.plan import Plan
    from standfast.report import SafetyReport
    from standfast.safety.constraints import Constraints
    from standfast.safety.self_test import Attempt
    from standfast.settings import Settings
    from standfast.ticket import Ticket

BLOCKED = 1
NOT_STOPPED = 1
_DATABASE = "database"  # what the target is called if only a URL is given


@click.command()
@click.argument("plan", required=False)
@click.option("--self-test", "tests_locks", is_flag=True, help="Instead of a PLAN: what stops hostile statements.")
@click.option("--target", default=None, help="A target of the settings, rehearsed as its rehearser.")
@click.option("--database", default=None, metavar="URL", help="Any PostgreSQL 14 to 18 instead of a target.")
@click.option("--schema", "schemas", multiple=True, help="Schemas of --database; may be repeated.  [default: public]")
@click.option("--constraints", "constraints_file", default=None, metavar="FILE", help="Constraints to hold it to.")
@click.option("--ticket", "ticket_file", default=None, metavar="FILE", help="Values must come from this ticket.")
@pass_invocation
def check(  # noqa: PLR0917 - click passes them by name
    invocation: Invocation,
    plan: str | None,
    tests_locks: bool,
    target: str | None,
    database: str | None,
    schemas: tuple[str, ...],
    constraints_file: str | None,
    ticket_file: str | None,
) -> int:
    """Print the safety report of the PLAN in a file (`-` is stdin). It is rehearsed and rolled back, never executed.

    Exit code 1 if the verdict is `block`. Without --constraints the target's own hold, or strict ones in which every
    write needs a person. Without --ticket values are not traced to their source.

    With --self-test it tries hostile statements made for the target's own schema, and tells which layer stopped each,
    and whether the role alone would have. Nothing is changed. Exit code 1 if one is not stopped at all.
    """
    from standfast.safety.check import check as check_plan  # noqa: PLC0415 - commands import when they run
    from standfast.safety.check import check_locks, parse_plan  # noqa: PLC0415

    if (plan is None) is not tests_locks or (tests_locks and ticket_file is not None):
        raise InvalidInput("give either a PLAN, with or without --ticket, or --self-test")
    parsed = None
    if plan is not None:
        text, source = read_text(plan)
        parsed = parse_plan(text, source=source)
    held = _held_to(invocation, target, database, schemas, constraints_file)
    named = database is None or constraints_file is not None
    ticket = _ticket(ticket_file, held.target, named=named) if ticket_file else None

    async def work() -> int:
        constraints = held.constraints
        if constraints is None and database is None:
            constraints = await _stored(invocation.settings(), held.target)
        url, name, known = held.url, held.target, held.schemas
        if parsed is None:
            attempts = await check_locks(url=url, target=name, schemas=known, constraints=constraints)
            return _locks(attempts, invocation.output)
        report = await check_plan(parsed, url=url, target=name, schemas=known, constraints=constraints, ticket=ticket)
        return _report(parsed, report, name, invocation.output)

    return run(work())


@dataclass(frozen=True, kw_only=True)
class _HeldTo:
    """A database, and what plans for it are held to."""

    target: str
    url: str
    schemas: tuple[str, ...]
    constraints: "Constraints | None"
    """None: the stored ones."""


def _held_to(
    invocation: Invocation, target: str | None, database: str | None, schemas: tuple[str, ...], file: str | None
) -> _HeldTo:
    from standfast.safety.constraints import parse_constraints  # noqa: PLC0415 - commands import when they run

    if target is not None and database is not None:
        raise InvalidInput("--target and --database exclude each other; give one of them")
    if schemas and database is None:
        raise InvalidInput("--schema goes with --database; a target's schemas stand in the settings")
    if schemas and file is not None:
        raise InvalidInput(f"--schema and --constraints exclude each other; name the schemas in {file}")
    constraints = None
    if file is not None:
        text, source = read_text(file)
        constraints = parse_constraints(text, source=source)
        if target is not None and constraints.target != target:
            raise InvalidInput(f"{source}: these constraints are for target {constraints.target!r}, not for {target!r}")
    if database is not None:
        name = constraints.target if constraints else _DATABASE
        return _HeldTo(target=name, url=database, schemas=schemas or ("public",), constraints=constraints)
    settings = invocation.settings()
    name = target or (constraints.target if constraints else settings.default_target_name())
    known = settings.target(name).schemas
    return _HeldTo(target=name, url=_rehearser(settings, name), schemas=known, constraints=constraints)


def _report(plan: "Plan", report: "SafetyReport", target: str, output: Output) -> int:
    from standfast.cli.pages import report_page  # noqa: PLC0415 - commands import when they run

    if output.as_json:
        output.document(report)
    else:
        report_page(plan, report, target, output)
    return BLOCKED if report.verdict == "block" else 0


def _locks(attempts: "list[Attempt]", output: Output) -> int:
    open_ones = [attempt for attempt in attempts if attempt.stopped_by is None]
    if output.as_json:
        output.document(attempts)
    else:
        rows = [[a.kind, a.sql, _stopped(a), "stopped" if a.stopped_by_role else "open"] for a in attempts]
        output.table(["kind", "statement", "stopped by", "role alone"], rows)
        by_role = sum(attempt.stopped_by_role for attempt in attempts)
        stopped = len(attempts) - len(open_ones)
        output.line(
            f"\n{stopped} of {len(attempts)} hostile statements are stopped; the role alone would stop {by_role}",
            "red" if open_ones else "green",
        )
    return NOT_STOPPED if open_ones else 0


def _stopped(attempt: "Attempt") -> str:
    if attempt.stopped_by is None:
        return "NOT STOPPED"
    return f"{attempt.stopped_by} until a person decides" if attempt.verdict == "approval" else attempt.stopped_by


def _rehearser(settings: "Settings", name: str) -> str:
    target = settings.target(name)
    secret = target.rehearser or target.writer
    if secret is None:
        raise InvalidInput(f"targets.{name}.rehearser is not set; set it, or give --database URL")
    return secret.get_secret_value()


def _ticket(file: str, target: str, *, named: bool) -> "Ticket":
    """Return the ticket of a file; it must be for the target if that is `named`, and not just any database."""
    from standfast.documents import read_json_documents, validate  # noqa: PLC0415
    from standfast.ticket import Ticket  # noqa: PLC0415

    text, source = read_text(file)
    documents = list(read_json_documents(text, source=source))
    if len(documents) != 1:
        raise InvalidInput(f"{source}: expected one ticket, got {len(documents)}")
    ((line, document, value),) = documents
    if isinstance(value, dict) and "target" not in value:
        value = value | {"target": target}
    ticket = validate(Ticket, value, source=source, line=line, text=document)
    if named and ticket.target != target:
        raise InvalidInput(f"{source}, line {line}: field target: the plan is for {target!r}, got {ticket.target!r}")
    return ticket


async def _stored(settings: "Settings", target: str) -> "Constraints | None":
    """Return the target's constraints in the control database, None if the settings name no such database.

    Raises:
        NotMigrated: the control database was not migrated.
        ServiceUnavailable: it can't be reached.
    """
    from standfast.safety.versions import read_latest  # noqa: PLC0415 - commands import when they run
    from standfast.store.databases import Databases  # noqa: PLC0415

    if settings.control.url is None:
        return None
    try:
        async with Databases(settings, application="standfast check") as databases, databases.control() as connection:
            return await read_latest(connection, target, settings.target(target).schemas)
    except NotMigrated as error:
        raise NotMigrated(f"{error}, or give --constraints FILE") from error
