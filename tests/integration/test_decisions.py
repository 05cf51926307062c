"""Decisions early, late, twice and by the thousand: each gets an exact answer, and nothing is changed twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, tzinfo
from typing import Any, Self

import psycopg
import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowUpdateStage

from standfast import cluster, signing
from standfast.decision import Decision, DecisionRecord, DecisionVerdict, Mode, Refusal
from standfast.errors import DecisionRefused
from standfast.outcome import State
from standfast.view import TicketView
from standfast.workflow import MAX_REFUSED
from tests.integration.installation import CONSTRAINTS, Installation, installed

APPROVE, REJECT = DecisionVerdict.APPROVE, DecisionVerdict.REJECT

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def temporal(installation: Installation) -> Client:
    return await cluster.connect(installation.settings)


def refund(order: int) -> dict[str, Any]:
    """A plan that needs a person."""
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    return {"operations": [{"sql": sql, "params": [order]}]}


async def waiting(installation: Installation, order: int) -> TicketView:
    return await installation.until_waiting(await installation.submit(refund(order), subject={"order_id": order}))


def approval(installation: Installation, view: TicketView, by: str = "ben@example.com") -> Decision:
    """A signed approval, which can be delivered more than once."""
    assert view.report is not None
    seen = {"plan_digest": view.report.plan_digest, "fingerprint": view.report.fingerprint}
    return installation.client.signed(view.workflow_id, verdict=APPROVE, by=by, mode=Mode.CLI, **seen)


async def answers(*decisions: Any) -> list[DecisionRecord | DecisionRefused]:
    """Wait for all answers: a record or a refusal, nothing else."""
    answered = await asyncio.gather(*decisions, return_exceptions=True)
    unexpected = [answer for answer in answered if not isinstance(answer, DecisionRecord | DecisionRefused)]
    assert unexpected == []
    return answered  # type: ignore[return-value]  # just checked


def audited(installation: Installation, workflow_id: str) -> Counter[str]:
    """Count the decisions that are on record about a ticket, by kind."""
    with psycopg.connect(installation.control_url) as connection:
        query = "SELECT kind FROM standfast.audit WHERE workflow_id = %s AND kind LIKE 'decision%%'"
        rows = connection.execute(query, [workflow_id])
        return Counter(kind for (kind,) in rows)


async def assert_refunded_once(installation: Installation, view: TicketView, order: int) -> None:
    assert (await installation.client.wait(view.workflow_id)).state is State.DONE
    assert len(installation.ledger(view.workflow_id)) == 1
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = %s", order) == [(1,)]


async def test_of_a_thousand_approvals_at_once_one_counts_and_every_other_is_told_why_not(
    installation: Installation,
) -> None:
    view = await waiting(installation, 1000)
    people = [f"p{number}@example.com" for number in range(1000)]
    answered = await answers(*(installation.decide(view, APPROVE, by=by) for by in people))
    await assert_refunded_once(installation, view, 1000)
    (counted,) = [answer for answer in answered if isinstance(answer, DecisionRecord)]
    refusals = [answer for answer in answered if isinstance(answer, DecisionRefused)]
    assert {refusal.reason for refusal in refusals} <= {Refusal.NOT_WAITING, Refusal.TOO_MANY_REFUSED}
    assert all(
        counted.by in str(refusal) or "has ended already" in str(refusal)
        for refusal in refusals
        if refusal.reason == Refusal.NOT_WAITING
    )
    assert audited(installation, view.workflow_id)["decision"] == 1


async def test_the_same_decision_many_times_is_one_even_after_the_end(
    installation: Installation, temporal: Client
) -> None:
    view = await waiting(installation, 1001)
    decision = approval(installation, view)
    handle = temporal.get_workflow_handle(view.workflow_id)
    signals = asyncio.gather(*(handle.signal("decide", decision) for _ in range(20)))
    answered = await answers(*(installation.client.deliver(view.workflow_id, decision) for _ in range(20)))
    await signals
    assert len(set(map(repr, answered))) == 1
    await assert_refunded_once(installation, view, 1001)
    (again,) = await answers(installation.client.deliver(view.workflow_id, decision))
    assert again == answered[0]
    assert audited(installation, view.workflow_id) == {"decision": 1}


async def test_a_storm_of_signals_counts_once(installation: Installation, temporal: Client) -> None:
    view = await waiting(installation, 1002)
    handle = temporal.get_workflow_handle(view.workflow_id)
    people = [f"p{number}@example.com" for number in range(200)]
    await asyncio.gather(*(handle.signal("decide", approval(installation, view, by)) for by in people))
    await assert_refunded_once(installation, view, 1002)
    recorded = audited(installation, view.workflow_id)
    assert recorded["decision"] == 1
    assert recorded["decision.refused"] <= MAX_REFUSED


async def test_an_approval_among_garbage_counts(installation: Installation) -> None:
    view = await waiting(installation, 1003)
    *refused, counted = await answers(
        *(installation.client.deliver(view.workflow_id, forged(installation, view)) for _ in range(40)),
        *(installation.decide(view, APPROVE, plan_digest="0" * 64) for _ in range(40)),
        installation.decide(view, APPROVE),
    )
    assert isinstance(counted, DecisionRecord)
    assert {r.reason for r in refused if isinstance(r, DecisionRefused)} == {Refusal.BAD_SIGNATURE, Refusal.STALE_PLAN}
    await assert_refunded_once(installation, view, 1003)


def forged(installation: Installation, view: TicketView) -> Decision:
    """An approval that was changed after it was signed."""
    return approval(installation, view).model_copy(update={"by": "eve@example.com"})


async def test_a_decision_while_it_is_planned_is_refused_and_its_plan_still_waits(
    installation: Installation, temporal: Client
) -> None:
    with psycopg.connect(installation.owner_url) as held:
        held.execute("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE")  # whoever reads the context has to wait
        workflow_id = await installation.submit(refund(1004), subject={"order_id": 1004})
        early = installation.client.signed(
            workflow_id, verdict=APPROVE, by="ben@example.com", mode=Mode.CLI, plan_digest="d", fingerprint="f"
        )
        (by_update,) = await answers(installation.client.deliver(workflow_id, early))
        await temporal.get_workflow_handle(workflow_id).signal("decide", early)
        await installation.until(workflow_id, lambda view: len(view.decisions) == 2)
        held.rollback()
    assert isinstance(by_update, DecisionRefused)
    assert by_update.reason == Refusal.NOT_WAITING
    assert "not waiting for a decision" in str(by_update)
    view = await installation.until_waiting(workflow_id)
    assert view.approvals == ()
    await installation.decide(view, REJECT, comment="no")


async def test_a_decision_that_is_earlier_than_the_end_of_the_validation_waits_for_it_and_counts(
    installation: Installation, temporal: Client
) -> None:
    twin = await waiting(installation, 1008)
    with psycopg.connect(installation.owner_url) as held:
        held.execute("LOCK TABLE shop.refunds IN ACCESS EXCLUSIVE MODE")  # the rehearsal has to wait
        workflow_id = await installation.submit(refund(1008))
        await installation.until(workflow_id, lambda view: view.state is State.VALIDATING)
        early = approval(installation, twin.model_copy(update={"workflow_id": workflow_id}))
        answer = await temporal.get_workflow_handle(workflow_id).start_update(
            "decide", early, wait_for_stage=WorkflowUpdateStage.ACCEPTED, result_type=DecisionRecord
        )
    assert (await answer.result()).refused is None
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    await installation.decide(twin, REJECT, comment="the other one was for the same order")


async def test_two_people_who_approve_at_once_make_one_approval(installation: Installation) -> None:
    view = await waiting(installation, 1005)
    ben, cy = (approval(installation, view, by) for by in ("ben@example.com", "cy@example.com"))
    answered = await answers(*(installation.client.deliver(view.workflow_id, one) for one in (ben, cy, cy, ben)))
    assert len([answer for answer in answered if isinstance(answer, DecisionRecord)]) == 2  # the winner's, twice
    await assert_refunded_once(installation, view, 1005)
    assert audited(installation, view.workflow_id)["decision"] == 1


@pytest.mark.parametrize(("order", "hours"), [(1006, -1), (1007, 1)])
async def test_a_decision_from_a_machine_whose_clock_is_wrong_is_told_so(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, order: int, hours: int
) -> None:
    view = await waiting(installation, order)

    class WrongClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=hours)

    with monkeypatch.context() as wrong:
        wrong.setattr(signing, "datetime", WrongClock)
        with pytest.raises(DecisionRefused, match=r"signed at .* set that clock") as refused:
            await installation.decide(view, APPROVE)
    assert refused.value.reason == Refusal.EXPIRED_SIGNATURE
    assert (await installation.client.view(view.workflow_id)).state is State.WAITING
    await installation.decide(view, APPROVE)
    await assert_refunded_once(installation, view, order)


async def test_only_whom_the_constraints_name_may_approve_and_everybody_may_reject(installation: Installation) -> None:
    await installation.constrain(
        f'{CONSTRAINTS}approvers: [{{tables: [shop.refunds], who: ["*@finance.example.com"]}}]'
    )
    try:
        view, other = await waiting(installation, 1090), await waiting(installation, 1091)
    finally:
        await installation.constrain(CONSTRAINTS)
    with pytest.raises(DecisionRefused) as refused:
        await installation.decide(view, APPROVE, by="ben@example.com")
    assert (refused.value.reason, refused.value.exit_code) == (Refusal.OUT_OF_SCOPE, 4)
    assert audited(installation, view.workflow_id) == {"decision.refused": 1}
    await installation.decide(view, APPROVE, by="Lea@finance.example.com")
    await assert_refunded_once(installation, view, 1090)
    await installation.decide(other, REJECT, by="ben@example.com", comment="not this one")
    assert (await installation.client.wait(other.workflow_id)).state is State.REJECTED
