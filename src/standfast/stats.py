"""Figures over many tickets: ends, waiting, recoveries, retries, what models cost. Pure: histories in, figures out."""

import json
import math
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from standfast import visibility
from standfast.domain import Record
from standfast.outcome import State
from standfast.recoveries import Recovery, recoveries, step_of, time_of
from standfast.spending import Bill, Spending
from standfast.visibility import TicketRow

# Seconds. Each is about three times the one before, and a duration that people know.
_EDGES = (0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 36_000, 86_400, 259_200)
_LONGER = ((172_800, 86_400, "d"), (7200, 3600, "h"), (120, 60, "min"))  # from, unit, both in seconds
_UNDECIDED = (State.BLOCKED, State.EXPIRED, State.CANCELLED, State.FAILED)  # ends of a wait that nobody decided


@dataclass(frozen=True, kw_only=True)
class TicketFacts:
    """What one ticket contributes."""

    row: TicketRow
    submitted_at: datetime
    waits: tuple[float, ...]
    """Seconds of each wait for a person that is over."""
    decided_after: tuple[float, ...]
    """Seconds from the submission to each decision that ended a wait."""
    recoveries: tuple[Recovery, ...]
    retries: Mapping[str, int]
    """Attempts beyond the first, by step."""
    planner_workflows: tuple[str, ...]


