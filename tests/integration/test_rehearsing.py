"""A ticket that is asked to rehearse its plan anew while somebody decides on it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle

from standfast import cluster, steps
from standfast.client import Standfast
from standfast.dashboard.deciding import CONFIRMATION, DecisionForm, deliver
from standfast.dashboard.sessions import Session
from standfast.decision import DecisionVerdict, Mode, Refusal
from standfast.errors import DecisionRefused
from standfast.outcome import State
from standfast.report import Verdict
from standfast.scope import Scope
from standfast.steps import Pool
from standfast.view import TicketView
from tests.integration.installation import CONSTRAINTS, Installation, installed, prepare, serving
from tests.integration.test_dashboard import about, delete, refund, waiting
from tests.processes import eventually

APPROVE = DecisionVerdict.APPROVE
FROZEN = f"""{CONSTRAINTS}freezes:
  - {{from: "2020-01-01T00:00Z", to: "2100-01-01T00:00Z", verdict: approval, reason: "stocktaking"}}
"""


@pytest.mark.parametrize("first", ["decide", "rehearse"])
async def test_of_a_decision_and_a_rehearsal_that_meet_the_first_one_counts(
    postgres: str, temporal_server: str, first: str
) -> None:
    settings, owner = await prepare(postgres, temporal_server, f"t{uuid4().hex[:8]}")
    async with Standfast.connect(settings) as client, serving(settings, Pool.LLM, Pool.DATABASE):
        shop = Installation(settings, client, owner)
        await shop.constrain(CONSTRAINTS)
        async with serving(settings, Pool.CORE):
            view = await waiting(shop, refund(1050), **about(1050))
        assert view.report is not None
        seen = {"plan_digest": view.report.plan_digest, "fingerprint": view.report.fingerprint}
        decision = client.signed(view.workflow_id, verdict=APPROVE, by="ben@example.com", mode=Mode.CLI, **seen)
        ticket = (await cluster.connect(settings)).get_workflow_handle(view.workflow_id)
        for signal in (first, *{"decide", "rehearse"} - {first}):  # they reach the workflow together
            await (ticket.signal(signal, decision) if signal == "decide" else ticket.signal(signal))
        async with serving(settings, Pool.CORE):
            if first == "rehearse":
                again = await shop.until(
                    view.workflow_id, lambda now: now.state is State.WAITING and bool(now.decisions)
                )
                (early,) = again.decisions
                assert early.message == "the ticket is validating, not waiting for a decision"
                await shop.decide(again, APPROVE)
            assert (await client.wait(view.workflow_id)).state is State.DONE
        assert len(shop.ledger(view.workflow_id)) == 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as shop:
        yield shop


async def waits_again(shop: Installation, before: TicketView) -> TicketView:
    return await shop.until(
        before.workflow_id, lambda now: now.state is State.WAITING and now.report not in (None, before.report)
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_plan_that_people_are_asked_about_does_not_run_by_itself_after_it_was_rehearsed_again(
    shop: Installation,
) -> None:
    view = await waiting(shop, refund(1051), **about(1051))
    await shop.constrain(f"{CONSTRAINTS}  - {{name: shop.refunds, writes: auto}}\n")
    await shop.client.rehearse(view.workflow_id, by="ben@example.com")
    again = await waits_again(shop, view)
    assert again.report is not None
    assert (again.report.verdict, shop.ledger(view.workflow_id)) == (Verdict.AUTO, [])
    await shop.decide(again, APPROVE)
    assert (await shop.client.wait(view.workflow_id)).state is State.DONE
    await shop.constrain(CONSTRAINTS)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_approval_does_not_count_for_what_the_rules_said_after_it_was_sent(shop: Installation) -> None:
    view = await waiting(shop, refund(1052), **about(1052))
    await shop.constrain(FROZEN)
    with psycopg.connect(shop.owner_url) as held:
        held.execute("LOCK TABLE shop.refunds IN ACCESS EXCLUSIVE MODE")  # the validation has to wait
        await shop.client.rehearse(view.workflow_id, by="ben@example.com")
        await shop.until(view.workflow_id, lambda now: now.state is State.VALIDATING)
        deciding = asyncio.create_task(shop.decide(view, APPROVE))
        ticket = (await cluster.connect(shop.settings)).get_workflow_handle(view.workflow_id)
        await eventually(partial(accepted, ticket), bool)
    with pytest.raises(DecisionRefused) as refused:
        await deciding
    await shop.constrain(CONSTRAINTS)
    assert refused.value.reason == Refusal.JUDGED_ANEW
    again = await waits_again(shop, view)
    assert again.approvals == ()
    await shop.decide(again, DecisionVerdict.REJECT, comment="clean up")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_approval_counts_for_the_judgement_that_was_shown_alone(shop: Installation) -> None:
    view = await waiting(shop, refund(1058), **about(1058))
    await shop.constrain(FROZEN)
    await shop.client.rehearse(view.workflow_id, by="ben@example.com")
    again = await waits_again(shop, view)
    await shop.constrain(CONSTRAINTS)
    assert view.report is not None
    assert again.report is not None
    assert (again.report.plan_digest, again.report.fingerprint) == (view.report.plan_digest, view.report.fingerprint)
    with pytest.raises(DecisionRefused) as refused:
        await shop.decide(again, APPROVE, judgement=view.report.judgement)
    assert refused.value.reason == Refusal.JUDGED_ANEW
    await shop.decide(again, APPROVE, judgement=again.report.judgement)
    assert (await shop.client.wait(view.workflow_id)).state is State.DONE


async def accepted(ticket: WorkflowHandle[Any, Any]) -> list[HistoryEvent]:
    events = (await ticket.fetch_history()).events
    return [e for e in events if e.HasField("workflow_execution_update_accepted_event_attributes")]


@pytest.mark.asyncio(loop_scope="module")
async def test_who_asks_for_changes_takes_back_what_was_approved_before(shop: Installation) -> None:
    view = await waiting(shop, refund(1053), **about(1053))
    await shop.constrain(FROZEN)
    await shop.decide(view, APPROVE)  # and is asked again, since something new speaks against it
    again = await waits_again(shop, view)
    await shop.constrain(CONSTRAINTS)
    await shop.decide(again, DecisionVerdict.REVISE, comment="not like this")
    same = await shop.until(view.workflow_id, lambda now: now.plan_number == 2 and now.state is State.WAITING)
    assert same.plan is not None
    assert view.plan is not None
    assert (same.plan.operations, shop.ledger(view.workflow_id)) == (view.plan.operations, [])
    await shop.decide(same, DecisionVerdict.REJECT, comment="clean up")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_undo_is_rehearsed_as_the_undo_that_it_is(shop: Installation) -> None:
    view = await waiting(shop, refund(1054), **about(1054))
    await shop.decide(view, APPROVE)
    await shop.client.wait(view.workflow_id)
    await shop.constrain(f"{CONSTRAINTS}predicates:\n  - {{table: shop.refunds, columns: [order_id]}}\n")
    undo = await shop.until_waiting((await shop.client.undo(view.workflow_id, by="ben@example.com")).workflow_id)
    found = await shop.client.rehearsed(undo)
    await shop.constrain(CONSTRAINTS)
    assert undo.report is not None
    assert found is not None
    assert found.fingerprint == undo.report.fingerprint
    await shop.decide(undo, DecisionVerdict.REJECT, by="cy@example.com", comment="clean up")


@pytest.mark.asyncio(loop_scope="module")
async def test_people_are_asked_again_about_another_effect_even_if_no_rule_would(shop: Installation) -> None:
    view = await waiting(shop, refund(1055), **about(1055))
    shop.execute("UPDATE shop.orders SET total = 8 WHERE id = 1055")
    await shop.constrain(f"{CONSTRAINTS}  - {{name: shop.refunds, writes: auto}}\n")
    await shop.decide(view, APPROVE)
    again = await waits_again(shop, view)
    await shop.constrain(CONSTRAINTS)
    assert again.report is not None
    assert (again.report.verdict, again.approvals, shop.ledger(view.workflow_id)) == (Verdict.AUTO, (), [])
    await shop.decide(again, DecisionVerdict.REJECT, comment="clean up")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_an_approval_takes_is_asked_for_during_a_rehearsal_too(shop: Installation) -> None:
    view = await waiting(shop, delete(1056), **about(1056))
    assert view.report is not None
    ben = Session(user="ben@example.com", mode=Mode.SESSION, scopes=frozenset(Scope))
    seen = {"plan_digest": view.report.plan_digest, "fingerprint": view.report.fingerprint}
    with psycopg.connect(shop.owner_url) as held:
        held.execute("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE")
        await shop.client.rehearse(view.workflow_id, by="cy@example.com")
        await shop.until(view.workflow_id, lambda now: now.state is State.VALIDATING)
        with pytest.raises(DecisionRefused) as refused:
            await deliver(shop.client, view.workflow_id, ben, DecisionForm(verdict=APPROVE, **seen))
    assert refused.value.reason == CONFIRMATION
    await shop.decide(await waits_again(shop, view), DecisionVerdict.REJECT, comment="clean up")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_decision_is_not_kept_waiting_for_a_validation_that_takes_long(
    shop: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "DECISION_HELD", timedelta(seconds=0.5))
    view = await waiting(shop, refund(1057), **about(1057))
    with psycopg.connect(shop.owner_url) as held:
        held.execute("LOCK TABLE shop.refunds IN ACCESS EXCLUSIVE MODE")
        await shop.client.rehearse(view.workflow_id, by="ben@example.com")
        await shop.until(view.workflow_id, lambda now: now.state is State.VALIDATING)
        with pytest.raises(DecisionRefused, match="the ticket is validating"):
            await shop.decide(view, APPROVE)
    await shop.decide(await waits_again(shop, view), DecisionVerdict.REJECT, comment="clean up")
