"""Commands for the constraint database."""

import getpass
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, read_text, run
from standfast.cli.output import moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from standfast.store.connections import Connection


@click.group()
def constraints() -> None:
    """List, import or export constraints: what plans may do by themselves, with a person, or never."""


@constraints.command(name="list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List all versions, newest first; a target's newest holds."""
    from standfast.safety.constraints import versions  # noqa: PLC0415 - commands import when they run

    async def work() -> None:
        async with _control(invocation) as connection:
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
@click.option("--note", default="", help="Why; it is kept with the version.")
@pass_invocation
def import_(invocation: Invocation, file: str, note: str) -> None:
    """Store the constraints in FILE as the newest version of their target; older versions stay.

    Refused if they name a table or column that the target doesn't have.
    """
    from standfast.safety.access import constrained  # noqa: PLC0415
    from standfast.safety.constraints import (  # noqa: PLC0415
        append,
        check_against_schema,
        parse_constraints,
        read_latest,
    )
    from standfast.store.connections import Databases, Role  # noqa: PLC0415

    text, source = read_text(file)
    parsed = parse_constraints(text, source=source)
    settings = invocation.settings()
    settings.target(parsed.target)

    async def work() -> tuple[int, bool]:
        schemas = settings.target(parsed.target).schemas
        async with Databases(settings, application="standfast constraints") as databases:
            async with databases.control() as connection:
                before = await read_latest(connection, parsed.target, schemas)
            async with databases.target(parsed.target, Role.READER) as connection:
                await check_against_schema(connection, parsed, source=source)
                was, becomes = [await constrained(c)(connection, schemas) for c in (before, parsed)]
            async with databases.control() as connection:
                version = await append(connection, parsed, created_by=getpass.getuser(), note=note)
        return version, was != becomes

    version, moves_rights = run(work())
    if invocation.output.as_json:
        invocation.output.document({"target": parsed.target, "version": version, "moves_rights": moves_rights})
        return
    invocation.output.line(f"{parsed.target}: version {version} holds from now on")
    if moves_rights:
        invocation.output.line("  the rights of its roles follow with the next `standfast migrate`", "yellow")


@constraints.command()
@click.option("--target", default=None, help="Whose.  [default: the default target]")
@pass_invocation
def export(invocation: Invocation, target: str | None) -> None:
    """Print a target's newest constraints as YAML."""
    from standfast.safety.constraints import dump_constraints, read_latest  # noqa: PLC0415

    settings = invocation.settings()
    name = target or settings.default_target_name()
    schemas = settings.target(name).schemas

    async def work() -> None:
        async with _control(invocation) as connection:
            latest = await read_latest(connection, name, schemas)
        if invocation.output.as_json:
            invocation.output.document(latest.model_dump(mode="json", by_alias=True))
        else:
            click.echo(dump_constraints(latest), nl=False)

    run(work())


@asynccontextmanager
async def _control(invocation: Invocation) -> "AsyncIterator[Connection]":
    from standfast.store.connections import Databases  # noqa: PLC0415

    async with (
        Databases(invocation.settings(), application="standfast constraints") as databases,
        databases.control() as connection,
    ):
        yield connection
