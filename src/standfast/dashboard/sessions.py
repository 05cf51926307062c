"""Who is signed in: sessions and one-time login links in the control database, which holds hashes only."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from standfast import audit
from standfast.dashboard.access import in_order, record, record_refusal
from standfast.decision import Mode
from standfast.domain import Record
from standfast.errors import InvalidInput, NotPermitted
from standfast.scope import Scope
from standfast.store.connections import Connection
from standfast.store.databases import Databases
from standfast.store.sql import statements
from standfast.system_user import system_user

SESSION_LASTS = timedelta(hours=12)
LINK_LASTS = timedelta(hours=1)
TOKEN_BYTES = 32

_SQL = statements(__package__, "sessions.sql")


class LinkRefused(NotPermitted):
    """A login link that was used before, has expired or was never given out."""

    code = "link-refused"


@dataclass(frozen=True, kw_only=True)
class Session:
    """Who asks: a signed-in person, or the person in whose name a program's token is."""

    user: str
    mode: Mode
    scopes: frozenset[Scope]
    groups: tuple[str, ...] = ()
    """Of the person, as the provider or the proxy named them."""


class SessionRow(Record):
    """What is known about an open session."""

    number: int
    user: str
    mode: Mode
    scopes: tuple[Scope, ...]
    groups: tuple[str, ...]
    created_at: datetime
    expires_at: datetime


class Sessions:
    """Opens, finds and ends sessions. A token is 256 random bits; who reads the database can't sign in."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def redeem(self, link_token: str, session: Session, *, instead_of: str = "") -> str:
        """Use up a login link and return the token of a new session; that of `instead_of` ends, if the browser had one.

        Raises:
            LinkRefused: the link was used before, has expired or was never given out.
            ServiceUnavailable: the control database can't be reached; the link stays good.
        """
        link = {"hash": token_hash(link_token)}
        async with self._databases.control() as connection:
            if await (await connection.execute(_SQL["use_link"], link)).fetchone() is not None:
                await _sign_out(connection, instead_of)
                return await _open(connection, session, by="link")
            known = await (await connection.execute(_SQL["used_at"], link)).fetchone()
        reason, advice = _why_refused(known)
        await record_refusal(self._databases, actor=audit.SYSTEM, by="link", reason=reason)
        raise LinkRefused(advice)

    async def open(self, session: Session, *, by: str, instead_of: str = "") -> str:
        """Return the token of a new session; `by` says what vouches for its person. That of `instead_of` ends.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            await _sign_out(connection, instead_of)
            return await _open(connection, session, by=by)

    async def find(self, token: str, modes: Collection[Mode]) -> Session | None:
        """Return the session of a token, None if it has ended or isn't of these modes.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            wanted = {"hash": token_hash(token), "modes": list(modes)}
            row = await (await connection.execute(_SQL["find"], wanted)).fetchone()
        if row is None:
            return None
        scopes, groups = frozenset(map(Scope, row["scopes"])), tuple(row["groups"])
        return Session(user=row["user_name"], mode=Mode(row["mode"]), scopes=scopes, groups=groups)

    async def sign_out(self, token: str) -> None:
        """End a session at once, everywhere.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            await _sign_out(connection, token)

    async def list(self) -> list[SessionRow]:
        """Return the open sessions, the newest first.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            rows = await (await connection.execute(_SQL["list"])).fetchall()
        return [SessionRow.model_validate(row) for row in rows]

    async def revoke(self, numbers: Collection[int], *, by: str) -> None:
        """End others' sessions at once, everywhere.

        Raises:
            InvalidInput: one of them isn't open; none was ended.
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            rows = await (await connection.execute(_SQL["revoke"], {"numbers": list(numbers)})).fetchall()
            unknown = set(numbers) - {row["session_id"] for row in rows}
            if unknown:
                shown = ", ".join(map(str, sorted(unknown)))
                raise InvalidInput(f"no open session has the number {shown}; `standfast sessions list` shows them all")
            for row in rows:
                about, user = f"sessions/{row['session_id']}", row["user_name"]
                await record(connection, audit.Kind.SESSION_REVOKED, about=about, actor=by, user=user)


async def new_login_link(databases: Databases, base_url: str) -> str:
    """Return a link that signs its first user in, within an hour.

    Raises:
        ServiceUnavailable: the control database can't be reached.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    async with databases.control() as connection:
        await connection.execute(_SQL["add_link"], {"hash": token_hash(token), "lasts": LINK_LASTS})
    return f"{base_url.rstrip('/')}/login?token={token}"


def local_session() -> Session:
    """Return the session of a loopback set-up: the operating system's user, requester and approver in one."""
    return Session(user=system_user(), mode=Mode.SOLO, scopes=frozenset(Scope))


def token_hash(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).digest()


async def _open(connection: Connection, session: Session, *, by: str) -> str:
    """Open a session, or don't if it can't be put on record."""
    token, scopes = secrets.token_urlsafe(TOKEN_BYTES), in_order(session.scopes)
    row = {
        "hash": token_hash(token),
        "user_name": session.user,
        "mode": session.mode,
        "scopes": scopes,
        "groups": list(session.groups),
        "lasts": SESSION_LASTS,
    }
    opened = await (await connection.execute(_SQL["open"], row)).fetchone()
    assert opened is not None
    about = f"sessions/{opened['session_id']}"
    await record(connection, audit.Kind.SIGN_IN, about=about, actor=session.user, by=by, scopes=scopes)
    return token


async def _sign_out(connection: Connection, token: str) -> None:
    """End the session of a token, if it has one."""
    row = await (await connection.execute(_SQL["sign_out"], {"hash": token_hash(token)})).fetchone()
    if row is not None:
        about = f"sessions/{row['session_id']}"
        await record(connection, audit.Kind.SIGN_OUT, about=about, actor=row["user_name"])


def _why_refused(known: dict[str, object] | None) -> tuple[str, str]:
    """Return what goes on record, and what the person is told."""
    if known is None:
        return "unknown link", "This login link was never given out. Copy it as a whole, up to its last character."
    if known["used_at"] is None:
        return "expired link", "This login link has expired; links are good for an hour."
    at = f"{known['used_at']:%H:%M:%S}"
    return "used link", f"This login link was used before, at {at} UTC; each link works once."
