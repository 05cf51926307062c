"""Commands that run until they are stopped."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output
from standfast.errors import InvalidInput

if TYPE_CHECKING:
    from standfast.local.stack import Stack
    from standfast.local.supervisor import Event
    from standfast.settings import Settings

Result = TypeVar("Result")

_POOLS = ("core", "llm", "database")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: somebody closed the terminal


@click.command()
@pass_invocation
def up(invocation: Invocation) -> None:
    """Run everything on this machine in the foreground: Temporal, PostgreSQL, workers, dashboard.

    Data is kept under $STANDFAST_HOME (`.standfast/`). What dies is started again. Ctrl-C and SIGTERM stop it all.
    """
    from standfast.layers import home_folder  # noqa: PLC0415
    from standfast.local.stack import Stack  # noqa: PLC0415 - commands import when they run

    output = invocation.output

    async def work() -> None:
        chosen = invocation.settings(local=False)
        async with Stack(chosen, home=home_folder(), on_event=lambda event: show(event, output)) as stack:
            await announce(stack, output)
            await asyncio.Event().wait()

    run(until_signal(work()))


@click.command()
@click.option("--pool", "pools", required=True, multiple=True, type=click.Choice(_POOLS), help="Which task queue.")
@pass_invocation
def worker(invocation: Invocation, pools: tuple[str, ...]) -> None:
    """Run one worker pool until SIGTERM: core, llm or database, each with the credentials that it needs."""
    from standfast.steps import Pool  # noqa: PLC0415
    from standfast.worker import run as serve  # noqa: PLC0415

    if len(pools) > 1:
        raise click.UsageError(f"one process serves one pool, got {' and '.join(pools)}; start one for each")
    _log()
    run(serve(Pool(pools[0]), invocation.settings()))


@click.command()
@pass_invocation
def dashboard(invocation: Invocation) -> None:
    """Run the dashboard until SIGTERM; `standfast login-link` lets people in."""
    from standfast.dashboard.server import serve  # noqa: PLC0415

    _log()
    run(serve(invocation.settings()))


@click.command(name="codec-server")
@pass_invocation
def codec_server(invocation: Invocation) -> None:
    """Decrypt payloads for Temporal's UI and command line until SIGTERM, and show that UI to signed-in people."""
    from standfast.dashboard.codec_server import serve  # noqa: PLC0415

    _log()
    run(serve(invocation.settings()))


@click.command(name="login-link")
@pass_invocation
def login_link(invocation: Invocation) -> None:
    """Print a link that signs its first user in to the dashboard, within an hour."""
    link = run(_new_link(invocation.settings()))
    if invocation.output.as_json:
        invocation.output.document({"login_link": link})
    else:
        invocation.output.line(link)


@click.command(name="model-server")
@pass_invocation
def model_server(invocation: Invocation) -> None:
    """Serve the small language model of this machine, OpenAI-compatible, at planner.local_url until SIGTERM."""
    from standfast.layers import home_folder  # noqa: PLC0415
    from standfast.local.model_server import serve  # noqa: PLC0415

    _log()
    run(serve(invocation.settings().planner.local_url, home_folder() / "models"))


async def until_signal(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Run `work` until it ends, or until Ctrl-C, SIGTERM or SIGHUP: then it cleans up, however often one presses."""
    task = asyncio.ensure_future(work)

    def stop() -> None:
        for number in _SIGNALS:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    with suppress(asyncio.CancelledError):
        return await task
    return None


def show(event: "Event", output: Output) -> None:
    """Print what happened to a service: how it ended, or how long it was away."""
    away = event.away.total_seconds() if event.away is not None else None
    if output.as_json:
        known = {"exit_status": event.exit_status, "away_seconds": None if away is None else round(away, 3)}
        output.document(
            {"event": event.happening, "service": event.service, "at": event.at, "pid": event.pid}
            | {name: value for name, value in known.items() if value is not None}
        )
        return
    how = "" if event.exit_status is None else f" {_ending(event.exit_status)}"
    how += "" if away is None else f" after {away:.1f} s"
    style = {"died": "red", "back": "green"}.get(event.happening, "dim")
    output.line(f"{event.at:%H:%M:%S}  {event.service:<18} {event.happening}{how}", style)


def _ending(exit_status: int) -> str:
    """Return what an exit status says; a negative one is the number of a signal."""
    return f"by {signal.Signals(-exit_status).name}" if exit_status < 0 else f"with status {exit_status}"


async def announce(stack: "Stack", output: Output) -> None:
    """Print where everything is, with a login link of one use."""
    dashboard = stack.settings.dashboard
    link = None if dashboard.sign_in else await _new_link(stack.settings)
    ui = stack.settings.temporal.ui
    if output.as_json:
        output.document({"event": "up", "login_link": link, "temporal_ui": ui, "home": str(stack.settings.home)})
    else:
        output.line(f"\nDashboard    {link or dashboard.url}", "bold")
        if link:
            output.line("             (the link signs you in, once; `standfast login-link` prints another)")
        output.line(f"Temporal UI  {ui}")
        output.line(f"Logs         {stack.settings.home}/logs")
        output.line("Ctrl-C stops everything; the data stays.\n")


async def _new_link(settings: "Settings") -> str:
    from standfast.dashboard.sessions import new_login_link  # noqa: PLC0415
    from standfast.store.databases import Databases  # noqa: PLC0415
    from standfast.web_address import origin  # noqa: PLC0415

    if settings.dashboard.sign_in is not None:
        raise InvalidInput(
            "dashboard.oidc or dashboard.trusted_proxy signs people in; login links are for none of them"
        )
    async with Databases(settings, application="standfast login-link") as databases:
        address = settings.dashboard.url or origin(settings.dashboard.host, settings.dashboard.port)
        return await new_login_link(databases, address)


def _log() -> None:
    from standfast.logs import to_stderr  # noqa: PLC0415

    to_stderr()
