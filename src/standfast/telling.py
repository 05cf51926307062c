"""What a step's result says in short, for the timeline: words for people, and the same as details."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter

from standfast import steps
from standfast.carried import Carried, Start
from standfast.context import Context
from standfast.decision import DecisionRecord
from standfast.outcome import Execution, Outcome
from standfast.plan import Plan
from standfast.report import SafetyReport, Verdict
from standfast.spending import ModelCall
from standfast.steps import Filling, Recalled, RemindRequest, Settled
from standfast.ticket import Ticket

_TOOL_REFUSALS = ("model_retry", "tool_failed", "run_cancelled")
_SHORT = 200  # characters


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a step says of itself."""

    words: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False
    """True if it is worth a look: something was refused, blocked or sent back."""


NOTHING = Told()


async def of_step(
    activity: str, asked: Sequence[Payload], answered: Sequence[Payload], converter: DataConverter
) -> Told:
    """Return what an activity of this type says, by what it was asked and what it answered.

    Raises:
        UnknownKey: a key is missing.
        PayloadRefused: a payload was changed, or belongs to another workflow than `converter`.
        PayloadLost: one was stored, and isn't there any more.
    """
    if activity == steps.REMIND.name:
        return _reminder(await _read(asked, RemindRequest, converter))
    if activity in _STEPS:
        kind, tell = _STEPS[activity]
        return tell(await _read(answered, kind, converter))
    if activity.endswith("__call_tool"):  # in pydantic-ai's names of activities
        return _tool(await _read(answered, dict[str, Any], converter))
    return NOTHING


async def of_plan(answered: Sequence[Payload], converter: DataConverter) -> Told:
    """Return what a planner workflow has planned; errors as of `of_step`."""
    return _plan(await _read(answered, Plan, converter))


async def of_end(answered: Sequence[Payload], converter: DataConverter) -> Told:
    """Return how a ticket ended; errors as of `of_step`."""
    outcome = await _read(answered, Outcome, converter)
    return Told(words=f"{outcome.state}: {outcome.reason}", detail={"state": outcome.state})


async def of_start(given: Sequence[Payload], converter: DataConverter) -> Told:
    """Return what a ticket's workflow was started with; errors as of `of_step`."""
    ticket = await ticket_at_start(given, converter)
    if ticket is None:
        return Told(words="not with a ticket", failed=True)
    words = f"for {ticket.requester}" + (f", takes {ticket.undo_of} back" if ticket.undo_of else "")
    return Told(words=words, detail={"requester": ticket.requester, "undo_of": ticket.undo_of})


async def ticket_at_start(given: Sequence[Payload], converter: DataConverter) -> Ticket | None:
    """Return the ticket that a run was started with, None if there was none; errors as of `of_step`."""
    start = (await _read(given, Start, converter)).root
    if isinstance(start, Carried):
        return start.view.ticket
    return start if isinstance(start, Ticket) else None


def of_call(call: ModelCall) -> Told:
    """Return what a model call took, as far as it is on record."""
    tokens = "tokens not known"
    if call.input_tokens is not None and call.output_tokens is not None:
        tokens = f"{call.input_tokens:,} tokens in, {call.output_tokens:,} out"
    price = "price not known" if call.usd is None else f"{call.usd:.4f} USD"
    again = f", not paid again {_count(call.reused, 'time')}" if call.reused else ""
    kept = call.model_dump(include={"model", "input_tokens", "output_tokens", "usd", "reused"})
    return Told(words=f"{call.model or 'model not known'}: {tokens}, {price}{again}", detail=kept)


async def _read(payloads: Sequence[Payload], kind: type[Any], converter: DataConverter) -> Any:
    return (await converter.decode(payloads, [kind]))[0]


def _context(context: Context) -> Told:
    rows = sum(len(found.rows) for found in context.facts)
    detail = {"facts": rows, "queries": len(context.facts), "tables": len(context.tables)}
    words = f"{_count(rows, 'row')} by {_count(len(context.facts), 'query', 'queries')}"
    return Told(words=f"{words}, {_count(len(context.tables), 'table')} described", detail=detail)


def _plan(plan: Plan) -> Told:
    number = len(plan.operations)
    words = "no plan: the agent declined" if plan.declined else _count(number, "operation")
    return Told(words=words, detail={"operations": number, "summary": plan.summary[:_SHORT]}, failed=plan.declined)


