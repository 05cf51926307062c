"""What is known about one ticket, from three sides that nobody should be able to change together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from standfast import steps
from standfast.audit import Kind, Row
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
    plan_digest: str
    fingerprint: str
    approved_by: tuple[str, ...]
    executed_at: datetime


class Run(Record):
    """A run of a ticket's workflow that Temporal lists."""

    workflow_id: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """An activity that has something to put on record."""

    name: str
    key: str = ""
    """Of the row that it says to have appended; empty if it has not completed."""
    hash: str = ""
    """Of that row, as the workflow was told; empty if it was not."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the history of one run of a ticket's workflow says about the chain."""

    run_id: str
    ended: str
    """How the run ended; empty while it is open."""
    steps: Mapping[str, Step]
    """By RUN ID/ACTIVITY ID."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """All that is known about one ticket."""

    workflow_id: str
    rows: Sequence[Row]
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
                newest[run] = max(row.at, newest.get(run, row.at))
        return newest


def place(row: Row) -> tuple[str, str]:
    """Return the run that a row's key names, and RUN ID/ACTIVITY ID; nothing if no ticket's activity appended it."""
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
