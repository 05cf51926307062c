"""From a plan to its safety report: parse, judge, rehearse, judge what was measured."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from standfast import steps
from standfast.domain import MASK
from standfast.errors import ServiceUnavailable
from standfast.plan import Operation, Plan
from standfast.report import Finding, OperationReport, Reminder, RowChange, SafetyReport, Undo, Verdict
from standfast.safety.constraints import ColumnClass, Constraints
from standfast.safety.effect import Effect, OperationEffect, TableChange
from standfast.safety.grammar.parsing import parse_statement
from standfast.safety.grammar.statement import Statement, StatementRefused
from standfast.safety.grounding import Ground, check_grounding
from standfast.safety.protocol import OperationRefused
from standfast.safety.rehearsal import Rehearsal, rehearse
from standfast.safety.resolution import resolve
from standfast.safety.rules import RULES, Case
from standfast.safety.undo import rows_digest
from standfast.store.connections import Connection
from standfast.ticket import Ticket

SHOWN_ROWS = 50
"""Rows of one operation that a report shows; all are counted, judged and part of the fingerprint."""
SHOWN_CHARACTERS = 1000
"""Of a value in a report; the whole one is in the ledger once it was executed."""
SHOWN_BYTES = 256 * 1024
"""Of all rows in a report, which has to fit into one message with everything else about its ticket."""
_HIDDEN = frozenset({ColumnClass.SECRET, ColumnClass.PII})
SHOWN_UNDO_BYTES = 64 * 1024
"""Of the undo in a report; what is executed is made anew of the rows that were really changed."""
_REVERSIBLE = frozenset({"select", "insert", "update", "delete", "merge", "explain"})
_OUT_OF_TIME = "57014"
_TOO_LONG = f"to rehearse the plan takes more than {steps.LONGEST_REHEARSAL.seconds} s; do less, or in another way"
_NOT_REHEARSED = Rehearsal(effect=Effect(operations=(), prints=()), undo=None, undo_proved=False)

Twins = AbstractAsyncContextManager[tuple[Connection, Connection]]


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a plan is judged by."""

    target: str
    constraints: Constraints
    ground: Ground | None
    """None to skip grounding."""
    now: datetime
    playbook_sql: frozenset[str] = frozenset()
    """Statements of known playbooks: their own literals are grounded."""
    solo: bool = False
    """True where there is one person only, who can't be a quorum."""
    expires_in: timedelta = timedelta(days=3)
    reminders: tuple[Reminder, ...] = ()
    recalled: steps.Recalled | None = None
    """If the plan takes another one back: what the ledger said about it."""
    patient: bool = False
    """Whether what runs out of time may be tried again: the server itself may be slow for a moment."""
    session: str | None = None
    """Application name of the rehearsal's transaction."""
    ticket: Ticket | None = None
    """None where a plan is checked for itself: conditions on tickets are skipped then."""

    @property
    def takes_back(self) -> bool:
        """Whether the plan takes another one back; a mere rehearsal doesn't ask the ledger what it says about it."""
        return self.recalled is not None or (self.ticket is not None and self.ticket.undo_of is not None)


@dataclass
class _Judged:
    """One operation on its way through validation."""

    operation: Operation
    statement: Statement | None = None
    findings: list[Finding] = field(default_factory=list)
    case: Case | None = None

    @property
    def blocked(self) -> bool:
        return any(finding.verdict is Verdict.BLOCK for finding in self.findings)

    def block(self, rule: str, message: str, *, mendable: bool) -> None:
        self.findings.append(Finding(rule=rule, verdict=Verdict.BLOCK, message=message, mendable=mendable))


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A plan's report, and what it stands on."""

    report: SafetyReport
    changes: tuple[TableChange, ...]
    """All rows that the plan changes, unmasked."""


