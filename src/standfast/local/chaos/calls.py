"""Model calls: what the journal has recorded, beside what the provider has seen."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from standfast.local.chaos.evidence import Evidence, Period, RecordedCall
from standfast.local.chaos.faults import How, ProcessFault
from standfast.local.chaos.histories import ActivityRun
from standfast.local.fake_provider import Exchange
from standfast.steps import Pool

_WAKING = timedelta(seconds=1)  # in which a process that goes on sends what it was about to send


@dataclass(frozen=True, kw_only=True)
class Call:
    """One recorded model call."""

    recorded: RecordedCall
    run: ActivityRun | None
    """Its activity."""
    requests: Sequence[Exchange]
    """All that the provider saw of it; none if the recorded answer isn't one of the provider's."""

    @property
    def answered_before(self) -> int:
        """How many answers it got before one was recorded: more than one if a worker died with an answer."""
        return sum(e.answer_id is not None and e.at <= self.recorded.recorded_at for e in self.requests)

    @property
    def late(self) -> list[Exchange]:
        """Requests after the answer was recorded."""
        return [exchange for exchange in self.requests if exchange.at > self.recorded.recorded_at]

    def sent_as_it_woke(self, late: Exchange, faults: Sequence[Period]) -> bool:
        """Tell whether a worker sent this request that had looked into the journal before it was frozen.

        Between looking and sending there is always a moment; nothing but the provider's help would close it.
        """
        return any(
            fault.fault.how is How.FREEZE
            and fault.fault.pool is Pool.LLM
            and self.run is not None
            and self.run.scheduled_at < fault.began < self.recorded.recorded_at
            and fault.ended - _WAKING / 4 <= late.at <= fault.ended + _WAKING
            for fault in faults
            if isinstance(fault.fault, ProcessFault)
        )


def recorded_calls(evidence: Evidence) -> list[Call]:
    """Return the journal's calls with all requests of each: those with the same body as the one whose answer it has."""
    digests = {e.answer_id: e.digest for e in evidence.exchanges if e.answer_id is not None}
    requests: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in evidence.exchanges:
        requests[exchange.digest].append(exchange)
    runs = {(run.workflow_id, run.activity_id): run for history in evidence.histories for run in history.activities}
    return [
        Call(
            recorded=recorded,
            run=runs.get((recorded.workflow_id, recorded.activity_id)),
            requests=requests[digests[recorded.answer_id]] if recorded.answer_id in digests else (),
        )
        for recorded in evidence.calls
    ]
