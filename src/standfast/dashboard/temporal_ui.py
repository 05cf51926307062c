"""Temporal's own web UI, passed on from the server that has it."""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

import httpx2
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from standfast.dashboard.origin import is_ours
from standfast.errors import InvalidInput, ServiceUnavailable

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

# Of one connection (RFC 9110, 7.6.1), or of our own.
_NOT_PASSED_ON = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host", "cookie"}
)
_OUR_HEADERS = ((b"content-security-policy", b"frame-ancestors 'none'"), (b"referrer-policy", b"same-origin"))

_DOTS = frozenset({b".", b".."})

_Fields = Sequence[tuple[bytes, bytes]]


class TemporalUi:
    """Passes requests on, without the session of the person who sent them."""

    def __init__(self, address: str, client: httpx2.AsyncClient) -> None:
        self._address = httpx2.URL(address)
        self._client = client

    async def answer(self, request: Request) -> Response:
        """Return the UI's answer.

        Raises:
            InvalidInput: the path has a segment of dots.
            ServiceUnavailable: nothing answers at its address.
        """
        path, query = request.scope["raw_path"], request.scope["query_string"]
        if _has_dots(path):
            raise InvalidInput("the path has a segment `.` or `..`; send the path to which it leads")
        asked = self._client.build_request(
            request.method,
            self._address.copy_with(raw_path=path + (b"?" + query if query else b"")),
            headers=[*_passed_on(request.headers.raw), (b"cookie", _cookies(request))],
            content=await request.body(),
        )
        try:
            answer = await self._client.send(asked, stream=True)
        except httpx2.TransportError as error:
            raise ServiceUnavailable(f"Temporal's UI at {self._address} can't be reached: {error}") from error
        response = StreamingResponse(
            answer.aiter_raw(), status_code=answer.status_code, background=BackgroundTask(answer.aclose)
        )
        response.raw_headers = [*_passed_on(answer.headers.raw), *_OUR_HEADERS]
        return response


def _has_dots(path: bytes) -> bool:
    """Tell whether somebody on the way could make another path of it than the one that was asked for and permitted."""
    plain = unquote_to_bytes(unquote_to_bytes(path))  # twice: a proxy before the UI may decode it, too
    return not _DOTS.isdisjoint(re.split(rb"[/\\]", plain))


def _passed_on(fields: Iterable[tuple[bytes, bytes]]) -> _Fields:
    lowered = ((name.lower(), value) for name, value in fields)
    return [(name, value) for name, value in lowered if name.decode("latin-1") not in _NOT_PASSED_ON]


def _cookies(request: Request) -> bytes:
    own = (f"{name}={value}" for name, value in request.cookies.items() if not is_ours(name))
    return "; ".join(own).encode("latin-1")
