"""The dashboard as an ASGI application: pure assembly."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from standfast import cluster
from standfast.client import Standfast
from standfast.codec.converter import data_converter
from standfast.codec.sealing import Seal
from standfast.dashboard.api import Api
from standfast.dashboard.figures import Figures
from standfast.dashboard.freshness import Rehearsals
from standfast.dashboard.guard import HEADERS, Guard
from standfast.dashboard.identity import People, SignedIn
from standfast.dashboard.inbox import Inbox
from standfast.dashboard.live import Streams
from standfast.dashboard.login import Login
from standfast.dashboard.looks import SurroundingLooks
from standfast.dashboard.oidc import OidcLogin
from standfast.dashboard.origin import Cookie, OwnAddress
from standfast.dashboard.problems import Problems
from standfast.dashboard.reading import BodyLimit
from standfast.dashboard.rendering import Renderer
from standfast.dashboard.sessions import Sessions
from standfast.dashboard.stats import StatsPage
from standfast.dashboard.tickets import TicketPages
from standfast.dashboard.tokens import Tokens
from standfast.dashboard.trusted_proxy import Proxied, ProxyLogin
from standfast.dashboard.viewing import Viewing
from standfast.errors import StandfastError
from standfast.settings import Dashboard, Settings
from standfast.store.databases import Databases

_TICKET = "/tickets/ticket/{target}/{id}"  # a ticket's workflow id is ticket/<target>/<id>
_Answer = Callable[[Request], Awaitable[Response]]


def build_app(settings: Settings, standfast: Standfast, databases: Databases) -> Starlette:
    """Return the application; it opens nothing by itself. Setting the event `app.state.closing` ends its streams."""
    renderer, closing, own = Renderer(), asyncio.Event(), OwnAddress(settings.dashboard.url)
    seal = Seal(data_converter(settings), cluster.namespace(settings))
    problems, rehearsals, surroundings = Problems(renderer), Rehearsals(standfast, closing), SurroundingLooks(standfast)
    viewing = Viewing(databases, seal, by="page")
    tickets = TicketPages(standfast, settings, renderer, viewing, rehearsals, surroundings=surroundings)
    people, ways_in = _people(settings.dashboard, own, databases, renderer)

    async def unexpected(request: Request, error: Exception) -> Response:
        response = await problems.unexpected(request, error)
        response.headers.update(HEADERS)  # a defect is answered outside of the guard
        return response

    app = Starlette(
        routes=[
            Route("/", Inbox(standfast, settings, renderer, databases).show),
            *_pages(tickets),
            *_stats(settings, standfast, renderer),
            *ways_in,
            *_api(Api(standfast, settings, Viewing(databases, seal, by="api"), Cookie(own)), settings),
            *_streams(Streams(standfast, rehearsals, surroundings, people, closing)),
            Route("/healthz", _healthy),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[
            Middleware(Guard, own=own, people=people, tokens=Tokens(databases), problems=problems),
            Middleware(BodyLimit, problems=problems),
        ],
        exception_handlers={StandfastError: problems.ours, HTTPException: problems.http, Exception: unexpected},
    )
    app.state.closing = closing
    return app


def _pages(tickets: TicketPages) -> list[Route]:
    return [
        Route(_TICKET, tickets.show),
        Route(f"{_TICKET}/decision", tickets.decide, methods=["POST"]),
        Route(f"{_TICKET}/rehearse", tickets.rehearse, methods=["POST"]),
        Route(f"{_TICKET}/cancel", tickets.cancel, methods=["POST"]),
        Route(f"{_TICKET}/undo", tickets.undo, methods=["POST"]),
        Route(f"{_TICKET}/history.json", tickets.history),
    ]


def _stats(settings: Settings, standfast: Standfast, renderer: Renderer) -> list[Route]:
    stats = StatsPage(Figures(standfast, settings), settings, renderer)
    return [Route("/stats", stats.show), Route("/api/stats", stats.as_json)]


def _people(
    settings: Dashboard, own: OwnAddress, databases: Databases, renderer: Renderer
) -> tuple[People, list[BaseRoute]]:
    """Return who tells who people are, and the pages on which they sign in and out."""
    sessions, cookie = Sessions(databases), Cookie(own)
    if settings.trusted_proxy is not None:
        return Proxied(settings.trusted_proxy, databases), [Route("/login", ProxyLogin(renderer).ask)]
    if settings.oidc is not None:
        oidc = OidcLogin(settings, own, sessions, databases, renderer)
        return SignedIn(sessions, cookie, settings.session_modes), oidc.routes()
    login = Login(sessions, own, renderer)
    return SignedIn(sessions, cookie, settings.session_modes), [
        Route("/login", login.ask),
        Route("/login", login.sign_in, methods=["POST"]),
        Route("/logout", login.sign_out, methods=["POST"]),
    ]


def _api(api: Api, settings: Settings) -> list[Route]:
    of_ticket: list[tuple[str, _Answer, list[str]]] = [
        ("", api.show, ["GET"]),
        ("/history", api.history, ["GET"]),
        ("/decision", api.decide, ["POST"]),
        ("/undo", api.undo, ["POST"]),
        ("/cancel", api.cancel, ["POST"]),
    ]
    return [
        Route("/api/openapi.json", api.document),
        _resource("/api/tickets", GET=api.list, POST=api.submit),
        *(Route(f"/api{_TICKET}{path}", answer, methods=methods) for path, answer, methods in of_ticket),
        *(
            Route(f"/api/tickets/{{id}}{path}", _of_default_target(answer, settings), methods=methods)
            for path, answer, methods in of_ticket
        ),
    ]


def _of_default_target(answer: _Answer, settings: Settings) -> _Answer:
    """Return the `answer` where an address names a ticket by its id alone, as on the command line."""

    async def answered(request: Request) -> Response:
        request.path_params["target"] = settings.default_target_name()
        return await answer(request)

    return answered


def _resource(path: str, **handlers: _Answer) -> Route:
    """Return the one route of a path with several methods: who tries another is told all of them."""

    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(handlers))


def _streams(streams: Streams) -> list[Route]:
    return [Route("/events", streams.inbox), Route(f"{_TICKET}/events", streams.ticket)]


async def _healthy(request: Request) -> Response:
    del request
    return JSONResponse({"status": "ok"})