async def assess(plan: Plan, circumstances: Circumstances, twins: Callable[[], Twins]) -> Assessment:
    """Judge and rehearse a plan. Nothing is changed: the rehearsal is rolled back.

    `twins` opens two connections to the target as the rehearser, the second one only to look.

    Raises:
        ServiceUnavailable: the target can't be reached, or its rows are locked by others, or it is too slow.
    """
    findings = list(_judge_plan(plan, circumstances))
    judged = [_parse(operation, circumstances.constraints) for operation in plan.operations]
    rehearsal = _NOT_REHEARSED
    if judged and not findings:
        rehearsal = await _measure(plan, judged, circumstances, twins)
        for operation, measured in zip(judged, rehearsal.effect.operations, strict=False):
            _judge_effect(operation, measured)
        findings += _judge_time(rehearsal)
        findings += _judge_total(judged, rehearsal.effect, circumstances.constraints)
        findings += _judge_undo(rehearsal)
        if circumstances.recalled is not None:
            findings += _judge_recalled(rehearsal, circumstances.recalled)
    report = _report(plan, circumstances, findings, judged, rehearsal)
    return Assessment(report=report, changes=rehearsal.effect.changes)


async def fingerprint(plan: Plan, circumstances: Circumstances, twins: Callable[[], Twins]) -> str:
    """Return the fingerprint that a report on the plan would have now. Nothing is changed.

    Raises: as `assess` does.
    """
    judged = [_parse(operation, circumstances.constraints) for operation in plan.operations]
    rehearsal = await _measure(plan, judged, circumstances, twins) if judged else _NOT_REHEARSED
    return rehearsal.effect.fingerprint


async def _measure(
    plan: Plan, judged: list[_Judged], circumstances: Circumstances, twins: Callable[[], Twins]
) -> Rehearsal:
    async with twins() as (change, observer):
        await _judge_statements(judged, circumstances, change)
        if any(operation.blocked for operation in judged):
            return _NOT_REHEARSED
        return await _rehearse(plan, judged, circumstances, change, observer)


def _judge_plan(plan: Plan, circumstances: Circumstances) -> Iterator[Finding]:
    if plan.declined:
        message = plan.summary or "the agent found no way to do what the ticket asks"
        yield Finding(rule="plan.declined", verdict=Verdict.BLOCK, message=f"{message} A person has to handle it.")
    limit = circumstances.constraints.limits.operations_per_plan
    if len(plan.operations) > limit and circumstances.recalled is None:
        message = f"the plan has {len(plan.operations)} operations, at most {limit} are allowed"
        yield Finding(rule="plan.size", verdict=Verdict.BLOCK, message=message, mendable=True)


def _parse(operation: Operation, constraints: Constraints) -> _Judged:
    judged = _Judged(operation)
    try:
        judged.statement = parse_statement(operation.sql, max_bytes=constraints.limits.statement_bytes)
    except StatementRefused as refused:
        judged.block(refused.rule, refused.message, mendable=refused.mendable)
        return judged
    numbers = judged.statement.parameters
    if numbers != set(range(1, len(operation.params) + 1)):
        written = ", ".join(f"${number}" for number in sorted(numbers)) or "none"
        message = f"has {len(operation.params)} parameters, the statement uses {written}"
        judged.block("statement.parameters", message, mendable=True)
    return judged


async def _judge_statements(judged: Sequence[_Judged], circumstances: Circumstances, connection: Connection) -> None:
    resolution = await resolve(connection, [j.statement for j in judged if j.statement is not None])
    await connection.rollback()
    for index, operation in enumerate(judged):
        if operation.statement is None:
            continue
        operation.case = Case(
            operation=operation.operation,
            statement=operation.statement,
            resolution=resolution,
            constraints=circumstances.constraints,
            now=circumstances.now,
            ticket=circumstances.ticket,
            takes_back=circumstances.takes_back,
            earlier=tuple(before.operation for before in judged[:index]),
        )
        operation.findings += await judge_statement(operation.case)
        if circumstances.ground is not None:
            operation.findings += check_grounding(
                operation.operation, operation.statement, circumstances.ground, circumstances.playbook_sql
            )


async def judge_statement(case: Case) -> list[Finding]:
    """Return what the rules find in a statement itself. One of them waits for another program, so in a thread."""
    return await asyncio.to_thread(lambda: [finding for rule in RULES for finding in rule.before(case)])


