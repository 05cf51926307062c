"""What every request must pass: our own host, no other site's form, somebody who may; and every answer's headers."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from standfast.dashboard.destination import Destination
from standfast.dashboard.identity import People, bearer, refusal, required
from standfast.dashboard.origin import SAFE, OwnAddress
from standfast.dashboard.problems import Problems, wants_problem
from standfast.dashboard.tokens import TokenRefused, Tokens
from standfast.errors import StandfastError

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_HEALTH = "/healthz"  # nothing that anybody could not know, and monitors ask by all kinds of names
_STATIC = "/static/"
# Whole paths: the page of one that isn't there shows it, and would show strangers' words to who hasn't signed in.
_WAYS_IN_AND_OUT = frozenset({"/login", "/login/oidc/", "/login/oidc/callback", "/logout"})
_CHALLENGE = "WWW-Authenticate"


class Guard:
    """Lets through what may pass, with who asks in `request.state.session`."""

    def __init__(self, app: ASGIApp, *, own: OwnAddress, people: People, tokens: Tokens, problems: Problems) -> None:
        self._app = app
        self._own = own
        self._destination = Destination(own)
        self._people = people
        self._tokens = tokens
        self._problems = problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        static = request.scope["path"].startswith(_STATIC)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update({**HEADERS, **({"Cache-Control": "no-cache"} if static else {})})
            await send(message)

        request.state.session = None
        refused = None if request.scope["path"] == _HEALTH else await self._refused(request, static=static)
        await (refused or self._app)(scope, receive, send_with_headers)

    async def _refused(self, request: Request, *, static: bool) -> Response | None:
        if not self._own.is_host(request):
            return self._problems.answer(request, 421, "wrong-host", _WRONG_HOST.format(self._own.shown(request)))
        token = bearer(request)
        by_itself = token is None or "cookie" in request.headers  # a browser sends cookies, whoever asked it to
        if request.method not in SAFE and by_itself and not self._own.is_origin(request):
            return self._problems.answer(request, 403, "cross-site", _CROSS_SITE)
        if static:
            return None
        try:
            find = self._people.of(request) if token is None else self._tokens.find(token)
            request.state.session = await find
        except TokenRefused as error:
            return self._challenged(request, 401, error.code, str(error), 'error="invalid_token"')
        except StandfastError as error:
            return await self._problems.ours(request, error)
        return None if request.scope["path"] in _WAYS_IN_AND_OUT else self._not_permitted(request)

    def _not_permitted(self, request: Request) -> Response | None:
        session, scope = request.state.session, required(request)
        if session is None:
            if wants_problem(request):
                return self._challenged(request, 401, "not-signed-in", _NOT_SIGNED_IN)
            return self._destination.ask_first(request)
        if scope in session.scopes:
            return None
        challenge = f'error="insufficient_scope", scope="{scope}"'
        return self._challenged(request, 403, "scope-missing", refusal(session, scope), challenge, scope=scope.value)

    def _challenged(
        self, request: Request, status: int, code: str, message: str, challenge: str = "", **more: str
    ) -> Response:
        response = self._problems.answer(request, status, code, message, **more)
        if request.scope["path"].startswith("/api/"):  # where tokens are taken (RFC 6750)
            response.headers[_CHALLENGE] = f'Bearer realm="standfast"{", " if challenge else ""}{challenge}'
        return response


_WRONG_HOST = "The dashboard answers to {} only. Open it there."
_CROSS_SITE = (
    "The request came from a page of another site, so it was not carried out. If it was you, open the ticket "
    "in the dashboard itself and do it there."
)
_NOT_SIGNED_IN = "This needs the session of a signed-in person, or under /api/ a token: see `standfast tokens create`."
