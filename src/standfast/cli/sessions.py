"""Commands for the sessions of people who are signed in at the dashboard."""

from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import moment
from standfast.errors import InvalidInput
from standfast.system_user import system_user

if TYPE_CHECKING:
    from standfast.dashboard.sessions import SessionRow


@click.group()
def sessions() -> None:
    """List who is signed in at the dashboard, and end sessions."""


@sessions.command(name="list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the open sessions, the newest first."""
    from standfast.dashboard.sessions import Sessions  # noqa: PLC0415 - commands import when they run
    from standfast.store.databases import Databases  # noqa: PLC0415

    async def work() -> "list[SessionRow]":
        async with Databases(invocation.settings(), application="standfast sessions") as databases:
            return await Sessions(databases).list()

    rows = run(work())
    if invocation.output.as_json:
        invocation.output.document([row.model_dump(mode="json") for row in rows])
        return
    invocation.output.table(
        ["session", "user", "mode", "scopes", "groups", "since", "until"],
        [
            [
                row.number,
                row.user,
                row.mode,
                " ".join(row.scopes),
                " ".join(row.groups),
                moment(row.created_at),
                moment(row.expires_at),
            ]
            for row in rows
        ],
    )


@sessions.command()
@click.argument("numbers", metavar="SESSION...", nargs=-1, type=int)
@click.option("--user", default=None, help="All sessions of this person.")
@pass_invocation
def revoke(invocation: Invocation, numbers: tuple[int, ...], user: str | None) -> None:
    """End each SESSION at once, by its number; its person has to sign in again."""
    from standfast.dashboard.sessions import Sessions  # noqa: PLC0415
    from standfast.decision import same_person  # noqa: PLC0415
    from standfast.store.databases import Databases  # noqa: PLC0415

    if bool(numbers) == (user is not None):
        raise InvalidInput("name the sessions by their numbers, or a person by --user")

    async def work() -> list[int]:
        async with Databases(invocation.settings(), application="standfast sessions") as databases:
            open_ones = Sessions(databases)
            ended = set(numbers)
            if user is not None:
                ended = {row.number for row in await open_ones.list() if same_person(row.user, user)}
            await open_ones.revoke(ended, by=system_user())
            return sorted(ended)

    ended = run(work())
    if invocation.output.as_json:
        invocation.output.document({"revoked": ended})
    else:
        invocation.output.line(f"revoked: {', '.join(map(str, ended)) or 'none, there was no open session'}")
