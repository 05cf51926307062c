"""Where a request was sent to and from which page: our own name, our own origin, and our own cookies."""

from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from standfast.web_address import LOOPBACK

SAFE = frozenset({"GET", "HEAD"})
"""Methods that change nothing."""

_COOKIE = "standfast-session-"
_PATH = "/"
_ONLY_THIS_HOST = "__Host-"  # browsers take such a cookie over https only, from no other host and for no narrower path
_PORTS = {"http": 80, "https": 443}


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


class OwnAddress:
    """The address of a server of ours: a URL of its own, or every loopback name with the port that it listens on."""

    def __init__(self, url: str | None = None) -> None:
        self._origin = _parsed(url) if url else None
        self._url = url

    @property
    def secure(self) -> bool:
        """Whether people reach it over https."""
        return self._origin is not None and self._origin.scheme == "https"

    def is_host(self, request: Request) -> bool:
        """Tell whether the request names this server. A name of somebody else's that leads here is DNS rebinding."""
        scheme = self._origin.scheme if self._origin else "http"
        host = _parsed(f"{scheme}://{request.headers.get('host', '')}")
        if self._origin is not None:
            return host == self._origin
        return host is not None and host.host in LOOPBACK and host.port == _port(request)

    def is_origin(self, request: Request) -> bool:
        """Tell whether no page of another site sent the request."""
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            # Set by the browser, out of a page's reach. "none" is the person: an address typed, a bookmark.
            return site in {"same-origin", "none"}
        origin = request.headers.get("origin")
        if origin is None:
            return True  # no browser; programs that send neither carry no cookie that they were not given
        return _parsed(origin) == (self._origin or _parsed(f"http://{request.headers['host']}"))

    def shown(self, request: Request) -> str:
        """Return the address, for messages."""
        port = _port(request)
        return self._url or f"http://127.0.0.1:{port} and http://localhost:{port}"


class Cookie:
    """One cookie of ours: kept apart from those of other servers on this host, and out of the reach of scripts."""

    def __init__(self, own: OwnAddress, holds: str = "") -> None:
        """Take what it `holds`, for its name; by default that is a session."""
        self._own = own
        self._holds = holds

    def value(self, request: Request) -> str:
        """Return what the browser sent, empty if nothing."""
        return request.cookies.get(self.name(request), "")

    def put(self, request: Request, response: Response, value: str, *, seconds: int) -> None:
        """Let the browser keep a value."""
        response.set_cookie(
            self.name(request),
            value,
            max_age=seconds,
            path=_PATH,
            httponly=True,
            samesite="lax",
            secure=self._own.secure,
        )

    def remove(self, request: Request, response: Response) -> None:
        """Let the browser forget the value."""
        response.delete_cookie(self.name(request), path=_PATH, httponly=True, samesite="lax", secure=self._own.secure)

    def name(self, request: Request) -> str:
        """Return its name at the server that was asked."""
        return self.named(_port(request))

    def named(self, port: int) -> str:
        """Return its name at a server that listens on `port`: browsers keep cookies apart by host but not by port."""
        prefix = _ONLY_THIS_HOST if self._own.secure else ""
        return f"{prefix}{_COOKIE}{self._holds}{port}"


def is_ours(cookie: str) -> bool:
    """Tell by its name whether a cookie is one of ours."""
    return cookie.removeprefix(_ONLY_THIS_HOST).startswith(_COOKIE)


def _parsed(address: str) -> _Origin | None:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    if "@" in parts.netloc or parts.path or parts.query or parts.fragment or not parts.hostname:
        return None
    return _Origin(parts.scheme, parts.hostname, port or _PORTS.get(parts.scheme, 0))


def _port(request: Request) -> int:
    server = request.scope.get("server")
    return int(server[1]) if server and server[1] else 0
