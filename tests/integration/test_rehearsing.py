"""A ticket that is asked to rehearse its plan anew while somebody decides on it."""

from uuid import uuid4

import pytest

from standfast import cluster
from standfast.client import Standfast
from standfast.decision import DecisionVerdict, Mode
from standfast.outcome import State
from standfast.steps import Pool
from tests.integration.installation import CONSTRAINTS, Installation, prepare, serving
from tests.integration.test_dashboard import about, refund, waiting

APPROVE = DecisionVerdict.APPROVE


@pytest.mark.parametrize("first", ["decide", "rehearse"])
async def test_a_decision_that_meets_a_rehearsal_is_answered_and_can_be_taken_again(
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
            again = await shop.until(view.workflow_id, lambda now: now.state is State.WAITING and bool(now.decisions))
            (early,) = again.decisions
            assert early.message == "the ticket is validating, not waiting for a decision"
            await shop.decide(again, APPROVE)
            assert (await client.wait(view.workflow_id)).state is State.DONE
        assert len(shop.ledger(view.workflow_id)) == 1
