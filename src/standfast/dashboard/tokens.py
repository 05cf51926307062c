"""API tokens: what a program may do, and in whose name. The control database holds their hashes only."""

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator

from standfast import audit
from standfast.dashboard.access import in_order, record, record_refusal
from standfast.dashboard.identity import person_name
from standfast.dashboard.sessions import TOKEN_BYTES, Session, token_hash
from standfast.decision import Mode
from standfast.documents import validate
from standfast.domain import Record, Submission
from standfast.errors import InvalidInput, NotPermitted
from standfast.scope import Scope
from standfast.store.databases import Databases
from standfast.store.sql import statements
from standfast.ticket import Identifier, Text

PREFIX = "standfast_"
"""How every token begins, so that people and scanners of source code know one when they see it."""
_SQL = statements(__package__, "tokens.sql")


class TokenRefused(NotPermitted):
    """A token that was never given out, has expired or was revoked."""

    code = "token-refused"


class NewToken(Submission):
    """What is chosen of a token."""

    name: Identifier
    """Never used before, also by a token that was revoked."""
    user: Annotated[Text, AfterValidator(person_name)]
    """In whose name the program acts; whoever creates the token vouches for it."""
    scopes: frozenset[Scope]


class TokenRow(Record):
    """What is known about a token."""

    name: str
    user: str
    scopes: tuple[Scope, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    """Within a minute; None if it never was."""
    revoked_at: datetime | None


class Tokens:
    """Creates, finds and revokes tokens."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def create(
        self, name: str, *, user: str, scopes: Collection[str], lasts: timedelta | None, created_by: str
    ) -> str:
        """Return a new token, which nobody can find out later; it goes on the audit chain.

        Raises:
            InvalidInput: a value is wrong, or the name is taken.
            ServiceUnavailable: the control database can't be reached.
        """
        chosen = {"name": name, "user": user, "scopes": list(scopes)}
        new = validate(NewToken, chosen, source="the token", line=None, text="")
        if not new.scopes:
            raise InvalidInput(f"token {name!r} has no scope; expected at least one of: {', '.join(Scope)}")
        token, granted = PREFIX + secrets.token_urlsafe(TOKEN_BYTES), in_order(new.scopes)
        row = {
            "name": new.name,
            "hash": token_hash(token),
            "user_name": new.user,
            "scopes": granted,
            "created_by": created_by,
            "lasts": lasts,
        }
        async with self._databases.control() as connection:
            created = await (await connection.execute(_SQL["create"], row)).fetchone()
            if created is None:
                raise InvalidInput(f"a token named {name!r} exists or existed; choose another name")
            expires = {"expires_at": created["expires_at"] and created["expires_at"].isoformat()}
            kind, about = audit.Kind.TOKEN_CREATED, f"tokens/{new.name}"
            await record(connection, kind, about=about, actor=created_by, user=new.user, scopes=granted, **expires)
        return token

    async def list(self) -> list[TokenRow]:
        """Return all tokens, by name.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            rows = await (await connection.execute(_SQL["list"])).fetchall()
        return [TokenRow.model_validate(row) for row in rows]

    async def revoke(self, name: str, *, by: str) -> None:
        """End a token at once, everywhere; it goes on the audit chain.

        Raises:
            InvalidInput: there is none of this name that could be revoked.
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control() as connection:
            revoked = await (await connection.execute(_SQL["revoke"], {"name": name})).fetchone()
            if revoked is None:
                raise InvalidInput(f"no token named {name!r} is in use; `standfast tokens list` shows them all")
            about, user = f"tokens/{name}", revoked["user_name"]
            await record(connection, audit.Kind.TOKEN_REVOKED, about=about, actor=by, user=user)

    async def find(self, token: str) -> Session:
        """Return who acts with a token, and what he may do; notes, once a minute, that it is in use.

        Raises:
            TokenRefused: it was never given out, has expired or was revoked.
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._databases.control(autocommit=True) as connection:
            row = await (await connection.execute(_SQL["find"], {"hash": token_hash(token)})).fetchone()
        if row is None:
            raise TokenRefused("this token was never given out; copy it as a whole, up to its last character")
        if row["wrong"]:
            reason = f"the token {row['name']} {row['wrong']}"
            await record_refusal(self._databases, actor=row["user_name"], by="token", reason=reason)
            raise TokenRefused(f"{reason}; `standfast tokens create` makes another one")
        return Session(user=row["user_name"], mode=Mode.TOKEN, scopes=frozenset(map(Scope, row["scopes"])))
