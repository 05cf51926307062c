"""The dashboard as an ASGI application: pure assembly."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from standfast.client import Standfast
from standfast.dashboard.api import Api
from standfast.dashboard.guard import HEADERS, Guard
from standfast.dashboard.inbox import Inbox
from standfast.dashboard.live import Streams
from standfast.dashboard.login import Login
from standfast.dashboard.problems import Problems
from standfast.dashboard.reading import BodyLimit
from standfast.dashboard.rendering import Renderer
from standfast.dashboard.sessions import Sessions
from standfast.dashboard.tickets import TicketPages
from standfast.dashboard.viewing import Viewing
from standfast.errors import StandfastError
from standfast.settings import Settings
from standfast.store.connections import Databases

_TICKET = "/tickets/ticket/{target}/{id}"  # a ticket's workflow id is ticket/<target>/<id>


def build_app(settings: Settings, standfast: Standfast, databases: Databases) -> Starlette:
    """Return the application; it opens nothing by itself. Setting the event `app.state.closing` ends its streams."""
    renderer, sessions, closing = Renderer(), Sessions(databases), asyncio.Event()
    problems = Problems(renderer)

    async def unexpected(request: Request, error: Exception) -> Response:
        response = await problems.unexpected(request, error)
        response.headers.update(HEADERS)  # a defect is answered outside of the guard
        return response

    app = Starlette(
        routes=[
            *_pages(settings, standfast, renderer, Viewing(databases, by="page")),
            *_session(sessions, renderer),
            *_api(settings, standfast, Viewing(databases, by="api")),
            *_streams(standfast, closing),
            Route("/healthz", _healthy),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[
            Middleware(Guard, sessions=sessions, problems=problems),
            Middleware(BodyLimit, problems=problems),
        ],
        exception_handlers={StandfastError: problems.ours, HTTPException: problems.http, Exception: unexpected},
    )
    app.state.closing = closing
    return app


def _pages(settings: Settings, standfast: Standfast, renderer: Renderer, viewing: Viewing) -> list[Route]:
    tickets = TicketPages(standfast, settings, renderer, viewing)
    return [
        Route("/", Inbox(standfast, settings, renderer).show),
        Route(_TICKET, tickets.show),
        Route(f"{_TICKET}/decision", tickets.decide, methods=["POST"]),
        Route(f"{_TICKET}/history.json", tickets.history),
    ]


def _session(sessions: Sessions, renderer: Renderer) -> list[Route]:
    login = Login(sessions, renderer)
    return [
        Route("/login", login.ask),
        Route("/login", login.sign_in, methods=["POST"]),
        Route("/logout", login.sign_out, methods=["POST"]),
    ]


def _api(settings: Settings, standfast: Standfast, viewing: Viewing) -> list[Route]:
    api = Api(standfast, settings, viewing)
    return [
        Route("/api/openapi.json", api.document),
        _resource("/api/tickets", GET=api.list, POST=api.submit),
        Route(f"/api{_TICKET}", api.show),
        Route(f"/api{_TICKET}/history", api.history),
        Route(f"/api{_TICKET}/decision", api.decide, methods=["POST"]),
        Route(f"/api{_TICKET}/cancel", api.cancel, methods=["POST"]),
    ]


def _resource(path: str, **handlers: Callable[[Request], Awaitable[Response]]) -> Route:
    """Return the one route of a path with several methods: who tries another is told all of them."""

    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(handlers))


def _streams(standfast: Standfast, closing: asyncio.Event) -> list[Route]:
    streams = Streams(standfast, closing)
    return [Route("/events", streams.inbox), Route(f"{_TICKET}/events", streams.ticket)]


async def _healthy(request: Request) -> Response:
    del request
    return JSONResponse({"status": "ok"})
