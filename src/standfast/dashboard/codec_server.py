"""The codec server: decrypts payloads for Temporal's UI and command line, and shows that UI to signed-in people.

Temporal's UI asks the codec server from within the browser, and sends neither cookies nor tokens to another address
unless its own server is configured to. So this server shows the UI at its own address, where the dashboard's session
is at hand, and passes the rest on to the UI's server. Nothing is encrypted here: what a workflow accepts is written by
a client that knows the workflow.
"""

import asyncio
import secrets

import httpx2
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection
from temporalio.api.common.v1 import Payloads
from temporalio.converter import ExternalStorage, PayloadCodec

from standfast.codec.converter import payload_codec
from standfast.codec.encryption import binding, is_encrypted
from standfast.dashboard.identity import refusal, required
from standfast.dashboard.origin import SAFE, Cookie, OwnAddress
from standfast.dashboard.problems import problem, status_of
from standfast.dashboard.server import refuse_other_hosts, run_app
from standfast.dashboard.sessions import Sessions
from standfast.dashboard.temporal_ui import METHODS, TemporalUi
from standfast.errors import InvalidInput, NotPermitted, StandfastError
from standfast.scope import Scope
from standfast.settings import Settings
from standfast.storage.external import external_storage, retrieved
from standfast.store.databases import Databases
from standfast.web_address import origin

PREFIX = "/codec"
_DECODING = (f"{PREFIX}/decode", f"{PREFIX}/download")  # the latter of a large payload, on demand
_MAX_BODY = 64 * 1024 * 1024  # a payload of external storage in base64
_ASKED_FOR = ["authorization", "content-type", "x-namespace"]


