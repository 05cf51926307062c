"""Everything that the proofs look at, as it was found after the last ticket had ended."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from standfast.local.chaos.faults import Fault
from standfast.local.chaos.histories import History
from standfast.local.chaos.tickets import Row, ScriptedTicket
from standfast.local.fake_provider import Exchange
from standfast.outcome import Outcome
from standfast.verification.verify import Verified


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A ticket, and what its people were told."""

    ticket: ScriptedTicket
    outcome: Outcome | None
    """None if it did not end in time."""
    trouble: str = ""
    """An error that they should not have got."""


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """An executed plan."""

    workflow_id: str
    plan_digest: str


@dataclass(frozen=True, kw_only=True)
class RecordedCall:
    """An answer in the journal of model calls."""

    workflow_id: str
    activity_id: str
    answer_id: str
    """The provider's id of the answer."""
    recorded_at: datetime


@dataclass(frozen=True, kw_only=True)
class Period:
    """The time of a fault."""

    fault: Fault
    began: datetime
    ended: datetime


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run has left behind."""

    submitted: Sequence[Submitted]
    histories: Sequence[History]
    """Of the tickets and of their planners."""
    ledger: Sequence[LedgerRow]
    rows: Counter[Row]
    """What is in the shop."""
    calls: Sequence[RecordedCall]
    exchanges: Sequence[Exchange]
    """What the provider has seen."""
    faults: Sequence[Period]
    replayed: Mapping[str, str]
    """For each replayed workflow why it failed; empty if it didn't."""
    verified: Verified
    """What `standfast audit verify` finds."""
