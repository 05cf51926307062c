"""What is known about one ticket, from three sides that nobody should be able to change together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from standfast import steps
from standfast.audit import EACH_ATTEMPT, Kind, Row
from standfast.decision import DecisionRecord
from standfast.domain import Record


class Problem(Record):
    """One thing that is not as it must be."""

    where: str
    """A row, a ticket's workflow id, a target."""
    problem: str
    look: str
    """What to look at."""


class Executed(Record):
    """A row of a target's ledger."""

    workflow_id: str
    target: str
    plan_digest: str
    fingerprint: str
    approved_by: tuple[str, ...]
    executed_at: datetime


class Placed(Row):
    """A row of the chain, with a time that who wrote it could not choose."""

    reached: datetime
    """The newest time up to it: it was not written before."""


class Run(Record):
    """A run of a ticket's workflow that Temporal lists."""

    workflow_id: str
    run_id: str


_ATTEMPT = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, kw_only=True)
class Step:
    """An activity that has something to put on record."""

    name: str
    key: str = ""
    """Of the row that it says to have appended; empty if it has not completed."""
    hash: str = ""
    """Of that row, as the workflow was told; empty if it was not."""
    decision: DecisionRecord | None = None
    """What the workflow was told about a decision."""
    attempts: int | None = None
    """How many were made, where that is known already."""

    def asked_for(self, row: Row) -> bool:
        """Tell whether a row that names this step is one that it appends."""
        _, _, *attempt = row.key.split("/")
        if row.kind not in STEPS[self.name] or bool(attempt) is not (self.name in EACH_ATTEMPT):
            return False
        return not attempt or (
            _ATTEMPT.fullmatch(attempt[0]) is not None and (self.attempts is None or int(attempt[0]) <= self.attempts)
        )


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the history of one run of a ticket's workflow says about the chain."""

    run_id: str
    ended: str
    """How the run ended; empty while it is open."""
    steps: Mapping[str, Step]
    """By RUN ID/ACTIVITY ID."""
    unreadable: Sequence[str] = ()
    """Why something in it can't be read."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """All that is known about one ticket."""

    workflow_id: str
    rows: Sequence[Placed]
    """Its rows in the chain, before everything else was read: what they speak of is found in the rest..."""
    later: Sequence[Row]
    """...and after that: what the rest speaks of is found in them. Tickets may be under way meanwhile."""
    executed: Sequence[Executed] | None
    """None if the target's ledger can't be read."""
    traces: Sequence[Trace] = field(default=())
    kept_since: datetime
    """Temporal still has the histories of all that happened since then."""

    @cached_property
    def by_run(self) -> Mapping[str, Trace]:
        """Its histories by run."""
        return {trace.run_id: trace for trace in self.traces}

    @cached_property
    def gone(self) -> Mapping[str, datetime]:
        """Runs without a history, and when something of them was put on record at last."""
        newest: dict[str, datetime] = {}
        for row in self.rows:
            run, _ = place(row)
            if run and run not in self.by_run:
                newest[run] = max(row.reached, newest.get(run, row.reached))
        return newest

    @cached_property
    def told(self) -> frozenset[str]:
        """Keys of rows that say what the workflow was told: of completed attempts, or else of the last on record."""
        last: dict[str, str] = {}
        for row in self.later:
            run, asked = place(row)
            if run and run not in self.by_run:
                last[asked] = row.key
        completed = {step.key for trace in self.traces for step in trace.steps.values() if step.key}
        return frozenset(completed.union(last.values()))


def place(row: Row) -> tuple[str, str]:
    """Return the run that a row's key names, and RUN ID/ACTIVITY ID; nothing if no ticket's activity can have it."""
    match row.key.split("/"):
        case [run, activity_id, *rest] if row.kind in STEP_KINDS and len(rest) <= 1:
            return run, f"{run}/{activity_id}"
    return "", ""


STEPS: Mapping[str, frozenset[Kind]] = {
    steps.GATHER.name: frozenset({Kind.SUBMISSION}),
    steps.VALIDATE.name: frozenset({Kind.VERDICT}),
    steps.REVIEW.name: frozenset({Kind.DECISION, Kind.REFUSED}),
    steps.REMIND.name: frozenset({Kind.REMINDER}),
    steps.CONCLUDE.name: frozenset({Kind.END, Kind.EXECUTION, Kind.UNDO}),
}
"""What the activities put on record, by their names."""
STEP_KINDS = frozenset[str]().union(*STEPS.values())