def build_codec_server(
    settings: Settings, databases: Databases, storage: ExternalStorage, client: httpx2.AsyncClient
) -> Starlette:
    """Return the application; `client` is for the UI's server.

    Raises:
        InvalidInput: encryption is on, and there is no key.
    """
    shown = settings.codec_server.ui
    decoder = Decoder(payload_codec(settings), storage)
    routes = [
        Route("/healthz", _healthy),
        *(Route(path, decoder.decode, methods=["POST"]) for path in _DECODING),
    ]
    if shown is not None:
        routes.append(Route("/{path:path}", TemporalUi(shown, client).answer, methods=METHODS))
    app = Starlette(
        routes=routes,
        middleware=[
            # A UI of one's own at another address may ask, from the pages of that address.
            Middleware(
                CORSMiddleware,
                allow_origins=[ui] if (ui := _origin(settings.temporal.ui)) else [],
                allow_methods=["POST"],
                allow_headers=_ASKED_FOR,
                allow_credentials=True,
            ),
            Middleware(Admission, settings=settings, sessions=Sessions(databases)),
            Middleware(RequestBodyLimitMiddleware, max_body_size=_MAX_BODY),
        ],
        exception_handlers={StandfastError: _ours},
    )
    app.state.closing = asyncio.Event()
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InvalidInput: there is no key, `codec_server.host` is not a loopback address, or the port is taken.
    """
    refuse_other_hosts(settings.codec_server.host, "codec_server")
    async with (
        Databases(settings, application="standfast-codec-server") as databases,
        external_storage(settings, databases) as storage,
        httpx2.AsyncClient(timeout=None, trust_env=False) as client,  # the browser decides how long it waits
    ):
        app = build_codec_server(settings, databases, storage, client)
        await run_app(app, settings.codec_server.host, settings.codec_server.port, section="codec_server")


class Admission:
    """Lets in programs with the token, to read payloads alone, and people with a session; no other site's page."""

    def __init__(self, app: ASGIApp, *, settings: Settings, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions
        self._own = OwnAddress()
        self._cookie = Cookie(OwnAddress(settings.dashboard.url)).named(settings.dashboard.port)
        self._dashboard = settings.dashboard
        self._token = settings.codec_server.token
        self._ui = _origin(settings.temporal.ui)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = await self._refused(Request(scope))
        await (refused or self._app)(scope, receive, send)

    async def _refused(self, request: Request) -> Response | None:
        if not self._own.is_host(request):  # a name of somebody else's that resolves to this machine: DNS rebinding
            return problem(421, "wrong-host", "The codec server answers to its loopback addresses only.")
        if request.scope["path"] == "/healthz" or (_decodes(request) and self._has_token(request.headers)):
            return None
        if request.method not in SAFE and not self._is_of_the_ui(request):
            return problem(403, "cross-site", "The request came from a page of another site, and was not carried out.")
        try:
            token = request.cookies.get(self._cookie, "")
            session = await self._sessions.find(token, self._dashboard.session_modes) if token else None
        except StandfastError as error:
            return problem(status_of(error), error.code, str(error))
        if session is not None:
            scope = _required(request)
            return None if scope in session.scopes else problem(403, "scope-missing", refusal(session, scope))
        if "text/html" in request.headers.get("accept", ""):
            login = self._dashboard.url or origin(str(request.url.hostname), self._dashboard.port)
            return RedirectResponse(f"{login}/", status_code=303)
        return problem(
            401,
            "not-signed-in",
            "This needs the session of a signed-in person; to read payloads, the codec server's token will do.",
        )

    def _has_token(self, headers: Headers) -> bool:
        if self._token is None:
            return False
        expected = f"Bearer {self._token.get_secret_value()}".encode()
        return secrets.compare_digest(headers.get("authorization", "").encode(), expected)

    def _is_of_the_ui(self, request: Request) -> bool:
        return self._own.is_origin(request) or (self._ui is not None and request.headers.get("origin") == self._ui)


class Decoder:
    """Answers POST /codec/decode, in Temporal's protocol of remote codecs: `Payloads` as JSON, in and out.

    Large payloads come out of the storage, unless the UI asks to leave them there for the moment.
    """

    def __init__(self, codec: PayloadCodec | None, storage: ExternalStorage) -> None:
        self._codec = codec
        self._storage = storage

    async def decode(self, request: Request) -> Response:
        """Return the payloads decrypted.

        Raises:
            InvalidInput: the body is not what Temporal sends.
            NotPermitted: a payload is of another namespace than the asker says, or its key is missing.
            PayloadRefused: a payload was changed.
            PayloadLost: a large payload is not in the storage any more, or was changed there.
        """
        try:
            claims = Parse(await request.body(), Payloads(), ignore_unknown_fields=True).payloads
        except (ParseError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the body is no JSON of temporal.api.common.v1.Payloads: {error}") from None
        preserved = request.query_params.get("preserveStorageRefs") == "true"
        asked = list(claims) if preserved else await retrieved(self._storage, claims)
        namespace = request.headers.get("x-namespace", "")
        for whose in map(binding, filter(is_encrypted, asked)):
            if whose.namespace not in {namespace, ""}:
                raise NotPermitted(f"a payload is of namespace {whose.namespace!r}; X-Namespace says {namespace!r}")
        decoded = asked if self._codec is None else await self._codec.decode(asked)
        return Response(MessageToJson(Payloads(payloads=decoded)), media_type="application/json")


def _decodes(request: Request) -> bool:
    """Tell whether it is answered here: by the whole path, as one that begins like ours can lead to Temporal's UI."""
    return request.method == "POST" and request.scope["path"] in _DECODING


def _required(request: Request) -> Scope:
    """Return the scope that a request takes: Temporal's UI can end workflows, and so tickets."""
    return Scope.VIEW if _decodes(request) else required(request)


async def _healthy(request: Request) -> Response:
    del request
    return JSONResponse({"status": "ok"})


async def _ours(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, StandfastError):
        raise error
    return problem(status_of(error), error.code, str(error))


def _origin(address: str | None) -> str | None:
    """Return the origin of a UI's address, as browsers send it."""
    if address is None:
        return None
    url = httpx2.URL(address)
    return f"{url.scheme}://{url.netloc.decode()}"
