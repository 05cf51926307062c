"""Who is signed in: sessions and one-time login links in the control database, which holds hashes only."""

import hashlib
import os
import pwd
import secrets
from dataclasses import dataclass
from datetime import timedelta

from standfast.decision import Mode
from standfast.errors import NotPermitted
from standfast.store.connections import Databases
from standfast.store.sql import statements

SESSION_LASTS = timedelta(hours=12)
LINK_LASTS = timedelta(hours=1)

_TOKEN_BYTES = 32
_SQL = statements(__package__, "sessions.sql")


class LinkRefused(NotPermitted):
    """A login link that was used before, has expired or was never given out."""

    code = "link-refused"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A signed-in person."""

    user: str
    mode: Mode


class Sessions:
    """Opens, finds and ends sessions. A token is 256 random bits; who reads the database can't sign in."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def redeem(self, link_token: str, session: Session) -> str:
        """Use up a login link and return the token of a new session.

        Raises:
            LinkRefused: the link was used before, has expired or was never given out.
            ServiceUnavailable: the control database can't be reached; the link stays good.
        """
        link, token = {"hash": _hash(link_token)}, secrets.token_urlsafe(_TOKEN_BYTES)
        async with self._databases.control() as connection:
            if await (await connection.execute(_SQL["use_link"], link)).fetchone() is None:
                known = await (await connection.execute(_SQL["used_at"], link)).fetchone()
                raise LinkRefused(_why_refused(known))
            opened = {"hash": _hash(token), "user_name": session.user, "mode": session.mode, "lasts": SESSION_LASTS}
            await connection.execute(_SQL["open"], opened)
        return token

    async def find(self, token: str) -> Session | None:
        """Return the session of a token, None if it has ended.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            row = await (await connection.execute(_SQL["find"], {"hash": _hash(token)})).fetchone()
        return Session(user=row["user_name"], mode=Mode(row["mode"])) if row else None

    async def revoke(self, token: str) -> None:
        """End a session at once, everywhere.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            await connection.execute(_SQL["revoke"], {"hash": _hash(token)})


async def new_login_link(databases: Databases, base_url: str) -> str:
    """Return a link that signs its first user in, within an hour.

    Raises:
        ServiceUnavailable: the control database can't be reached.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    async with databases.control() as connection:
        await connection.execute(_SQL["add_link"], {"hash": _hash(token), "lasts": LINK_LASTS})
    return f"{base_url.rstrip('/')}/login?token={token}"


def local_session() -> Session:
    """Return the session of a loopback set-up: the operating system's user, requester and approver in one."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may run under a number that has no name
        name = f"uid-{uid}"
    return Session(user=name, mode=Mode.SOLO)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).digest()


def _why_refused(known: dict[str, object] | None) -> str:
    if known is None:
        return "This login link was never given out. Copy it as a whole, up to its last character."
    if known["used_at"] is None:
        return "This login link has expired; links are good for an hour."
    return f"This login link was used before, at {known['used_at']:%H:%M:%S} UTC; each link works once."
