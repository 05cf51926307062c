"""Lists of tickets from Temporal's visibility store, which lags a little behind. No workflow is asked for them.

The store has one order, open tickets first, then the latest end, and lets nobody skip. So a page of waiting tickets,
which are wanted in another order, is found by their places (see `standfast.visibility.order`): the end of a page is
guessed and counted until about as many tickets as fit on it are up to there. Counting few is cheap, hence from the near
end. The newest of all tickets are found in the same way, by their start.
"""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from standfast.domain import Record
from standfast.errors import InvalidInput, StandfastError
from standfast.outcome import State
from standfast.report import Danger, Verdict
from standfast.steps import TICKET
from standfast.visibility import ORDER, ORDERS, REQUESTER, RISK, RULES, STATE, SUMMARY, TARGET, TicketRow, TicketSummary

_PLACES = ORDERS * len(Danger)
_FEW_PAGES = 3  # are read whole: to count a few among many costs more
_SPARE = 10  # tickets that are read beyond a page, so that its end need not be found exactly
# Milliseconds. 2^16 are a minute, 2^31 are 25 days, longer than most tickets may wait.
_AGES = tuple(2**step for step in range(16, 32))
_CHECK_BYTES = 12  # before the token of a page: they tell whether it is one


class ListedTicket(TicketRow):
    """One ticket in a list for people."""

    summary: TicketSummary | None
    """None if it was started by a program that tells none, or with a key that is not here."""
    place: int
    """See `standfast.visibility.order`; -1 if it doesn't wait."""


class WaitingPage(Record):
    """Some tickets that wait, the most dangerous first, then the longest waiting."""

    tickets: tuple[ListedTicket, ...]
    skipped: int
    """How many stand before them."""
    total: int

    @property
    def following(self) -> int:
        """How many stand behind them."""
        return max(0, self.total - self.skipped - len(self.tickets))


@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """What a list is narrowed to; empty means everything."""

    target: str = ""
    rule: str = ""
    """A rule that asked for a person, or blocked the plan."""
    requester_marks: tuple[str, ...] = ()
    """See `standfast.codec.requesters`."""

    def conditions(self) -> Iterator[str]:
        """Yield conditions, all of which have to hold."""
        if self.target:
            yield one_of(TARGET.name, [self.target])
        if self.rule:
            yield one_of(RULES.name, [self.rule])
        if self.requester_marks:
            yield one_of(REQUESTER.name, self.requester_marks)


@dataclass(frozen=True)
class Waiting:
    """The tickets that wait for a person, as far as they meet some conditions."""

    temporal: Client
    narrowed: Narrowed = field(default_factory=Narrowed)

    async def count(self, first: int = 0, last: int = _PLACES - 1) -> int:
        """Return how many there are, from one place to another."""
        return (await self.temporal.count_workflows(self._query(first, last))).count

    async def page(self, size: int, *, after: int | None = None, before: int | None = None) -> WaitingPage:
        """Return a page: the first one, or the one after or before a place. Tickets at one place stay together."""
        here = before if before is not None else 0 if after is None else after + 1
        total, earlier = await asyncio.gather(self.count(), self._up_to(here))
        if before is not None or (here and earlier >= total):  # what stood behind it has been decided meanwhile
            if earlier > size:
                return await self._before(here, earlier, total, size)
            here, earlier = 0, 0
        last = await self._end(here, _PLACES - 1, total - earlier, size, forward=True)
        tickets = await self._read(here, last, size, forward=True)
        return WaitingPage(tickets=tickets, skipped=earlier, total=max(total, earlier + len(tickets)))

    async def _before(self, place: int, earlier: int, total: int, size: int) -> WaitingPage:
        first = await self._end(0, place - 1, earlier, size, forward=False)
        tickets = await self._read(first, place - 1, size, forward=False)
        return WaitingPage(tickets=tickets, skipped=max(0, earlier - len(tickets)), total=total)

    async def _up_to(self, place: int) -> int:
        return await self.count(0, place - 1) if place else 0

    async def _end(self, first: int, last: int, count: int, size: int, *, forward: bool) -> int:
        """Return the far end of a page of the `count` tickets between two places."""
        left, needed = count, size
        if left > _FEW_PAGES * size:
            stretches = _stretches(first, last)
            for near, far in stretches if forward else [(b, a) for a, b in reversed(stretches)]:
                known = far == (last if forward else first)  # all the rest
                here = left if known else await self.count(*sorted((near, far)))
                if here >= needed:
                    return await self._far(near, far, here, needed)
                left, needed = left - here, needed - here
        return last if forward else first

    async def _far(self, near: int, far: int, count: int, needed: int) -> int:
        """Return the place nearest to `near`, or almost, up to which there are as many tickets as are needed."""
        direction = 1 if far > near else -1

        async def up_to(distance: int) -> int:
            return await self.count(*sorted((near, near + direction * distance)))

        return near + direction * await _reach(up_to, _guesses(near, far), abs(far - near), count, needed)

    async def _read(self, first: int, last: int, size: int, *, forward: bool) -> tuple[ListedTicket, ...]:
        found = [one async for one in self.temporal.list_workflows(self._query(first, last))]
        nearest = _cut(sorted(found, key=lambda one: (_place(one), one.id)), size, forward=forward)
        return tuple(await asyncio.gather(*map(listed, nearest)))

    def _query(self, first: int, last: int) -> str:
        places = f"{ORDER.name} BETWEEN {first} AND {last}"
        return " AND ".join((places, 'ExecutionStatus = "Running"', *self.narrowed.conditions()))


