"""Serving the dashboard until it is told to stop."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from standfast.client import Standfast
from standfast.dashboard.app import build_app
from standfast.errors import InvalidInput
from standfast.settings import Settings
from standfast.store.databases import Databases
from standfast.web_address import LOOPBACK

_GRACE_SECONDS = 5


class Server(uvicorn.Server):
    """A web server whose open event streams end when it stops, instead of keeping it."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,  # what is worth a line goes the way of all our logs
                access_log=False,  # addresses may hold a login link's token
                ws="none",
                lifespan="off",
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self._closing = app.state.closing

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`: uvicorn would raise them again in the end, before connections are closed."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, and then everything else."""
        self._closing.set()
        await super().shutdown(sockets)


async def serve(settings: Settings) -> None:
    """Serve the dashboard until SIGTERM or SIGINT.

    Raises:
        InvalidInput: people could reach the dashboard whom nobody tells apart, or the port is taken.
        ServiceUnavailable: Temporal can't be reached.
    """
    _refuse_unknown_people(settings)
    async with opened(settings) as app:
        await run_app(app, settings.dashboard.host, settings.dashboard.port)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Starlette]:
    """The dashboard, connected; all of it shares its connections.

    Raises:
        ServiceUnavailable: Temporal can't be reached.
    """
    async with (
        Databases(settings, application="standfast-dashboard") as databases,
        Standfast.connect(settings, databases) as standfast,
    ):
        yield build_app(settings, standfast, databases)


async def run_app(app: Starlette, host: str, port: int, *, section: str = "dashboard") -> None:
    """Serve `app` until SIGTERM or SIGINT; `section` of the settings has its host and port.

    Raises:
        InvalidInput: the port is taken.
    """
    server, listening = Server(app), listen(host, port, section)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, server.handle_exit, signum, None)
    await server.serve(sockets=[listening])


def listen(host: str, port: int, section: str = "dashboard") -> socket.socket:
    """Return a socket that is bound to the address; the server closes it.

    Raises:
        InvalidInput: the address can't be used.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise InvalidInput(f"{section}.port is {port}, and {host}:{port} can't be used: {error.strerror}") from error
    return bound


def _refuse_unknown_people(settings: Settings) -> None:
    dashboard = settings.dashboard
    if dashboard.sign_in is None and not dashboard.is_local:
        refuse_other_hosts(dashboard.host)
        raise InvalidInput(
            f"dashboard.url is {dashboard.url}, which others can open, and nobody would tell who they are; set "
            "dashboard.oidc or dashboard.trusted_proxy, or leave it out (docs/identity.md)"
        )
    if dashboard.sign_in is not None and settings.review.solo:
        raise InvalidInput(
            "review.solo is true, which lets one person submit and approve in any name, and dashboard.oidc or "
            "dashboard.trusted_proxy tells several people apart; set review.solo to false"
        )


def refuse_other_hosts(host: str, section: str = "dashboard") -> None:
    """Refuse an address that others can reach: the one-time link is made for people on this machine.

    Raises:
        InvalidInput: `host` is not a loopback address.
    """
    if host not in LOOPBACK:
        raise InvalidInput(
            f"{section}.host is {host!r}; our pages are served on 127.0.0.1, ::1 or localhost only, because its login "
            "is made for people on this machine. From elsewhere, use an SSH tunnel: ssh -L 8765:127.0.0.1:8765 host; "
            "or let dashboard.oidc or dashboard.trusted_proxy say who people are (docs/identity.md)"
        )
