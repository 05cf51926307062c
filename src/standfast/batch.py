"""A batch: many tickets that one durable workflow hands out, a few at a time, and the state of each."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from standfast.domain import Record, digest
from standfast.outcome import Execution, Outcome
from standfast.ticket import Identifier, Ticket

MAX_TICKETS = 100_000
"""Of one batch: so many can be read, listed and counted at once."""
MAX_AT_ONCE = 500
"""Temporal lets a workflow have 2,000 children, those that wait for a person included."""
MAX_PER_MINUTE = 60_000
LOOKED_AT = 500
"""Tickets outside of the window that are looked at together, or asked to end."""


class TicketState(StrEnum):
    """The state of a ticket as its batch sees it. The last eight are ends."""

    READY = "ready"
    """Not started so far."""
    RUNNING = "running"
    WAITING = "waiting"
    """For a person."""
    DONE = "done"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """Its id was used before, by a ticket with other content."""
    NOT_STARTED = "not_started"
    """The batch was cancelled before its turn came."""

    @property
    def is_end(self) -> bool:
        """True if nothing follows."""
        return self not in _UNDER_WAY


_UNDER_WAY = frozenset({TicketState.READY, TicketState.RUNNING, TicketState.WAITING})

States = dict[TicketState, int]
"""Numbers of tickets."""


class Ending(Record):
    """How a ticket of a batch ended."""

    state: TicketState
    reason: str
    """One sentence for people."""
    execution: Execution | None = None
    ended_at: datetime

    @classmethod
    def of(cls, outcome: Outcome, ended_at: datetime) -> "Ending":
        """Return the ending of a ticket that had this outcome."""
        state = TicketState(outcome.state.value)
        return cls(state=state, reason=outcome.reason, execution=outcome.execution, ended_at=ended_at)


class Ended(Record):
    """A ticket whose end the workflow saw."""

    position: int
    ending: Ending


class Result(Record):
    """What is known about one ticket of a batch."""

    position: int
    """In the batch, from 0."""
    line: int
    """In the file that the batch was made of."""
    workflow_id: str
    state: TicketState
    submitted_before: bool
    """True if it was there before the batch."""
    ending: Ending | None
    """None if it has not ended, or was never started."""


class Pace(Record):
    """How fast tickets are handed out."""

    at_once: int = Field(default=20, ge=1, le=MAX_AT_ONCE)
    """How many may be under way; those that wait for a person don't count."""
    per_minute: int | None = Field(default=None, ge=1, le=MAX_PER_MINUTE)
    """How many may be started in a minute; None is as many as possible."""


class CarriedBatch(Record):
    """What one run of the batch's workflow leaves to the next."""

    started_at: datetime
    handed_out: int
    """Tickets at lower positions were handed out."""
    window: tuple[int, ...]
    """Positions of those that are under way."""
    ended: tuple[Ended, ...]
    met: tuple[int, ...]
    """What is not on record so far, see `RecordRequest`."""
    next_turn: datetime | None
    looked_up_to: int
    states: States
    speed: tuple[tuple[datetime, int], ...]
    paused: bool
    cancelled: bool


class Batch(Record):
    """What the batch's workflow gets."""

    id: Identifier
    tickets: int = Field(ge=1)
    pace: Pace = Pace()
    events_per_run: int = Field(default=4_000, ge=50)
    """Its history begins anew after so many events; Temporal itself suggests it soon after that."""
    carried: CarriedBatch | None = None
    """None in the first run."""

    @property
    def workflow_id(self) -> str:
        """The id of the batch's workflow."""
        return workflow_id(self.id)


class BatchState(StrEnum):
    """What a batch does. The last three are ends."""

    RUNNING = "running"
    PAUSED = "paused"
    """Starts nothing; tickets that were started go on."""
    CANCELLING = "cancelling"
    """Starts nothing more, and waits for the tickets that were started."""
    CANCELLED = "cancelled"
    DONE = "done"
    """Every ticket has ended, one way or another."""
    STOPPED = "stopped"
    """Its workflow was ended from outside, or failed; the same file again goes on with it."""

    @property
    def is_end(self) -> bool:
        """True if nothing follows by itself."""
        return self in (BatchState.CANCELLED, BatchState.DONE, BatchState.STOPPED)


class Progress(Record):
    """How far a batch is. Numbers of tickets are a few seconds old."""

    batch_id: str
    state: BatchState
    tickets: int
    states: States
    pace: Pace
    started_at: datetime
    ended_per_minute: float | None
    """Of late; None if nothing ended."""
    seconds_left: float | None
    """At that speed, without what waits for people; None if nothing can be said."""
    reason: str = ""
    """Why it stopped, if it did."""

    @property
    def ended(self) -> int:
        """How many tickets have ended."""
        return ended(self.states)


def ended(states: States) -> int:
    """Return how many tickets have ended."""
    return sum(number for state, number in states.items() if state.is_end)


def workflow_id(batch_id: str) -> str:
    """Return the id of a batch's workflow."""
    return f"batch/{batch_id}"


def content_digest(tickets: list[Ticket]) -> str:
    """Return the SHA-256 over all tickets in their order: tells the same batch from another one."""
    return digest([ticket.digest for ticket in tickets])


# --- what the workflow asks of its activities ------------------------------------------------------------------------


class PageRequest(Record):
    """Which tickets are wanted next."""

    batch_id: str
    first: int
    """None before this position."""


class NumberedTicket(Record):
    """A ticket and its position in the batch, from 0."""

    position: int
    ticket: Ticket
    requester_mark: str = ""
    """See `standfast.codec.requesters`."""


class Page(Record):
    """Some tickets in their order; none if there are no more."""

    tickets: tuple[NumberedTicket, ...]


class RecordRequest(Record):
    """What the workflow saw, and what it wants to know."""

    batch_id: str
    handed_out: int
    ended: tuple[Ended, ...]
    met: tuple[int, ...]
    """Positions of tickets whose workflow was there already: the same tickets, or others under their ids."""
    window: tuple[int, ...]
    silent: tuple[int, ...]
    """Those of the window that have been under way for so long that it's worth a look."""
    looked_up_to: int
    """Other tickets that have not ended are looked at in turn, those after this position next."""


class Recorded(Record):
    """What is on record now."""

    states: States
    freed: tuple[int, ...]
    """Positions of the window that need no place in it any more: they ended, or wait for a person."""
    looked_up_to: int


class CancelRequest(Record):
    """The batch starts nothing more."""

    batch_id: str
    handed_out: int
    tickets: bool
    """Whether the tickets that the batch has started are cancelled, too: some of them, those..."""
    after: int
    """...after this position."""


class Cancelled(Record):
    """How far it came."""

    asked_up_to: int
    """Tickets at later positions have not been asked to end; -1 if there are none."""