async def _reach(
    up_to: Callable[[int], Awaitable[int]], guesses: Iterable[int], far: int, count: int, needed: int
) -> int:
    """Return the shortest distance, or almost, `up_to` which there are as many tickets as are needed.

    Up to `far` there are `count` of them, no fewer than are needed.
    """
    few, few_count, enough, enough_count = -1, 0, far, count
    for guess in guesses:
        counted = await up_to(guess)
        if counted >= needed:
            enough, enough_count = guess, counted
            break
        few, few_count = guess, counted
    halve = False
    while enough_count > needed + _SPARE and enough - few > 1:
        share = 0.5 if halve else (needed + _SPARE / 2 - few_count) / (enough_count - few_count)
        middle = few + min(max(1, int((enough - few) * share)), enough - few - 1)
        counted = await up_to(middle)
        if counted >= needed:
            enough, enough_count = middle, counted
        else:
            few, few_count = middle, counted
        halve = not halve
    return enough


async def newest(temporal: Client, query: str, limit: int) -> list[TicketRow]:
    """Return the tickets that a query finds, at most `limit` of them: those that were started last, in this order."""
    now = datetime.now(UTC)

    def younger(age: int) -> str:
        return f"{query} AND {started_after(now - timedelta(milliseconds=age))}"

    async def up_to(age: int) -> int:
        return (await temporal.count_workflows(younger(age))).count

    count = (await temporal.count_workflows(query)).count
    few = query if count <= limit else younger(await _reach(up_to, _AGES, int(now.timestamp() * 1000), count, limit))
    rows = [row(found) async for found in temporal.list_workflows(few)]
    return sorted(rows, key=lambda row: row.started_at, reverse=True)[:limit]


async def others(temporal: Client, narrowed: Narrowed, states: Sequence[State], limit: int) -> list[ListedTicket]:
    """Return tickets in some of the states, newest first."""
    query = f"{tickets_in(states)}{''.join(f' AND {condition}' for condition in narrowed.conditions())}"
    found = [one async for one in temporal.list_workflows(query, limit=limit, page_size=limit)]
    return list(await asyncio.gather(*map(listed, found)))


def tickets_in(states: Sequence[State] = ()) -> str:
    """Return the condition for tickets in one of the states, or in any if none is named."""
    query = f'WorkflowType = "{TICKET}" AND ExecutionStatus != "ContinuedAsNew"'
    return f"{query} AND ({' OR '.join(_in_states(states))})" if states else query


def started_after(moment: datetime) -> str:
    """Return the condition for tickets that were started later, or whose history began anew later."""
    return f'StartTime > "{moment.astimezone(UTC).isoformat()}"'


