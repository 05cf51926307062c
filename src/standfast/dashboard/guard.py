"""What every request must pass: our own host, no other site's form, a session; and the headers of every answer."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from standfast.dashboard.problems import Problems, wants_problem
from standfast.dashboard.sessions import Sessions
from standfast.errors import StandfastError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

SESSION_COOKIE = "standfast-session-"
"""How the names of all our cookies begin."""
SAFE = frozenset({"GET", "HEAD"})
"""Methods that change nothing."""

_STATIC = "/static/"
_OPEN = frozenset({"/healthz", "/login"})


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie at the dashboard that was asked."""
    return session_cookie(_port(request.scope))


def session_cookie(port: int) -> str:
    """Return the name of the cookie of a dashboard; browsers keep cookies apart by host but not by port."""
    return f"{SESSION_COOKIE}{port}"


class Guard:
    """Lets through what may pass, with its session in `request.state.session`."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions, problems: Problems) -> None:
        self._app = app
        self._sessions = sessions
        self._problems = problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        static = request.url.path.startswith(_STATIC)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update({**HEADERS, **({"Cache-Control": "no-cache"} if static else {})})
            await send(message)

        refused = await self._refused(request, static=static)
        await (refused or self._app)(scope, receive, send_with_headers)

    async def _refused(self, request: Request, *, static: bool) -> Response | None:
        request.state.session = None
        if not is_our_host(request):
            # A name of somebody else's that resolves to this machine: DNS rebinding.
            return self._problems.answer(request, 421, "wrong-host", _WRONG_HOST.format(_port(request.scope)))
        if request.method not in SAFE and not is_same_origin(request):
            return self._problems.answer(request, 403, "cross-site", _CROSS_SITE)
        if static or request.url.path == "/healthz":
            return None
        try:
            token = request.cookies.get(cookie_name(request), "")
            request.state.session = await self._sessions.find(token) if token else None
        except StandfastError as error:
            return await self._problems.ours(request, error)
        if request.state.session is not None or request.url.path in _OPEN:
            return None
        if wants_problem(request):
            return self._problems.answer(request, 401, "not-signed-in", "This needs the session of a signed-in person.")
        return RedirectResponse("/login", status_code=303)


_WRONG_HOST = "The dashboard answers to http://127.0.0.1:{0} and http://localhost:{0} only. Open it there."
_CROSS_SITE = (
    "The request came from a page of another site, so it was not carried out. If it was you, open the ticket "
    "in the dashboard itself and do it there."
)


def is_our_host(request: Request) -> bool:
    """Tell whether the request names this server by a loopback address and its own port."""
    host = _parts("//" + request.headers.get("host", ""))
    return host is not None and host[0] in LOOPBACK and (host[1] or 80) == _port(request.scope)


def is_same_origin(request: Request) -> bool:
    """Tell whether no page of another site sent the request."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        # Set by the browser, out of a page's reach. "none" is the person: an address typed, a bookmark.
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    if origin is None:
        return True  # no browser; programs that send neither carry no cookie that they were not given
    return origin.startswith("http://") and _parts(origin) == _parts("//" + request.headers["host"])


def _parts(address: str) -> tuple[str | None, int | None] | None:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    return (parts.hostname, port) if not parts.username and not parts.path else None


def _port(scope: Scope) -> int:
    server = scope.get("server")
    return int(server[1]) if server and server[1] else 0
