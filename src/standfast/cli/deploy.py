"""Commands that bring a new version of the workers into use, and an old one out of it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output
from standfast.cli.ranges import Range
from standfast.errors import InvalidInput, ServiceUnavailable

if TYPE_CHECKING:
    from temporalio.client import Client

    from standfast.deployment import Deployments, Version
    from standfast.settings import Settings

BREAKS = 1
_NOTHING = "nothing under way: its workers can be stopped, but for a core worker that shows what ended on it"
_LOOK = 10.0  # seconds between two looks at what still runs: people are waited for, and each look is a search
_LISTS_LAG = 1.0  # seconds by which the server's lists are late at most, as a rule

_BUILD = click.argument("build", required=False)


@click.group()
def deploy() -> None:
    """Say which version of the workers new tickets begin on, and wait until an old one is not needed any more.

    For workers with `deployment.build_id` set: a ticket then ends on the version that it began on. BUILD is the
    `deployment.build_id` of this command's own settings unless it is given.
    """


@deploy.command()
@pass_invocation
def show(invocation: Invocation) -> None:
    """Show all versions: what they are for, their share of new tickets, and what is under way on them."""

    async def work() -> None:
        async with _deployments(invocation.settings()) as (_, deployments):
            _show(await deployments.versions(), invocation.output)

    run(work())


@deploy.command()
@_BUILD
@pass_invocation
def current(invocation: Invocation, build: str | None) -> None:
    """Let all new tickets begin on BUILD. Its workers have to be there, one of each pool at least."""
    settings = invocation.settings()
    chosen = _chosen(settings, build)

    async def work() -> None:
        async with _deployments(settings) as (_, deployments):
            await deployments.make_current(chosen)
            _show(await deployments.versions(), invocation.output)

    run(work())


@deploy.command()
@click.argument("share", type=Range(0, 100))
@_BUILD
@pass_invocation
def ramp(invocation: Invocation, share: float, build: str | None) -> None:
    """Let SHARE per cent of the new tickets begin on BUILD; 0 takes them away again."""
    settings = invocation.settings()
    chosen = _chosen(settings, build)

    async def work() -> None:
        async with _deployments(settings) as (_, deployments):
            await deployments.ramp(chosen, share)
            _show(await deployments.versions(), invocation.output)

    run(work())


@deploy.command()
@click.option("--move", is_flag=True, help="Move to this code's version what replays on it, instead of waiting for it.")
@pass_invocation
def drain(invocation: Invocation, move: bool) -> int:
    """Wait until nothing is under way on old versions; their workers can be stopped then.

    All but one core worker of each: what ended on a version is shown, and undone, by it, until Temporal forgets it.

    With --move, tickets that replay on this code, with their planners, go on on this code's version, which has to be
    the current one. What does not is named, stays where it is and is waited for; exit code 1 then. Batches are waited
    for, too: they go on on the current version when they continue as new.
    """
    settings = invocation.settings()

    async def work() -> int:
        async with _deployments(settings) as (client, deployments):
            broken = await _move(settings, client, deployments, invocation.output) if move else 0
            await _drained(deployments, invocation.output)
            return BREAKS if broken else 0

    return run(work())


@asynccontextmanager
async def _deployments(settings: "Settings") -> AsyncIterator[tuple["Client", "Deployments"]]:
    from standfast import cluster  # noqa: PLC0415 - commands import late
    from standfast.deployment import Deployments  # noqa: PLC0415

    client = await cluster.connect(settings)
    yield client, Deployments(client, settings.deployment.name)


def _chosen(settings: "Settings", build: str | None) -> str:
    chosen = build or settings.deployment.build_id
    if chosen is None:
        raise InvalidInput("no build is named; give one, or set deployment.build_id")
    return chosen


async def _move(settings: "Settings", client: "Client", deployments: "Deployments", output: Output) -> int:
    """Move what replays on this code from old versions to its own; return how many do not."""
    from standfast.deployment import Use  # noqa: PLC0415 - commands import late
    from standfast.moving import move  # noqa: PLC0415

    own = _chosen(settings, None)
    versions = await deployments.versions()
    if not any(version.build_id == own and version.use is Use.CURRENT for version in versions):
        raise InvalidInput(f"deployment.build_id is {own!r}, which is not the current version; `standfast deploy show`")
    logging.disable()  # what is logged about a replay is in its result
    moved = broken = 0
    for version in versions:
        if version.use is not Use.OLD or not version.open:
            continue
        done = await move(client, settings, deployments, version.build_id, own)
        for workflow_id, why in done.stay.items():
            output.line(f"{workflow_id}  stays on {version.build_id}: {why}", "red")
        moved += done.moved
        broken += len(done.stay)
    output.line(f"{moved} moved to {own}, {broken} stay where they are")
    return broken


async def _drained(deployments: "Deployments", output: Output) -> None:
    """Wait until no old version has anything under way; tell whenever that changes.

    It takes days at times, so Temporal may be away for a while once it has answered.
    """
    last = await deployments.old()
    _tell(last, output)
    while True:
        await asyncio.sleep(_LOOK if any(last.values()) else _LISTS_LAG)
        try:
            now = await deployments.old()
        except ServiceUnavailable as error:
            output.line(str(error), "yellow")
            continue
        if now != last:
            _tell(now, output)
        elif not any(now.values()):  # twice, since lists lag behind
            return
        last = now


def _tell(open_on: dict[str, int], output: Output) -> None:
    if output.as_json:
        output.document(open_on)
    for build_id, number in open_on.items():
        output.line(f"{build_id}: {f'{number} under way' if number else _NOTHING}")
    if not open_on:
        output.line("there is no old version")


def _show(versions: "list[Version]", output: Output) -> None:
    if output.as_json:
        output.document(versions)
        return
    if not versions:
        output.line("no worker with a deployment.build_id has come yet")
        return
    cells: list[list[Any]] = [[one.build_id, one.use, f"{one.share:g} %", one.open] for one in versions]
    output.table(["build", "use", "new tickets", "under way"], cells)