def _recalled(recalled: Recalled) -> Told:
    if recalled.operations is None:
        return Told(words=f"can't be taken back: {'; '.join(recalled.remarks)}", failed=True)
    number = len(recalled.operations)
    return Told(words=_count(number, "operation"), detail={"operations": number, "remarks": recalled.remarks})


def _filled(filling: Filling) -> Told:
    if filling.plan is None:
        return Told(words=f"sent back: {filling.refused[:_SHORT]}", detail={"outcome": "refused"}, failed=True)
    return _plan(filling.plan)


def _report(report: SafetyReport) -> Told:
    findings = [{"rule": f.rule, "verdict": f.verdict, "message": f.message} for f in report.all_findings]
    rules = ", ".join(dict.fromkeys(f.rule for f in report.all_findings if f.verdict is not Verdict.AUTO))
    return Told(
        words=f"{report.verdict}: {rules or 'nothing speaks against it'}",
        detail={"verdict": report.verdict, "plan_digest": report.plan_digest, "findings": findings},
        failed=report.verdict is Verdict.BLOCK,
    )


def _decision(record: DecisionRecord) -> Told:
    answer = f"refused, {record.refused}: {record.message}" if record.refused else "counts"
    who = f"{record.by} ({record.mode or 'without a proof'})"
    kept = record.model_dump(mode="json", include={"verdict", "by", "mode", "comment", "refused", "receipt"})
    return Told(words=f"{record.verdict} by {who}: {answer}", detail=kept, failed=record.refused is not None)


def _reminder(request: RemindRequest) -> Told:
    approvers = request.reminder.approvers
    words = f"from now on {', '.join(approvers)} may approve, too" if approvers else ""
    return Told(words=words, detail={"approvers": approvers})


def _execution(execution: Execution) -> Told:
    changed = [{table: counts.model_dump() for table, counts in by.items()} for by in execution.counts]
    rows = sum(counts.total for by in execution.counts for counts in by.values())
    ledger = {"plan_digest": execution.plan_digest, "executed_at": execution.executed_at.isoformat()}
    return Told(
        words=f"{_count(rows, 'row')} changed, on the ledger as plan {execution.plan_digest[:12]}",
        detail={"rows": rows, "changed": changed, "ledger": ledger, "approved_by": execution.approved_by},
    )


def _settled(settled: Settled) -> Told:
    if settled.execution is None:
        return Told(words="the ledger says: not executed", detail={"rows": 0})
    return _execution(settled.execution)


def _receipt(receipt: str) -> Told:
    return Told(detail={"receipt": receipt})


def _tool(answer: Mapping[str, Any]) -> Told:
    """Return what a tool answered, as pydantic-ai records it; of rows their number, of others' tools the size."""
    kind, result = answer.get("kind", ""), answer.get("result")
    if kind == "validation_error":
        reasons = "; ".join(str(error.get("msg", "")) for error in answer.get("errors", ()))
        return Told(words=f"sent back: {reasons[:_SHORT]}", detail={"outcome": kind}, failed=True)
    if kind in _TOOL_REFUSALS:
        return Told(words=f"sent back: {str(answer['message'])[:_SHORT]}", detail={"outcome": kind}, failed=True)
    if isinstance(result, Mapping) and isinstance(result.get("rows"), list):
        more = ", and there are more" if result.get("more") else ""
        return Told(words=f"{_count(len(result['rows']), 'row')}{more}", detail={"outcome": "answered"})
    return Told(words="answered", detail={"outcome": "answered"})


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


_STEPS: Mapping[str, tuple[type[Any], Callable[[Any], Told]]] = {
    steps.GATHER.name: (Context, _context),
    steps.PLAN.name: (Plan, _plan),
    steps.RECALL.name: (Recalled, _recalled),
    steps.FILL_PLAYBOOK.name: (Filling, _filled),
    steps.VALIDATE.name: (SafetyReport, _report),
    steps.REVIEW.name: (DecisionRecord, _decision),
    steps.EXECUTE.name: (Execution, _execution),
    steps.SETTLE.name: (Settled, _settled),
    steps.CONCLUDE.name: (str, _receipt),
}
