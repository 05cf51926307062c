"""Who asks, and what he may do: a program by its token, a person by a session or by the word of a trusted proxy."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from starlette.requests import Request

from standfast.characters import is_hidden
from standfast.dashboard.origin import SAFE, Cookie
from standfast.dashboard.sessions import Session, Sessions
from standfast.decision import Mode
from standfast.errors import NotPermitted
from standfast.scope import Scope

EVERYBODY = "*"
"""A group that everybody is in who is signed in."""
_LONGEST_NAME = 320
_SUBMISSION = ("POST", "/api/tickets")
_TO: Mapping[Scope, str] = {
    Scope.VIEW: "look at tickets",
    Scope.SUBMIT: "submit tickets",
    Scope.DECIDE: "decide on tickets",
}


class SignInRefused(NotPermitted):
    """A person who is not let in; `reason` is what goes on record."""

    code = "sign-in-refused"

    def __init__(self, message: str, *, reason: str, user: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.user = user


class People(Protocol):
    """Knows the person behind a request."""

    async def of(self, request: Request) -> Session | None:
        """Return who asks, None if nobody says.

        Raises:
            NotPermitted: somebody who is not let in.
            ServiceUnavailable: the control database can't be reached.
        """


class SignedIn:
    """People with a session of the dashboard, in the browser's cookie."""

    def __init__(self, sessions: Sessions, cookie: Cookie, modes: Collection[Mode]) -> None:
        """Take the `modes` of the sessions that count: those of a way in that was switched off don't."""
        self._sessions = sessions
        self._cookie = cookie
        self._modes = modes

    async def of(self, request: Request) -> Session | None:
        """See `People`."""
        token = self._cookie.value(request)
        return await self._sessions.find(token, self._modes) if token else None


def bearer(request: Request) -> str | None:
    """Return the token that a program has sent to the API, None if it has sent none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if request.scope["path"].startswith("/api/") and scheme.lower() == "bearer" else None


def required(request: Request) -> Scope:
    """Return the scope that a request takes: whatever changes something and is no submission counts as a decision."""
    if request.method in SAFE:
        return Scope.VIEW
    return Scope.SUBMIT if (request.method, request.scope["path"]) == _SUBMISSION else Scope.DECIDE


def refusal(session: Session, scope: Scope) -> str:
    """Return why somebody without `scope` may not, and what to do."""
    if session.mode is Mode.TOKEN:
        return f"this token may not {_TO[scope]}; that takes one with the scope {scope}"
    return f"{session.user} may not {_TO[scope]} here; that takes the scope {scope}, which an administrator can give"


def person_name(text: str) -> str:
    """Return the name under which a person goes on record.

    Raises:
        ValueError: it is empty, too long, or has characters that can't be seen.
    """
    name = text.strip()
    if not name or len(name) > _LONGEST_NAME or any(map(is_hidden, name)):
        msg = f"expected 1 to {_LONGEST_NAME} characters, all of which can be seen"
        raise ValueError(msg)
    return name


def admitted(user: str, groups: Sequence[str], table: Mapping[str, Iterable[Scope]], mode: Mode) -> Session:
    """Return who a person is and may do, by the groups that he is in.

    Raises:
        SignInRefused: he has no name that could go on record, or is in none of the groups.
    """
    try:
        name = person_name(user)
    except ValueError as error:
        raise SignInRefused(f"You can't be let in under this name: {error}.", reason="no name") from None
    known = [group for group in (*groups, EVERYBODY) if group in table]
    scopes = frozenset(scope for group in known for scope in table[group])
    if not scopes:
        raise SignInRefused(
            f"{name} is in no group that may use this dashboard. Ask an administrator for one of: "
            f"{', '.join(sorted(table))}.",
            reason="no known group",
            user=name,
        )
    return Session(user=name, mode=mode, scopes=scopes, groups=tuple(g for g in known if g != EVERYBODY))
