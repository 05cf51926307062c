"""The six proofs of durability, each a pure function over the evidence."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from standfast.audit import Kind
from standfast.local.chaos.calls import Call, recorded_calls
from standfast.local.chaos.evidence import Evidence, Period, Submitted
from standfast.local.chaos.faults import How, ModelFault, ProcessFault
from standfast.local.chaos.histories import ActivityRun
from standfast.local.chaos.tickets import Row, expected_rows
from standfast.local.fake_provider import Exchange
from standfast.local.sample import TARGET

# A fault reaches beyond its end: connections are rebuilt, and what was lost is noticed by time-outs.
_AFTERMATH = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One thing that is not as it must be."""

    where: str
    """Workflow id, where one can be named."""
    expected: str
    found: str


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One claim, and whether it holds."""

    claim: str
    counts: Mapping[str, int]
    violations: tuple[Violation, ...]

    @property
    def holds(self) -> bool:
        """True if nothing speaks against it."""
        return not self.violations


def prove(evidence: Evidence) -> list[Proof]:
    """Return the proofs in the order of the document that names them."""
    return [proof(evidence) for proof in _PROOFS]


def every_ticket_ends(evidence: Evidence) -> Proof:
    """Each submitted ticket has ended, as its kind should, with a reason."""
    return Proof(
        claim="every ticket has ended as it should, with its reason",
        counts={
            "submitted": len(evidence.submitted),
            "ended": sum(one.outcome is not None for one in evidence.submitted),
            "lost": sum(one.outcome is None for one in evidence.submitted),
        },
        violations=tuple(_wrong_ends(evidence.submitted)),
    )


def _wrong_ends(submitted: Iterable[Submitted]) -> Iterator[Violation]:
    for one in submitted:
        where, ends = one.ticket.workflow_id, " or ".join(sorted(one.ticket.kind.ends))
        if one.outcome is None:
            yield Violation(where=where, expected=ends, found="it has not ended")
        elif one.outcome.state not in one.ticket.kind.ends:
            yield Violation(where=where, expected=ends, found=f"{one.outcome.state}: {one.outcome.reason}")
        elif not one.outcome.reason.strip():
            yield Violation(where=where, expected="a reason", found="none")
        if one.trouble:
            yield Violation(where=where, expected="answers to its people", found=one.trouble)


def every_change_happens_once(evidence: Evidence) -> Proof:
    """The ledger has one row for each ticket that ended done, and the shop has its changes, each once."""
    done = [one.ticket for one in evidence.submitted if one.outcome and one.ticket.executed(one.outcome.state)]
    meant = Counter((t.workflow_id, t.plan(t.last_plan).digest(TARGET)) for t in done)
    ledger = Counter((row.workflow_id, row.plan_digest) for row in evidence.ledger)
    rows = expected_rows(done)
    violations = [
        *(_difference(key[0], f"plan {key[1][:12]} in the ledger", meant[key], ledger[key]) for key in meant | ledger),
        *(_difference(_whose(key), f"row {key}", rows[key], evidence.rows[key]) for key in rows | evidence.rows),
    ]
    return Proof(
        claim="every change of a ticket that ended done happened once, and no other",
        counts={
            "done with a change": len(done),
            "ledger rows": ledger.total(),
            "rows compared": rows.total(),
            "missing": sum((meant - ledger).values()) + sum((rows - evidence.rows).values()),
            "twice or not meant": sum((ledger - meant).values()) + sum((evidence.rows - rows).values()),
        },
        violations=tuple(violation for violation in violations if violation is not None),
    )


def _difference(where: str, what: str, expected: int, found: int) -> Violation | None:
    if expected == found:
        return None
    return Violation(where=where, expected=f"{what}: {expected} times", found=f"{found} times")


def _whose(row: Row) -> str:
    return f"{row[0]} of customer {row[1]}"


def no_recorded_call_is_repeated(evidence: Evidence) -> Proof:
    """After an answer was recorded, the provider saw no further request of the same call."""
    calls = recorded_calls(evidence)
    late = [(call, exchange) for call in calls for exchange in call.late]
    repeated = [(call, exchange) for call, exchange in late if not call.sent_as_it_woke(exchange, evidence.faults)]
    answered = [exchange for exchange in evidence.exchanges if exchange.answer_id is not None]
    known = {exchange.digest for call in calls for exchange in call.requests}
    return Proof(
        claim="no model call was repeated after its answer was recorded",
        counts={
            "requests": len(evidence.exchanges),
            "answered": len(answered),
            "recorded": len(calls),
            "repeated after being recorded": len(repeated),
            "sent by a frozen worker as it woke": len(late) - len(repeated),
            "answered again before being recorded": sum(max(0, call.answered_before - 1) for call in calls),
            "answered, never recorded": sum(exchange.digest not in known for exchange in answered),
        },
        violations=(
            *(_repeated(call, exchange) for call, exchange in repeated),
            *(_made_up(call) for call in calls if not call.requests),
            *_unrecorded(evidence),
        ),
    )


def _repeated(call: Call, late: Exchange) -> Violation:
    return Violation(
        where=f"{call.recorded.workflow_id} activity {call.recorded.activity_id}",
        expected=f"no request after its answer was recorded at {call.recorded.recorded_at:%H:%M:%S.%f}",
        found=f"one at {late.at:%H:%M:%S.%f}",
    )


def _made_up(call: Call) -> Violation:
    where = f"{call.recorded.workflow_id} activity {call.recorded.activity_id}"
    return Violation(where=where, expected="an answer of the provider", found=f"answer {call.recorded.answer_id!r}")


def _unrecorded(evidence: Evidence) -> Iterator[Violation]:
    """Yield the model requests that were completed without a row in the journal."""
    known = {(call.workflow_id, call.activity_id) for call in evidence.calls}
    for run in _activities(evidence):
        if run.name.endswith("model_request") and run.completions and (run.workflow_id, run.activity_id) not in known:
            yield Violation(
                where=run.workflow_id, expected=f"activity {run.activity_id} in the journal", found="no answer there"
            )


def no_activity_completes_twice(evidence: Evidence) -> Proof:
    """Each activity completes once at most, and is only tried again where there was a fault."""
    runs = list(_activities(evidence))
    retried = [run for run in runs if run.attempt > 1]
    unexplained = [run for run in retried if not any(_explains(fault, run) for fault in evidence.faults)]
    twice = [run for run in runs if run.completions > 1]
    return Proof(
        claim="no activity completed twice, and none was tried again without a fault",
        counts={
            "activities": len(runs),
            "completed twice": len(twice),
            "tried again": len(retried),
            "tried again without a fault": len(unexplained),
        },
        violations=(
            *(
                Violation(
                    where=run.workflow_id, expected=f"{run.name} completed once", found=f"{run.completions} times"
                )
                for run in twice
            ),
            *(
                Violation(
                    where=run.workflow_id,
                    expected=f"{run.name} at {run.scheduled_at:%H:%M:%S}: 1 attempt, for no fault explains more",
                    found=f"{run.attempt} attempts, the last but one: {run.failure_before}",
                )
                for run in unexplained
            ),
        ),
    )


def _explains(period: Period, run: ActivityRun) -> bool:
    """Tell whether a fault of this kind makes such an activity fail in this way, and was near enough in time."""
    if run.scheduled_at > period.ended + _AFTERMATH or (run.closed_at is not None and run.closed_at < period.began):
        return False
    match period.fault:
        case ModelFault():
            return run.name.endswith("model_request") and not run.timed_out_before
        case ProcessFault(service="temporal"):
            return run.timed_out_before  # its heartbeats did not get through
        case ProcessFault(service="postgres"):
            return not run.timed_out_before
        case ProcessFault(pool=pool, how=how):
            # One that is frozen in the middle of a transaction keeps its locks, which others may wait for in vain.
            return run.queue == pool if run.timed_out_before else how is How.FREEZE


def every_history_replays(evidence: Evidence) -> Proof:
    """The present code makes the same decisions from each history."""
    failed = {workflow_id: why for workflow_id, why in evidence.replayed.items() if why}
    missing = {history.workflow_id for history in evidence.histories} - set(evidence.replayed)
    return Proof(
        claim="every history replays on the present code",
        counts={"histories": len(evidence.histories), "replayed": len(evidence.replayed) - len(failed)},
        violations=(
            *(Violation(where=one, expected="it replays", found=why) for one, why in failed.items()),
            *(Violation(where=one, expected="it replays", found="it was not replayed") for one in sorted(missing)),
        ),
    )


def the_record_is_whole(evidence: Evidence) -> Proof:
    """The audit chain is as it was written, and agrees with the ledger and with the tickets' histories."""
    verified = evidence.verified
    return Proof(
        claim="the audit chain is whole, and agrees with the ledger and the tickets' histories: nothing unapproved ran",
        counts={
            "records": verified.rows,
            "decisions": verified.kinds.get(Kind.DECISION, 0) + verified.kinds.get(Kind.REFUSED, 0),
            "executions": verified.executions,
            "histories": verified.histories,
        },
        violations=tuple(
            Violation(where=problem.where, expected="agreement", found=problem.problem) for problem in verified.problems
        ),
    )


def _activities(evidence: Evidence) -> Iterator[ActivityRun]:
    return (run for history in evidence.histories for run in history.activities)


_PROOFS: Sequence[Callable[[Evidence], Proof]] = (
    every_ticket_ends,
    every_change_happens_once,
    no_recorded_call_is_repeated,
    no_activity_completes_twice,
    every_history_replays,
    the_record_is_whole,
)