async def _rehearse(
    plan: Plan, judged: Sequence[_Judged], circumstances: Circumstances, change: Connection, observer: Connection
) -> Rehearsal:
    constraints = circumstances.constraints
    targets = [operation.case.named_tables if operation.case else frozenset() for operation in judged]
    try:
        rehearsal = await rehearse(
            plan,
            change,
            observer,
            limits=constraints.limits,
            targets=targets,
            kept=frozenset(t.name for t in constraints.tables if t.trigger_writes).difference(*targets),
            hidden=frozenset(f"{c.table}.{c.name}" for c in constraints.columns if c.column_class in _HIDDEN),
            session=circumstances.session,
        )
    except TimeoutError as late:
        if circumstances.patient:
            raise ServiceUnavailable(f"target {circumstances.target!r}: {_TOO_LONG}") from late
        return replace(_NOT_REHEARSED, in_time=False)
    except OperationRefused as refused:
        if refused.sqlstate == _OUT_OF_TIME and circumstances.patient:
            raise ServiceUnavailable(f"target {circumstances.target!r}: {refused}") from refused
        message = f"the server refuses it: {refused.message} ({refused.sqlstate})"
        judged[refused.index].block("operation.refused", message, mendable=True)
        return _NOT_REHEARSED
    kinds = {operation.statement.kind for operation in judged if operation.statement is not None}
    if lasting := sorted(kinds - _REVERSIBLE):
        undo = Undo(remarks=(f"{', '.join(lasting)} changes more than rows",))
        return replace(rehearsal, undo=undo, undo_proved=False)
    return rehearsal


def _judge_effect(judged: _Judged, effect: OperationEffect) -> None:
    if judged.case is not None:
        for rule in RULES:
            judged.findings += rule.after(judged.case, effect)


def _judge_time(rehearsal: Rehearsal) -> Iterator[Finding]:
    if not rehearsal.in_time:
        yield Finding(rule="plan.time", verdict=Verdict.BLOCK, message=_TOO_LONG, mendable=True)


def _judge_total(judged: Sequence[_Judged], effect: Effect, constraints: Constraints) -> Iterator[Finding]:
    counted = (j.case.counted(e) for j, e in zip(judged, effect.operations, strict=False) if j.case is not None)
    rows = sum(counts.total for by_table in counted for counts in by_table.values())
    limit = constraints.limits.auto_rows_per_plan
    if rows > limit:
        message = f"the plan changes {rows} rows, above {limit} a person decides"
        yield Finding(rule="rows.plan", verdict=Verdict.APPROVAL, message=message, evidence={"rows": rows})


def _judge_undo(rehearsal: Rehearsal) -> Iterator[Finding]:
    if rehearsal.undo is not None and not rehearsal.undo_proved:
        message = f"the plan can't be taken back: {'; '.join(rehearsal.undo.remarks)}"
        verdict = Verdict.AUTO if rehearsal.undo.forbidden else Verdict.APPROVAL  # who forbids it knows it
        yield Finding(rule="undo.unproved", verdict=verdict, message=message)


def _judge_recalled(rehearsal: Rehearsal, recalled: steps.Recalled) -> Iterator[Finding]:
    """Taking back is a person's decision, and only good for rows that nobody has touched since."""
    yield Finding(rule="undo.asked", verdict=Verdict.APPROVAL, message="takes an executed plan back")
    found = rows_digest((c.table, c.before) for c in rehearsal.effect.changes if c.table not in recalled.left)
    if rehearsal.undo is not None and found != recalled.rows_digest:
        message = "rows that the plan changed are not as it left them; taking it back would undo what others did since"
        yield Finding(rule="undo.moved", verdict=Verdict.BLOCK, message=message)


