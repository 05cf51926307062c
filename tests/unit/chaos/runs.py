"""A made-up run in which all is well: two tickets, an automatic and an approved one. Tests spoil one thing each."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from standfast.local.chaos.evidence import Evidence, LedgerRow, Period, RecordedCall, Submitted
from standfast.local.chaos.faults import How, ProcessFault
from standfast.local.chaos.histories import ActivityRun, End, History
from standfast.local.chaos.tickets import Kind, ScriptedTicket, expected_rows
from standfast.local.fake_provider import Exchange
from standfast.local.sample import TARGET
from standfast.outcome import Outcome, State
from standfast.verification.verify import Verified

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
AUTOMATIC = ScriptedTicket(number=1, kind=Kind.AUTOMATIC)
APPROVED = ScriptedTicket(number=2, kind=Kind.APPROVED)
VERIFIED = Verified(
    rows=8,
    head="a" * 64,
    kinds={"submission": 2, "verdict": 3, "decision": 1, "execution": 2},
    tickets=2,
    executions=2,
    histories=2,
    removed=0,
    unread=(),
    problems=(),
)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def activity(workflow_id: str, name: str, **changes: Any) -> ActivityRun:
    """An activity that took a second and one attempt."""
    run = ActivityRun(
        workflow_id=workflow_id,
        activity_id="1",
        name=name,
        queue="core",
        scheduled_at=at(0),
        started_at=at(0.1),
        closed_at=at(1),
        end=End.COMPLETED,
        attempt=1,
        identity="100@here",
        completions=1,
    )
    return replace(run, **changes)


def evidence() -> Evidence:
    """All is well."""
    tickets = (AUTOMATIC, APPROVED)
    done = Outcome(state=State.DONE, reason="Updates 1 row.")
    return Evidence(
        submitted=[Submitted(ticket=ticket, outcome=done) for ticket in tickets],
        histories=[history for ticket in tickets for history in _histories(ticket)],
        ledger=[LedgerRow(workflow_id=t.workflow_id, plan_digest=t.plan(1).digest(TARGET)) for t in tickets],
        rows=expected_rows(tickets),
        calls=[
            RecordedCall(
                workflow_id=_planner(ticket), activity_id="1", answer_id=f"answer-{ticket.number}", recorded_at=at(0.9)
            )
            for ticket in tickets
        ],
        exchanges=[
            Exchange(at=at(0.2), digest=f"call-{ticket.number}", answer_id=f"answer-{ticket.number}")
            for ticket in tickets
        ],
        faults=[Period(fault=ProcessFault(service="worker-core", how=How.KILL), began=at(100), ended=at(101))],
        replayed={history.workflow_id: "" for ticket in tickets for history in _histories(ticket)},
        verified=VERIFIED,
    )


def _histories(ticket: ScriptedTicket) -> Iterator[History]:
    execute = activity(ticket.workflow_id, "execute", queue="database")
    yield History(
        workflow_id=ticket.workflow_id,
        activities=(execute,),
        children=(_planner(ticket),),
    )
    model = activity(_planner(ticket), "agent__planner__model_request", queue="llm")
    yield History(workflow_id=_planner(ticket), activities=(model,))


def _planner(ticket: ScriptedTicket) -> str:
    return f"{ticket.workflow_id}/plan/1"
