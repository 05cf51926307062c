"""What programs can ask for: each operation of the API with what it takes and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from standfast.client import Submitted
from standfast.dashboard.deciding import DecisionForm
from standfast.decision import DecisionRecord
from standfast.domain import Record, Submission
from standfast.lists import Listed
from standfast.outcome import State
from standfast.scope import Scope
from standfast.settings import TargetName
from standfast.stats import Stats
from standfast.ticket import Ticket
from standfast.timeline import TimelineEntry
from standfast.view import TicketView

MOST_LISTED = 1000
"""Tickets in one answer; Temporal's own limit."""
TICKET = "/api/tickets/ticket/{target}/{id}"
"""A ticket's workflow id is ticket/<target>/<id>."""


class NoQuery(Submission):
    """The query of an operation that knows no parameter."""


class ListQuery(Submission):
    """What a list of tickets is narrowed to, and where it goes on."""

    state: tuple[State, ...] = ()
    """Only tickets in this state; may be given several times."""
    target: tuple[TargetName, ...] = ()
    """Only tickets of this target; may be given several times."""
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 200
    """How many tickets at most."""
    after: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,2048}={0,2}$")] | None = None
    """The `next` of the answer before; with the same state and target as there."""


class StatsQuery(Submission):
    """Of which tickets the figures are."""

    period: Literal["24h", "7d", "30d"] = "7d"
    """Of the newest tickets, those that were submitted since then."""
    target: TargetName | None = None
    """None: of all targets."""


class History(Record):
    """The timeline of a ticket."""

    workflow_id: str
    entries: tuple[TimelineEntry, ...]
    """Oldest first; those of its planner workflows included."""


class CancelRequested(Record):
    """The ticket was asked to end; its state tells when it has."""

    workflow_id: str
    cancel_requested: bool = True


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    name: str
    summary: str
    scope: Scope
    """What a token must be allowed to do."""
    answers: Mapping[int, type[BaseModel] | None]
    """What is answered with each status; None: a JSON object."""
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] | None = None
    problems: frozenset[int] = frozenset()
    """Statuses of problems, beyond those that every request may run into."""


_OF_TICKET = frozenset({404, 410, 422})
_OF_BODY = frozenset({413, 415})

OPERATIONS = (
    Operation(
        method="get",
        path="/api/openapi.json",
        name="getDocument",
        summary="This document",
        scope=Scope.VIEW,
        answers={200: None},
    ),
    Operation(
        method="get",
        path="/api/tickets",
        name="listTickets",
        summary="List tickets: open ones first, then by their end, newest first",
        scope=Scope.VIEW,
        answers={200: Listed},
        query=ListQuery,
    ),
    Operation(
        method="post",
        path="/api/tickets",
        name="submitTicket",
        summary="Start a ticket: 201, or 200 if the same one was submitted before",
        scope=Scope.SUBMIT,
        answers={200: Submitted, 201: Submitted},
        body=Ticket,
        problems=_OF_BODY | {409},
    ),
    Operation(
        method="get",
        path=TICKET,
        name="getTicket",
        summary="One ticket whole: context, plan, report, decisions, outcome",
        scope=Scope.VIEW,
        answers={200: TicketView},
        problems=_OF_TICKET,
    ),
    Operation(
        method="get",
        path=f"{TICKET}/history",
        name="getHistory",
        summary="What happened with a ticket so far",
        scope=Scope.VIEW,
        answers={200: History},
        problems=_OF_TICKET,
    ),
    Operation(
        method="post",
        path=f"{TICKET}/decision",
        name="decide",
        summary="Decide on exactly the plan and the rows that were seen",
        scope=Scope.DECIDE,
        answers={200: DecisionRecord},
        body=DecisionForm,
        problems=_OF_TICKET | _OF_BODY | {409},
    ),
    Operation(
        method="post",
        path=f"{TICKET}/cancel",
        name="cancelTicket",
        summary="Ask a ticket to end; what is being executed is finished or rolled back as a whole first",
        scope=Scope.DECIDE,
        answers={202: CancelRequested},
        problems=_OF_TICKET | {409, 413},
    ),
    Operation(
        method="post",
        path=f"{TICKET}/undo",
        name="undoTicket",
        summary="Start the undo of an executed ticket, a ticket of its own: 201, or 200 if one is under way",
        scope=Scope.DECIDE,
        answers={200: Submitted, 201: Submitted},
        problems=_OF_TICKET | {409, 413},
    ),
    Operation(
        method="get",
        path="/api/stats",
        name="getStats",
        summary="Figures over the newest tickets of a period",
        scope=Scope.VIEW,
        answers={200: Stats},
        query=StatsQuery,
    ),
)
