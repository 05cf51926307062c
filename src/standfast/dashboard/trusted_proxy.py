"""People whom a proxy in front of the dashboard has signed in, and names in a header."""

import logging
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.requests import Request
from starlette.responses import Response

from standfast import audit
from standfast.dashboard.access import in_order, record, record_refusal
from standfast.dashboard.identity import SignInRefused, admitted
from standfast.dashboard.rendering import Renderer
from standfast.dashboard.sessions import Session
from standfast.decision import Mode
from standfast.domain import digest
from standfast.errors import NotPermitted
from standfast.sign_in import TrustedProxy
from standfast.store.databases import Databases

logger = logging.getLogger("standfast.dashboard")


class Proxied:
    """Believes the header of the proxy, told by the address that it connects from, and of nobody else."""

    def __init__(self, settings: TrustedProxy, databases: Databases) -> None:
        self._settings = settings
        self._databases = databases
        self._day = ""
        self._recorded: set[str] = set()  # of that day

    async def of(self, request: Request) -> Session | None:
        """See `standfast.dashboard.identity.People`."""
        header = self._settings.user_header
        if header not in request.headers:
            return None
        peer = request.client.host if request.client else "nowhere"
        if not self._is_trusted(peer):
            logger.warning("refused: %s, which is not the trusted proxy, sent the header %s", peer, header)
            raise NotPermitted(f"the header {header} was not sent by the trusted proxy; open the dashboard through it")
        try:
            session = admitted(_value(request, header), self._groups(request), self._settings.groups, Mode.PROXY)
        except SignInRefused as error:
            actor = error.user or audit.SYSTEM
            await record_refusal(self._databases, actor=actor, by="proxy", reason=error.reason)
            raise
        await self._record(session)
        return session

    def _is_trusted(self, peer: str) -> bool:
        try:
            address: IPv4Address | IPv6Address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:  # of a socket that serves both
            address = address.ipv4_mapped
        return any(address in network for network in self._settings.addresses)

    def _groups(self, request: Request) -> list[str]:
        header = self._settings.groups_header
        return [] if header is None else [group.strip() for group in _value(request, header).split(",")]

    async def _record(self, session: Session) -> None:
        """Put on record that a person was let in, once a day: there is no session that would begin."""
        scopes, day = in_order(session.scopes), f"{datetime.now(UTC):%Y-%m-%d}"
        if day != self._day:
            self._day, self._recorded = day, set()
        once = digest({"user": session.user, "scopes": scopes, "day": day})
        if once in self._recorded:  # he has just asked for another page
            return
        kind, key = audit.Kind.SIGN_IN, f"{audit.Kind.SIGN_IN}/{once}"
        async with self._databases.control(autocommit=True) as connection:
            await record(connection, kind, about="sessions", actor=session.user, key=key, by="proxy", scopes=scopes)
        self._recorded.add(once)


class ProxyLogin:
    """What is shown to whom the proxy has named nobody."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    async def ask(self, request: Request) -> Response:
        """Say how to sign in."""
        return self._renderer.page(request, "login_proxy.html")


def _value(request: Request, header: str) -> str:
    """Return what a header says, nothing if it is missing.

    Raises:
        NotPermitted: it came more than once, so that one of them may be the browser's own.
    """
    values = request.headers.getlist(header)
    if len(values) > 1:
        raise NotPermitted(f"the header {header} came more than once; let the proxy replace what a browser sends")
    return "".join(values).encode("latin-1").decode("utf-8", errors="replace")
