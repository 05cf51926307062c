"""Commands for API tokens."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import OutputUnwritable, moment
from standfast.cli.stats import age
from standfast.scope import Scope
from standfast.system_user import system_user

if TYPE_CHECKING:
    from standfast.dashboard.tokens import TokenRow


@click.group()
def tokens() -> None:
    """Create, list and revoke the tokens with which programs use the API.

    A program sends its token as `Authorization: Bearer TOKEN`. It acts in one person's name and may do what the token's
    scopes say: none of them contains another one, and without `decide` it decides nothing.
    """


@tokens.command()
@click.argument("name")
@click.option("--user", required=True, help="In whose name the program acts; you vouch for it.")
@click.option(
    "--scope",
    "scopes",
    required=True,
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do; may be repeated.",
)
@click.option("--expires", metavar="AGE", help="After how long it is good for nothing, such as 24h or 90d.")
@pass_invocation
def create(invocation: Invocation, name: str, user: str, scopes: tuple[str, ...], expires: str | None) -> None:
    """Create the token NAME and print it, once: only its hash is stored."""
    from standfast.dashboard.tokens import Tokens  # noqa: PLC0415 - commands import when they run
    from standfast.store.databases import Databases  # noqa: PLC0415

    lasts = None if expires is None else age(expires, option="--expires")

    async def work() -> str:
        async with Databases(invocation.settings(), application="standfast tokens") as databases:
            chosen = [Scope(scope) for scope in scopes]
            by = system_user()
            return await Tokens(databases).create(name, user=user, scopes=chosen, lasts=lasts, created_by=by)

    token = run(work())
    try:
        if invocation.output.as_json:
            invocation.output.document({"name": name, "token": token})
        else:
            click.echo(token)
    except OutputUnwritable as error:
        advice = f"the token {name} is stored, and nobody has seen it: `standfast tokens revoke {name}`"
        raise OutputUnwritable(f"{error}; {advice}") from error


@tokens.command(name="list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List all tokens, also those that were revoked or have expired. No token is shown."""
    from standfast.dashboard.tokens import Tokens  # noqa: PLC0415
    from standfast.store.databases import Databases  # noqa: PLC0415

    async def work() -> "list[TokenRow]":
        async with Databases(invocation.settings(), application="standfast tokens") as databases:
            return await Tokens(databases).list()

    rows = run(work())
    if invocation.output.as_json:
        invocation.output.document([row.model_dump(mode="json") for row in rows])
        return
    invocation.output.table(
        ["token", "user", "scopes", "created", "by", "used", "is good"],
        [
            [row.name, row.user, " ".join(row.scopes), moment(row.created_at), row.created_by, _used(row), _good(row)]
            for row in rows
        ],
    )


@tokens.command()
@click.argument("name")
@pass_invocation
def revoke(invocation: Invocation, name: str) -> None:
    """End the token NAME at once."""
    from standfast.dashboard.tokens import Tokens  # noqa: PLC0415
    from standfast.store.databases import Databases  # noqa: PLC0415

    async def work() -> None:
        async with Databases(invocation.settings(), application="standfast tokens") as databases:
            await Tokens(databases).revoke(name, by=system_user())

    run(work())
    if invocation.output.as_json:
        invocation.output.document({"name": name, "revoked": True})
    else:
        invocation.output.line(f"{name} is revoked")


def _used(row: "TokenRow") -> str:
    return moment(row.used_at) if row.used_at else "never"


def _good(row: "TokenRow") -> str:
    if row.revoked_at is not None:
        return f"revoked {moment(row.revoked_at)}"
    if row.expires_at is None:
        return "until it is revoked"
    return f"{'until' if row.expires_at > datetime.now(UTC) else 'no more since'} {moment(row.expires_at)}"
