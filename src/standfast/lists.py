"""Lists of the tickets of an installation. They ask Temporal's visibility store, and no workflow."""

import re
from collections.abc import Sequence
from datetime import datetime

from temporalio.client import Client

from standfast import listing, visibility
from standfast.codec.requesters import requester_marks
from standfast.domain import Record
from standfast.errors import InvalidInput
from standfast.listing import ListedTicket, Narrowed, Waiting, WaitingPage
from standfast.outcome import State
from standfast.settings import Settings
from standfast.translation import of_temporal
from standfast.visibility import TicketRow

_RULE = r"[a-z][a-z0-9_.-]{0,99}"


class Listed(Record):
    """A page of a list of tickets."""

    tickets: tuple[TicketRow, ...]
    next: str | None
    """What the next page begins after; None: there is none."""


class Lists:
    """Finds tickets in Temporal's visibility store, which lags a little behind."""

    def __init__(self, temporal: Client, settings: Settings) -> None:
        self._temporal = temporal
        self._settings = settings

    async def tickets(
        self,
        states: Sequence[State] = (),
        targets: Sequence[str] = (),
        limit: int = 200,
        since: datetime | None = None,
    ) -> list[TicketRow]:
        """Return the newest tickets, newest first, from Temporal's visibility store, which lags a little behind.

        With `since`, only those that were submitted later, or whose history began anew later, as long ones do.

        Raises:
            UnknownTarget: the settings don't name one of the targets.
            ServiceUnavailable: Temporal can't be reached.
        """
        query = self._query(states, targets, since)
        with of_temporal():
            return await listing.newest(self._temporal, query, limit)

    async def page(
        self, states: Sequence[State] = (), targets: Sequence[str] = (), *, limit: int, after: str | None = None
    ) -> Listed:
        """Return the page of tickets `after` the one of which that is the `next`, with at most `limit` of them.

        Open tickets come first, newest first, then ended ones, latest end first, as Temporal's visibility store has
        them; it lags a little behind.

        Raises:
            UnknownTarget: the settings don't name one of the targets.
            InvalidInput: `after` is the `next` of no page.
            ServiceUnavailable: Temporal can't be reached.
        """
        found = self._temporal.list_workflows(
            self._query(states, targets), page_size=limit, next_page_token=listing.page_token(after) if after else None
        )
        with of_temporal():
            await found.fetch_next_page()
        more = found.next_page_token
        return Listed(
            tickets=tuple(map(listing.row, found.current_page or ())), next=listing.page_name(more) if more else None
        )

    async def rows(self, workflow_ids: Sequence[str]) -> dict[str, TicketRow]:
        """Return tickets by their workflow ids, as Temporal's visibility store has them; it may not have all.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        query = f"{listing.tickets_in()} AND {listing.one_of('WorkflowId', workflow_ids)}"
        with of_temporal():
            return {found.id: listing.row(found) async for found in self._temporal.list_workflows(query)}

    def narrowed(self, *, target: str = "", requester: str = "", rule: str = "") -> Narrowed:
        """Return what a list for people is narrowed to; empty means everything.

        Raises:
            UnknownTarget: the settings don't name the target.
            InvalidInput: no rule can have this id.
        """
        if target:
            self._settings.target(target)
        if rule and not re.fullmatch(_RULE, rule):
            raise InvalidInput(f"rule is {rule[:80]!r}; expected the id of a rule, such as rows.limit")
        marks = requester_marks(self._temporal.data_converter, requester) if requester else ()
        return Narrowed(target=target, rule=rule, requester_marks=marks)

    async def waiting(
        self, narrowed: Narrowed, size: int, *, after: int | None = None, before: int | None = None
    ) -> WaitingPage:
        """Return tickets that wait for a person, the most dangerous first, then the longest waiting. Asks no workflow.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        with of_temporal():
            return await Waiting(self._temporal, narrowed).page(size, after=after, before=before)

    async def waiting_count(self, narrowed: Narrowed) -> int:
        """Return how many tickets wait for a person.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        with of_temporal():
            return await Waiting(self._temporal, narrowed).count()

    async def listed(self, narrowed: Narrowed, states: Sequence[State], limit: int) -> list[ListedTicket]:
        """Return tickets in some of the states, newest first, with what people want to know. Asks no workflow.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        with of_temporal():
            return await listing.others(self._temporal, narrowed, states, limit)

    def _query(self, states: Sequence[State], targets: Sequence[str], since: datetime | None = None) -> str:
        for target in targets:
            self._settings.target(target)
        query = listing.tickets_in(states)
        if targets:
            query += f" AND {listing.one_of(visibility.TARGET.name, targets)}"
        if since:
            query += f" AND {listing.started_after(since)}"
        return query