class KnownFacts:
    """Facts of tickets that have ended, which never change; what was not asked for the longest is forgotten first."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._facts: dict[tuple[str, datetime], TicketFacts] = {}

    def find(self, row: TicketRow) -> TicketFacts | None:
        """Return the facts of a ticket, None if they are not known, or may still change."""
        if row.closed_at is None or (found := self._facts.pop((row.workflow_id, row.closed_at), None)) is None:
            return None
        self.keep(found)
        return found

    def keep(self, found: TicketFacts) -> None:
        """Keep the facts of a ticket, if it has ended."""
        if found.row.closed_at is not None:
            self._facts[found.row.workflow_id, found.row.closed_at] = found
            while len(self._facts) > self._most:
                del self._facts[next(iter(self._facts))]


class Bucket(Record):
    """How many durations are about as long."""

    up_to: float | None
    """Seconds, this many included; None: longer than all other buckets."""
    number: int


class Spread(Record):
    """How durations are spread, in seconds."""

    number: int
    median: float
    p90: float
    """Nine of ten took no longer."""
    max: float
    histogram: tuple[Bucket, ...]
    """From the shortest to the longest; each bucket reaches about three times as far as the one before."""


class RecoveryFigures(Spread):
    """Recoveries of one kind."""

    step: str
    failed: str
    """See standfast.recoveries.Recovery."""


class Day(Record):
    """What happened on one day, by UTC."""

    day: date
    submitted: int
    ended: int
    usd: float
    """What model calls cost, as far as their price is known..."""
    usd_not_spent_again: float
    """...and what answers of this day, being on record, spared later."""


class Stats(Record):
    """The figures. A spread is None if there was nothing of its kind."""

    as_of: datetime
    limit: int
    """How many tickets are looked at, at most: the newest ones."""
    tickets: dict[State, int]
    """Number of tickets by state, ends and others."""
    waiting: Spread | None
    """For a person, each wait that is over."""
    decision: Spread | None
    """From the submission to the decision."""
    total: Spread | None
    """From the submission to the end."""
    recoveries: Spread | None
    """How long it took to go on, at most; see standfast.recoveries."""
    recoveries_by_failure: tuple[RecoveryFigures, ...]
    """The most frequent first."""
    open_failures: int
    """What failed and has not gone on so far."""
    retries: dict[str, int]
    """Attempts beyond the first, by step."""
    model_calls: Spending
    models: dict[str, Spending]
    days: tuple[Day, ...]
    """Those on which something happened, in their order."""


def planner_workflows(events: Sequence[HistoryEvent]) -> list[str]:
    """Return the ids of the planner workflows that a ticket's workflow has started."""
    started = (e for e in events if e.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    return [e.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id for e in started]


def facts(row: TicketRow, histories: Sequence[WorkflowHistory]) -> TicketFacts:
    """Read one ticket from its histories: its own, run after run, and those of its planner workflows that are left."""
    own = [event for history in histories if history.workflow_id == row.workflow_id for event in history.events]
    submitted_at = time_of(own[0].event_time)
    over = list(_waits(own))
    retries: Counter[str] = Counter()
    for history in histories:
        retries += _retries(history.events)
    return TicketFacts(
        row=row,
        submitted_at=submitted_at,
        waits=tuple((at - entered).total_seconds() for entered, at, _ in over),
        decided_after=tuple((at - submitted_at).total_seconds() for _, at, state in over if state not in _UNDECIDED),
        recoveries=tuple(found for one in histories for found in recoveries(one.workflow_id, one.events)),
        retries=retries,
        planner_workflows=tuple(planner_workflows(own)),
    )


def summarized(
    tickets: Sequence[TicketFacts],
    models: Mapping[str, Spending],
    days: Mapping[date, tuple[float, float]],
    *,
    as_of: datetime,
    limit: int,
) -> Stats:
    """Return the figures over `tickets`.

    `models` is what their planner workflows spent, `days` the USD that they spent and did not spend again.
    """
    found = [recovery for ticket in tickets for recovery in ticket.recoveries]
    ended = [(t.row.closed_at - t.submitted_at).total_seconds() for t in tickets if t.row.closed_at is not None]
    counts = Counter(ticket.row.state for ticket in tickets)
    retries = sum((Counter(ticket.retries) for ticket in tickets), Counter[str]())
    return Stats(
        as_of=as_of,
        limit=limit,
        tickets={state: counts[state] for state in State if counts[state]},
        waiting=_spread([wait for ticket in tickets for wait in ticket.waits]),
        decision=_spread([after for ticket in tickets for after in ticket.decided_after]),
        total=_spread(ended),
        recoveries=_spread(_seconds(found)),
        recoveries_by_failure=_by_failure(found),
        open_failures=sum(recovery.seconds is None for recovery in found),
        retries=dict(retries.most_common()),
        model_calls=Spending(
            spent=sum((model.spent for model in models.values()), Bill()),
            not_spent_again=sum((model.not_spent_again for model in models.values()), Bill()),
        ),
        models=dict(models),
        days=tuple(_days(tickets, days)),
    )


def duration(seconds: float) -> str:
    """Return a duration for people: `0.04 s`, `2.1 s`, `35.0 min`, `7.5 h`."""
    for least, unit, name in _LONGER:
        if seconds >= least:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def _waits(events: Sequence[HistoryEvent]) -> Iterator[tuple[datetime, datetime, State]]:
    """Yield each wait for a person: its beginning, its end, and what followed. A rehearsal in between ends none."""
    rehearsals = _rehearsals(events)
    entered: datetime | None = None
    for at, state in _states(events):
        asked = [time for time in rehearsals if entered is not None and entered <= time <= at]
        if entered is None:
            entered = at if state is State.WAITING else None
        elif state is State.VALIDATING and asked:
            rehearsals = [time for time in rehearsals if time > at]
        elif state is not State.WAITING:
            yield entered, at, state
            entered = None


def _states(events: Sequence[HistoryEvent]) -> list[tuple[datetime, State]]:
    """Return when the ticket entered which state."""
    found: list[tuple[datetime, State]] = []
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
            attributes = event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
            if visibility.STATE.name in attributes:
                found.append((time_of(event.event_time), State(json.loads(attributes[visibility.STATE.name].data))))
    return found


def _rehearsals(events: Sequence[HistoryEvent]) -> list[datetime]:
    """Return when people asked to rehearse a waiting plan again."""
    return [
        time_of(event.event_time)
        for event in events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        and event.workflow_execution_signaled_event_attributes.signal_name == "rehearse"
    ]


def _retries(events: Sequence[HistoryEvent]) -> Counter[str]:
    retries: Counter[str] = Counter()
    steps: dict[int, str] = {}
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            steps[event.event_id] = step_of(event.activity_task_scheduled_event_attributes.activity_type.name)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            retries[steps[started.scheduled_event_id]] += started.attempt - 1
    return +retries


def _by_failure(found: Sequence[Recovery]) -> tuple[RecoveryFigures, ...]:
    kinds = Counter((recovery.step, recovery.failed) for recovery in found if recovery.seconds is not None)
    figures = []
    for (step, failed), _ in kinds.most_common():
        spread = _spread(_seconds([r for r in found if (r.step, r.failed) == (step, failed)]))
        if spread is not None:
            figures.append(RecoveryFigures(step=step, failed=failed, **dict(spread)))
    return tuple(figures)


def _seconds(found: Sequence[Recovery]) -> list[float]:
    return [recovery.seconds for recovery in found if recovery.seconds is not None]


def _spread(seconds: Sequence[float]) -> Spread | None:
    if not seconds:
        return None
    in_order = sorted(seconds)
    p90 = in_order[math.ceil(0.9 * len(in_order)) - 1]
    shown = (round(value, 3) for value in (statistics.median(in_order), p90, in_order[-1]))
    figures = dict(zip(("median", "p90", "max"), shown, strict=True))
    return Spread(number=len(in_order), histogram=_histogram(in_order), **figures)


def _histogram(in_order: Sequence[float]) -> tuple[Bucket, ...]:
    edges = (*_EDGES, None)
    counts = Counter(bisect_left(_EDGES, seconds) for seconds in in_order)
    return tuple(Bucket(up_to=edges[n], number=counts[n]) for n in range(min(counts), max(counts) + 1))


def _days(tickets: Sequence[TicketFacts], spent: Mapping[date, tuple[float, float]]) -> Iterator[Day]:
    submitted = Counter(ticket.submitted_at.astimezone(UTC).date() for ticket in tickets)
    ended = Counter(ticket.row.closed_at.astimezone(UTC).date() for ticket in tickets if ticket.row.closed_at)
    for day in sorted({*submitted, *ended, *spent}):
        usd, not_again = spent.get(day, (0.0, 0.0))
        yield Day(day=day, submitted=submitted[day], ended=ended[day], usd=usd, usd_not_spent_again=not_again)
