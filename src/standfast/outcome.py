"""How a ticket ended, and what was executed."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from standfast.domain import Record
from standfast.report import RowCounts


class State(StrEnum):
    """Where a ticket is. The last six are ends."""

    GATHERING = "gathering"
    PLANNING = "planning"
    VALIDATING = "validating"
    WAITING = "waiting"
    EXECUTING = "executing"
    DONE = "done"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """True if nothing follows."""
        return self in _ENDS


_ENDS = frozenset({State.DONE, State.REJECTED, State.BLOCKED, State.EXPIRED, State.FAILED, State.CANCELLED})


class Execution(Record):
    """What the ledger row of a target says about one executed plan."""

    plan_digest: str
    executed_at: datetime
    fingerprint: str
    counts: tuple[dict[str, RowCounts], ...] = ()
    """Rows really changed, per operation and table."""
    approved_by: tuple[str, ...] = ()
    """Empty if the plan ran by itself."""


class Outcome(Record):
    """The end of a ticket."""

    state: State
    reason: str
    """One sentence for people."""
    execution: Execution | None = Field(default=None)
    """None unless the state is `done` and the plan was not empty."""