def _report(
    plan: Plan,
    circumstances: Circumstances,
    findings: list[Finding],
    judged: Sequence[_Judged],
    rehearsal: Rehearsal,
) -> SafetyReport:
    effect = rehearsal.effect
    effects = effect.operations or tuple(OperationEffect() for _ in judged)
    shown = _Shown(circumstances.constraints)
    operations = tuple(
        OperationReport(
            index=index,
            verdict=Verdict.worst(finding.verdict for finding in operation.findings),
            kind=operation.statement.kind if operation.statement else "unknown",
            findings=tuple(operation.findings),
            rows=(rows := shown.take(measured.rows[:SHOWN_ROWS])),
            counts=dict(measured.counts),
            truncated=measured.truncated or len(measured.rows) > len(rows),
            locks=dict(measured.locks),
            sequences=measured.sequences,
            seconds=round(measured.seconds, 4),
        )
        for index, (operation, measured) in enumerate(zip(judged, effects, strict=True))
    )
    return SafetyReport(
        verdict=Verdict.worst([f.verdict for f in findings] + [o.verdict for o in operations]),
        plan_digest=plan.digest(circumstances.target),
        fingerprint=effect.fingerprint,
        volatile=tuple(sorted(effect.volatile)),
        rehearsed_at=circumstances.now,
        operations=operations,
        findings=tuple(findings),
        undo=rehearsal.undo and _shown_undo(rehearsal.undo),
        undo_proved=rehearsal.undo_proved,
        approvals_required=_approvals(circumstances, judged, effect),
        approver_scopes=_approver_scopes(circumstances.constraints, findings, operations, judged),
        expires_in=circumstances.expires_in,
        reminders=circumstances.reminders,
    )


def _shown_undo(undo: Undo) -> Undo:
    """Return the undo, without its operations where they are too long to be read anyway."""
    size = len(undo.model_dump_json())
    if size <= SHOWN_UNDO_BYTES:
        return undo
    remark = f"its {len(undo.operations)} operations are too long to be shown ({size // 1024} KiB)"
    return undo.model_copy(update={"operations": (), "remarks": (remark, *undo.remarks)})


class _Shown:
    """Rows as the report shows them: masked, long values cut, and no more of them than fit."""

    def __init__(self, constraints: Constraints) -> None:
        self._constraints = constraints
        self._bytes_left = SHOWN_BYTES

    def take(self, changes: Iterable[RowChange]) -> tuple[RowChange, ...]:
        """Return the first of `changes` that still fit."""
        taken: list[RowChange] = []
        for change in changes:
            shown = _cut(_masked(change, self._constraints))
            self._bytes_left -= len(shown.model_dump_json())
            if self._bytes_left < 0:
                break
            taken.append(shown)
        return tuple(taken)


def _cut(change: RowChange) -> RowChange:
    def cut(values: dict[str, Any] | None) -> dict[str, Any] | None:
        return values and {name: _cut_value(value) for name, value in values.items()}

    return change.model_copy(update={"key": cut(change.key), "before": cut(change.before), "after": cut(change.after)})


def _cut_value(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= SHOWN_CHARACTERS:
        return value
    return f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


def _masked(change: RowChange, constraints: Constraints) -> RowChange:
    """Return the change without the values of secret and personal columns: a report is kept, and shown to many."""
    hidden = {c.name for c in constraints.columns if c.table == change.table and c.column_class in _HIDDEN}

    def mask(values: dict[str, Any]) -> dict[str, Any]:
        return {name: MASK if name in hidden and value is not None else value for name, value in values.items()}

    return change.model_copy(
        update={
            "key": mask(change.key),
            "before": change.before and mask(change.before),
            "after": change.after and mask(change.after),
        }
    )


def _approvals(circumstances: Circumstances, judged: Sequence[_Judged], effect: Effect) -> int:
    quorum = circumstances.constraints.quorum
    if circumstances.solo:
        return 1
    critical = any(
        counts.deleted and operation.case is not None and table not in operation.case.named_tables
        for operation, measured in zip(judged, effect.operations, strict=False)
        for table, counts in measured.counts.items()
    )
    return max(quorum.approval, quorum.critical) if critical else quorum.approval


def _approver_scopes(
    constraints: Constraints,
    findings: Iterable[Finding],
    operations: Iterable[OperationReport],
    judged: Iterable[_Judged],
) -> tuple[tuple[str, ...], ...]:
    """Return the scopes of approvers that apply to a plan: by the tables that it writes, by the rules that ask."""
    operations = list(operations)
    tables = {table for operation in operations for table in operation.counts}
    tables |= {table for operation in judged if operation.case is not None for table in operation.case.named_tables}
    found = [*findings, *(finding for operation in operations for finding in operation.findings)]
    rules = {finding.rule for finding in found if finding.verdict is Verdict.APPROVAL}
    return tuple(scope.who for scope in constraints.approvers if scope.applies(tables, rules))
