"""The inbox: what waits for a decision, the most dangerous first, then the longest waiting; what runs and has ended."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from standfast.client import Standfast
from standfast.dashboard.rendering import Renderer
from standfast.dashboard.sessions import Session
from standfast.decision import may_decide_own, same_person
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.listing import ListedTicket, WaitingPage
from standfast.outcome import State
from standfast.safety.conflicts import on_the_same_rows
from standfast.settings import Settings
from standfast.store.databases import Databases

PAGE = 25
"""Tickets on a page; of those that don't wait, the newest are shown."""

_GROUPS = {
    "": (State.WAITING,),
    "running": tuple(state for state in State if not state.is_end and state is not State.WAITING),
    "ended": tuple(state for state in State if state.is_end),
}
_DIGITS = 15  # of a place
_OVERLAPS_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What the inbox is narrowed to, and from where on it is shown; empty means everything that waits."""

    state: str = ""
    """A state, `running` or `ended`."""
    target: str = ""
    requester: str = ""
    rule: str = ""
    after: int | None = None
    """The place of the last ticket of the page before..."""
    before: int | None = None
    """...or of the first one of the page behind."""

    @classmethod
    def of(cls, query: QueryParams) -> "Filter":
        """Return the filter of an address.

        Raises:
            InvalidInput: a value is none that we could have put there.
        """
        state = query.get("state", "")
        if state not in _GROUPS:
            state = parse_state(state).value
        return cls(
            state="" if state == State.WAITING else state,
            target=query.get("target", ""),
            requester=query.get("requester", "").strip(),
            rule=query.get("rule", "").strip(),
            after=_place("after", query.get("after")),
            before=_place("before", query.get("before")),
        )

    @property
    def states(self) -> tuple[State, ...]:
        """The states of the tickets that are listed."""
        return _GROUPS[self.state] if self.state in _GROUPS else (State(self.state),)

    @property
    def narrows(self) -> bool:
        """Whether anything is left out."""
        return bool(self.state or self.target or self.requester or self.rule)

    def address(self, **changes: str | int) -> str:
        """Return the address of this list with changes; from its beginning, unless they say otherwise."""
        known = vars(replace(self, after=None, before=None)) | changes
        query = urlencode({name: value for name, value in known.items() if value not in ("", None)})
        return f"/?{query}" if query else "/"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One page of the inbox."""

    waiting: WaitingPage
    """Without tickets if others are asked for."""
    others: tuple[ListedTicket, ...]

    @property
    def version(self) -> str:
        """Differs once something on the page has changed."""
        tickets = [
            [ticket.workflow_id, ticket.state, ticket.place, ticket.summary and ticket.summary.approvals]
            for ticket in (*self.waiting.tickets, *self.others)
        ]
        shown = [self.waiting.skipped, self.waiting.total, tickets]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Card:
    """A ticket that waits for a decision, as one person sees it."""

    ticket: ListedTicket
    overlaps: tuple[str, ...]
    """Workflow ids of some other tickets whose plans change some of the same rows."""
    not_yours: str
    """Why this person can't approve it, if the list knows."""


def parse_state(name: str) -> State:
    """Return the state called `name`.

    Raises:
        InvalidInput: there is none.
    """
    try:
        return State(name)
    except ValueError:
        raise InvalidInput(f"unknown state {name!r}; expected one of: {', '.join(State)}") from None


async def load(standfast: Standfast, wanted: Filter) -> Listing:
    """Return a page of the tickets that pass the filter.

    Raises:
        UnknownTarget: the settings don't name the filter's target.
        InvalidInput: no rule can have the filter's id.
        ServiceUnavailable: Temporal can't be reached.
    """
    narrowed = standfast.lists.narrowed(target=wanted.target, requester=wanted.requester, rule=wanted.rule)
    if not wanted.state:
        page = await standfast.lists.waiting(narrowed, PAGE, after=wanted.after, before=wanted.before)
        return Listing(waiting=page, others=())
    others = await standfast.lists.listed(narrowed, wanted.states, PAGE)
    total = await standfast.lists.waiting_count(narrowed)
    return Listing(waiting=WaitingPage(tickets=(), skipped=0, total=total), others=tuple(others))


class Inbox:
    """The page with the list."""

    def __init__(self, standfast: Standfast, settings: Settings, renderer: Renderer, databases: Databases) -> None:
        self._standfast = standfast
        self._settings = settings
        self._renderer = renderer
        self._databases = databases

    async def show(self, request: Request) -> Response:
        """Show the inbox."""
        wanted = Filter.of(request.query_params)
        listing = await load(self._standfast, wanted)
        return self._renderer.page(
            request,
            "inbox.html",
            page=listing.waiting,
            cards=await self._cards(listing.waiting.tickets, request.state.session),
            others=listing.others,
            others_limit=PAGE,
            version=listing.version,
            wanted=wanted,
            states=[state for state in State if state is not State.WAITING],
            targets=sorted(self._settings.targets),
            rules=sorted({rule for ticket in listing.waiting.tickets for rule in ticket.rules}),
            query=f"?{request.url.query}" if request.url.query else "",
        )

    async def _cards(self, tickets: Sequence[ListedTicket], session: Session) -> list[Card]:
        overlapping: dict[str, tuple[str, ...]] = {}
        if tickets:
            with suppress(ServiceUnavailable):  # the list is worth showing without
                async with self._databases.control() as connection:
                    overlapping = await on_the_same_rows(connection, [ticket.workflow_id for ticket in tickets])
        return [
            Card(
                ticket=ticket,
                overlaps=overlapping.get(ticket.workflow_id, ())[:_OVERLAPS_NAMED],
                not_yours=self._not_yours(ticket, session),
            )
            for ticket in tickets
        ]

    def _not_yours(self, ticket: ListedTicket, session: Session) -> str:
        if ticket.summary is None:
            return ""
        if any(same_person(session.user, by) for by in ticket.summary.approvals):
            return "you have approved it"
        if may_decide_own(session.mode, solo=self._settings.review.solo):
            return ""
        return "you opened it" if same_person(session.user, ticket.summary.requester) else ""


def _place(name: str, value: str | None) -> int | None:
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= _DIGITS):
        raise InvalidInput(f"{name} is {value[:80]!r}, which is no place in the list; start at its beginning")
    return int(value)