def one_of(attribute: str, values: Iterable[str]) -> str:
    """Return the condition that an attribute has one of the values, which hold no quotes."""
    return f"{attribute} IN (" + ", ".join(f'"{value}"' for value in values) + ")"


def row(found: WorkflowExecution) -> TicketRow:
    """Return what the visibility store has about a ticket."""
    return TicketRow.model_validate(_fields(found))


async def listed(found: WorkflowExecution) -> ListedTicket:
    """Return what the visibility store has about a ticket, for people."""
    summary: TicketSummary | None = None
    try:
        summary = await found.memo_value(SUMMARY, None, type_hint=TicketSummary)
    except (StandfastError, ValueError, RuntimeError):
        summary = None  # a key is missing, or somebody else wrote it: the ticket is listed all the same
    return ListedTicket.model_validate(_fields(found) | {"summary": summary, "place": _place(found)})


def _place(found: WorkflowExecution) -> int:
    place = found.typed_search_attributes.get(ORDER)
    return -1 if place is None else place


def _fields(found: WorkflowExecution) -> dict[str, object]:
    attributes = found.typed_search_attributes
    state = State(attributes.get(STATE) or State.GATHERING)
    if found.status is not WorkflowExecutionStatus.RUNNING and not state.is_end:
        state = State.FAILED  # ended from outside: terminated, or timed out
    risk = attributes.get(RISK)
    return {
        "workflow_id": found.id,
        "state": state,
        "target": attributes.get(TARGET) or "",
        "risk": Verdict(risk) if risk else None,
        "rules": tuple(attributes.get(RULES) or ()),
        "started_at": found.start_time,
        "closed_at": found.close_time,
        "batch": found.parent_id,
    }


def _in_states(states: Sequence[State]) -> Iterator[str]:
    """Yield conditions, one of which has to hold. A ticket ended from outside has failed, whatever its last state."""
    if going := [state for state in states if not state.is_end]:
        yield f'({one_of(STATE.name, going)} AND ExecutionStatus = "Running")'
    if ends := [state for state in states if state.is_end]:
        yield one_of(STATE.name, ends)
    if State.FAILED in states:
        yield one_of("ExecutionStatus", ("Terminated", "TimedOut"))


def _stretches(first: int, last: int) -> list[tuple[int, int]]:
    """Return the places from one to another, divided by danger."""
    bounds = ((start, start + ORDERS - 1) for start in range(0, _PLACES, ORDERS))
    return [(max(start, first), min(end, last)) for start, end in bounds if start <= last and first <= end]


def _guesses(near: int, far: int) -> Iterable[int]:
    """Return how far from `near` the end of a page may be: times that double, without those when nothing waited."""
    since, now = near % ORDERS, int(datetime.now(UTC).timestamp() * 1000)
    if far < near:
        guesses = [max(0, since - now) + age for age in _AGES]
    elif since:
        guesses = list(_AGES)
    else:
        guesses = [now - age for age in reversed(_AGES)]
    return [guess for guess in guesses if 0 < guess < abs(far - near)]


def _cut(found: Sequence[WorkflowExecution], size: int, *, forward: bool) -> Sequence[WorkflowExecution]:
    """Return the nearest tickets, as many as fit on a page; those at the last one's place come with it."""
    if len(found) <= size:
        return found
    last = _place(found[size - 1 if forward else -size])
    return [one for one in found if (_place(one) <= last if forward else _place(one) >= last)]


def page_name(token: bytes) -> str:
    """Return a name of the page that Temporal's token leads to, for others to keep."""
    return base64.urlsafe_b64encode(_check(token) + token).decode()


def page_token(after: str) -> bytes:
    """Return the token of the page with this name; Temporal calls one that it can't read a failure of its own.

    Raises:
        InvalidInput: it is the name of no page.
    """
    with suppress(binascii.Error):
        known = base64.b64decode(after, altchars=b"-_", validate=True)
        token = known[_CHECK_BYTES:]
        if _check(token) == known[:_CHECK_BYTES]:
            return token
    raise InvalidInput(f"after {after!r} is the `next` of no page; take it from the page before, unchanged")


def _check(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()[:_CHECK_BYTES]
