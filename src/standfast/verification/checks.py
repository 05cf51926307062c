"""The checks of one ticket: pure, so that each can be tried on evidence that is spoilt on purpose."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from standfast.audit import Kind, Row
from standfast.decision import DecisionRecord, DecisionVerdict, same_person
from standfast.report import Verdict
from standfast.verification.evidence import STEP_KINDS, STEPS, Executed, Problem, Ticket, place

_EXECUTIONS = frozenset({Kind.EXECUTION, Kind.UNDO})


def problems(ticket: Ticket) -> Iterator[Problem]:
    """Yield what is wrong about a ticket."""
    checks = (_unreadable, _missing, _added, _deleted, _executed)
    for found, look in chain.from_iterable(check(ticket) for check in checks):
        yield Problem(where=ticket.workflow_id, problem=found, look=look)


_Found = Iterator[tuple[str, str]]
"""What is wrong, and where to look."""


def _unreadable(ticket: Ticket) -> _Found:
    """What the histories say can be read."""
    for trace in ticket.traces:
        for why in trace.unreadable:
            found = f"the history of its run {trace.run_id} can't be compared: {why}"
            yield found, "standfast doctor, standfast keys list"


def _missing(ticket: Ticket) -> _Found:
    """What the workflow has put on record is there, as it was told."""
    known = {row.key: row for row in ticket.later}
    look = f"standfast history {ticket.workflow_id}"
    for trace in ticket.traces:
        for step in trace.steps.values():
            if not step.key:
                continue
            row = known.get(step.key)
            if row is None:
                yield f"its history has a completed {step.name}, whose row {step.key} is not in the chain", look
            elif row.kind not in STEPS[step.name]:
                yield f"row {row.sequence} is a {row.kind}, its history has a {step.name} there", look
            elif step.hash and step.hash != row.hash:
                told = f"row {row.sequence} ({row.kind}) has the hash {row.hash:.12}, its history has {step.hash:.12}"
                yield f"{told}: the chain was written anew", look
            elif step.decision is not None and not _same_decision(row, step.decision):
                told = f"{step.decision.verdict} by {step.decision.by}, {step.decision.refused or 'accepted'}"
                yield f"row {row.sequence} ({row.kind} by {row.actor}) says otherwise than its history: {told}", look


def _added(ticket: Ticket) -> _Found:
    """What is on record of a run was asked for by it."""
    for row in ticket.rows:
        run, asked = place(row)
        if row.kind not in STEP_KINDS or run in ticket.gone:
            continue
        step = ticket.by_run[run].steps.get(asked) if run else None
        if step is None or not step.asked_for(row):
            found = f"row {row.sequence} ({row.kind} by {row.actor}) was never asked for by its workflow"
            yield found, f"standfast audit --ticket {ticket.workflow_id}"


def _deleted(ticket: Ticket) -> _Found:
    """No history is missing that Temporal should still have."""
    look = f"standfast audit --ticket {ticket.workflow_id}"
    for run, newest in ticket.gone.items():
        if newest > ticket.kept_since:
            at = f"{newest:%Y-%m-%d %H:%M:%S} UTC"
            yield f"the history of its run {run}, which was at work at {at}, is gone before its time", look


def _executed(ticket: Ticket) -> _Found:
    """What is in the ledger was allowed and is on record, and what is on record is in the ledger."""
    if ticket.executed is None:
        return
    look = f"standfast.ledger of the target, standfast audit --ticket {ticket.workflow_id}"
    for one in ticket.executed:
        ends = [row for row in ticket.later if row.kind in _EXECUTIONS and _of(row, "plan_digest") == one.plan_digest]
        for found in (*_not_allowed(one, ticket, ends), *_not_concluded(one, ticket, ends)):
            yield f"plan {one.plan_digest:.12} was executed at {one.executed_at:%Y-%m-%d %H:%M:%S} UTC, {found}", look
    executed = {one.plan_digest for one in ticket.executed}
    for row in ticket.rows:
        if row.kind in _EXECUTIONS and _of(row, "plan_digest") not in executed:
            plan = str(_of(row, "plan_digest"))
            yield f"row {row.sequence} has an {row.kind} of plan {plan:.12}, which is not in the ledger", look


def _not_allowed(one: Executed, ticket: Ticket, ends: Sequence[Row]) -> Iterator[str]:
    before = ends[0].sequence if ends else None
    rows = (row for row in ticket.later if row.key in ticket.told)
    about = [row for row in rows if _same_effect(row, one) and (before is None or row.sequence < before)]
    verdicts = [row for row in about if row.kind == Kind.VERDICT]
    approvers = {
        row.actor for row in about if row.kind == Kind.DECISION and _of(row, "verdict") == DecisionVerdict.APPROVE.value
    }
    for name in one.approved_by:
        if not any(same_person(name, approver) for approver in approvers):
            yield f"approved by {name}, of whom no approval of this plan and these rows is on record"
    if not verdicts:
        yield "without a verdict on this plan and these rows on record"
        return
    verdict = _of(verdicts[-1], "verdict")
    required = _of(verdicts[-1], "approvals_required")
    if verdict == Verdict.APPROVAL.value:
        given = _people(approvers)
        if not isinstance(required, int) or given < max(1, required):
            yield f"with {given} approvals on record of the {required} that it needed"
    elif verdict != Verdict.AUTO.value:
        yield f"against the verdict {verdict}"


def _not_concluded(one: Executed, ticket: Ticket, ends: Sequence[Row]) -> Iterator[str]:
    if not ends:
        if not any(not trace.ended for trace in ticket.traces):
            last = ", ".join(sorted({trace.ended for trace in ticket.traces})) or "not known to Temporal any more"
            yield f"which is not on record as its end; its workflow is {last}"
        return
    end = ends[-1]
    recorded = (_of(end, "fingerprint"), _of(end, "approved_by"), _moment(_of(end, "executed_at")))
    if recorded != (one.fingerprint, list(one.approved_by), one.executed_at):
        yield f"otherwise than row {end.sequence} says: in rows, approvers or time"


def _same_effect(row: Row, one: Executed) -> bool:
    return (_of(row, "plan_digest"), _of(row, "fingerprint")) == (one.plan_digest, one.fingerprint)


def _same_decision(row: Row, record: DecisionRecord) -> bool:
    kind = Kind.DECISION if record.refused is None else Kind.REFUSED
    recorded = (row.kind, row.actor, _of(row, "verdict"), _of(row, "plan_digest"))
    return recorded == (kind.value, record.by, record.verdict.value, record.plan_digest)


def _people(names: set[str]) -> int:
    different: list[str] = []
    for name in names:
        if not any(same_person(name, known) for known in different):
            different.append(name)
    return len(different)


def _of(row: Row, name: str) -> Any:
    return row.content.get(name) if isinstance(row.content, dict) else None


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
