"""A ticket in, a safe database change out; and whatever people say meanwhile gets an exact answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from standfast import cluster, steps
from standfast.client import Standfast
from standfast.decision import DecisionVerdict, Mode, Refusal
from standfast.errors import DecisionRefused, TicketConflict, UnknownTarget, UnknownTicket
from standfast.execution.activity import Executor
from standfast.local.ports import free_port
from standfast.local.supervisor import Supervisor
from standfast.local.temporal import TemporalServer
from standfast.outcome import Execution, State
from standfast.report import Verdict
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.store.databases import Databases
from standfast.store.sql import statements
from standfast.store.takeover import session_name
from standfast.ticket import Ticket
from standfast.view import TicketView
from tests.integration.installation import CONSTRAINTS, ENCRYPTION, Installation, installed, prepare, serving
from tests.processes import eventually, until

APPROVE, REJECT, REVISE = DecisionVerdict.APPROVE, DecisionVerdict.REJECT, DecisionVerdict.REVISE


def set_status(order: int, status: str = "please") -> dict[str, Any]:
    """A plan that runs by itself: one row, all values from the ticket."""
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
    return {"operations": [{"sql": sql, "params": [status, order], "expect_rows": 1}]}


def refund(order: int) -> dict[str, Any]:
    """A plan that needs a person: nothing allows writes to refunds."""
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    return {"operations": [{"sql": sql, "params": [order]}]}


def about(order: int) -> dict[str, Any]:
    return {"subject": {"order_id": order}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_clean_plan_runs_by_itself(installation: Installation) -> None:
    workflow_id = await installation.submit(set_status(1000), **about(1000))
    outcome = await installation.client.wait(workflow_id)
    assert outcome.state is State.DONE
    assert outcome.reason == "Updates 1 row in shop.orders, deletes nothing, in shop."
    assert installation.query("SELECT status FROM shop.orders WHERE id = 1000") == [("please",)]
    assert len(installation.ledger(workflow_id)) == 1


async def test_an_empty_plan_ends_done_with_nothing_in_the_ledger(installation: Installation) -> None:
    workflow_id = await installation.submit({"summary": "It is on its way.", "operations": []})
    outcome = await installation.client.wait(workflow_id)
    assert (outcome.state, outcome.execution) == (State.DONE, None)
    assert "It is on its way." in outcome.reason
    assert installation.ledger(workflow_id) == []


async def test_a_risky_plan_waits_and_changes_nothing_before_it_is_approved(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1001), **about(1001))
    view = await installation.until_waiting(workflow_id)
    assert view.report is not None
    assert view.report.verdict is Verdict.APPROVAL
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1001") == [(0,)]
    record = await installation.decide(view, APPROVE)
    assert (record.by, record.mode, record.refused) == ("ben@example.com", Mode.CLI, None)
    outcome = await installation.client.wait(workflow_id)
    assert outcome.state is State.DONE
    assert outcome.execution is not None
    assert outcome.execution.approved_by == ("ben@example.com",)
    assert installation.query("SELECT amount FROM shop.refunds WHERE order_id = 1001") == [(1001,)]


async def test_a_worker_that_froze_in_a_rehearsal_does_not_keep_its_ticket_waiting(installation: Installation) -> None:
    rehearser = installation.settings.target("shop").rehearser
    assert rehearser is not None
    with psycopg.connect(rehearser.get_secret_value()) as frozen:
        name = session_name("ticket/shop/T-frozen")
        frozen.execute("SELECT set_config('application_name', %s, true)", [name])
        frozen.execute("UPDATE shop.orders SET status = 'please' WHERE id = 1040")
        workflow_id = await installation.submit(set_status(1040), **about(1040), id="T-frozen")
        outcome = await installation.client.wait(workflow_id)
        assert outcome.state is State.DONE
        with pytest.raises(psycopg.OperationalError):
            frozen.commit()
    assert len(installation.ledger(workflow_id)) == 1


async def test_a_forbidden_plan_is_blocked(installation: Installation) -> None:
    workflow_id = await installation.submit({"operations": [{"sql": "TRUNCATE shop.orders CASCADE"}]})
    outcome = await installation.client.wait(workflow_id)
    assert outcome.state is State.BLOCKED
    assert installation.query("SELECT count(*) FROM shop.orders") == [(100,)]


async def test_a_rejected_plan_changes_nothing(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1002), **about(1002))
    view = await installation.until_waiting(workflow_id)
    await installation.decide(view, REJECT, comment="paid twice already")
    outcome = await installation.client.wait(workflow_id)
    assert outcome.state is State.REJECTED
    assert outcome.reason == "Rejected by ben@example.com: paid twice already"
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1002") == [(0,)]


async def test_asking_for_changes_makes_a_new_plan(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1003), **about(1003))
    view = await installation.until_waiting(workflow_id)
    await installation.decide(view, REVISE, comment="use another amount")
    again = await installation.until(workflow_id, lambda v: v.state is State.WAITING and v.plan_number == 2)
    assert again.plan is not None
    assert "use another amount" in again.plan.summary, "the agent never heard what the person said"
    await installation.decide(again, REJECT, comment="no")
    assert (await installation.client.wait(workflow_id)).state is State.REJECTED


async def test_rows_too_large_to_show_are_cut_and_the_ticket_stays_readable(installation: Installation) -> None:
    sql = "UPDATE shop.orders SET status = repeat($1, 200000) WHERE id BETWEEN 1060 AND 1085"
    workflow_id = await installation.submit({"operations": [{"sql": sql, "params": ["please"]}]})
    view = await installation.until_waiting(workflow_id)
    assert view.report is not None
    (operation,) = view.report.operations
    assert (operation.truncated, operation.counts["shop.orders"].updated) == (False, 26)
    assert all("(1200000 characters)" in (row.after or {})["status"] for row in operation.rows)
    await installation.decide(view, APPROVE)
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    assert installation.query("SELECT DISTINCT length(status) FROM shop.orders WHERE id BETWEEN 1060 AND 1085") == [
        (1200000,)
    ]


async def test_rows_that_moved_on_after_approval_are_rehearsed_and_asked_about_again(
    installation: Installation,
) -> None:
    sql = "UPDATE shop.orders SET total = $1 WHERE id = $2"
    plan = {"operations": [{"sql": sql, "params": [77, 1004]}]}  # 77 is nowhere in the ticket: not grounded
    workflow_id = await installation.submit(plan, **about(1004))
    view = await installation.until_waiting(workflow_id)
    installation.query("UPDATE shop.orders SET total = 5 WHERE id = 1004 RETURNING 1")
    await installation.decide(view, APPROVE)
    assert view.report is not None
    seen = view.report.fingerprint
    again = await installation.until(
        workflow_id,
        lambda v: v.state is State.WAITING and v.report is not None and v.report.fingerprint != seen,
    )
    assert installation.query("SELECT total FROM shop.orders WHERE id = 1004") == [(5,)]
    assert again.approvals == ()
    await installation.decide(again, APPROVE)
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    assert installation.query("SELECT total FROM shop.orders WHERE id = 1004") == [(77,)]


async def test_what_would_be_written_is_part_of_what_was_approved(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1020), **about(1020))
    seen = await installation.until_waiting(workflow_id)
    installation.execute("UPDATE shop.orders SET total = 99999 WHERE id = 1020")
    await installation.decide(seen, APPROVE)
    now = await installation.until(
        workflow_id, lambda view: view.state is State.WAITING and _fingerprint(view) != _fingerprint(seen)
    )
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1020") == [(0,)]
    assert now.approvals == ()
    await installation.decide(now, APPROVE)
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    assert installation.query("SELECT amount FROM shop.refunds WHERE order_id = 1020") == [(99999,)]


async def test_constraints_that_came_after_the_approval_hold(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1021), **about(1021))
    view = await installation.until_waiting(workflow_id)
    await installation.constrain(f"{CONSTRAINTS}  - {{name: shop.refunds, protected: true}}\n")
    try:
        await installation.decide(view, APPROVE)
        outcome = await installation.client.wait(workflow_id)
    finally:
        await installation.constrain(CONSTRAINTS)
    assert outcome.state is State.BLOCKED
    assert "table.writes" in outcome.reason
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1021") == [(0,)]


async def test_a_cancellation_after_the_execution_does_not_deny_it(
    installation: Installation, temporal: Client
) -> None:
    with psycopg.connect(installation.owner_url) as held, psycopg.connect(installation.control_url) as audit:
        workflow_id = await installation.submit(refund(1022), **about(1022))
        view = await installation.until_waiting(workflow_id)
        handle = temporal.get_workflow_handle(workflow_id)
        held.execute("LOCK TABLE standfast.ledger IN SHARE MODE")
        await installation.decide(view, APPROVE)
        await installation.until(workflow_id, lambda now: now.state is State.EXECUTING)
        audit.execute("SELECT pg_advisory_xact_lock(hashtext('standfast.audit'))")  # a late decision waits for its end
        late = {"verdict": "approve", "plan_digest": "d", "fingerprint": "f", "by": "eve@example.com"}
        await handle.signal("decide", late)
        held.rollback()
        await installation.until(workflow_id, lambda now: now.outcome is not None)
        await handle.cancel()
        await installation.until(workflow_id, lambda now: now.outcome is not None)
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    assert len(installation.ledger(workflow_id)) == 1
    assert (await installation.client.view(workflow_id)).state is State.DONE


async def test_an_approval_of_something_else_is_refused_and_changes_nothing(installation: Installation) -> None:
    view = await installation.until_waiting(await installation.submit(refund(1005), **about(1005)))
    for seen, reason in (
        ({"plan_digest": "0" * 64}, Refusal.STALE_PLAN),
        ({"fingerprint": "0" * 64}, Refusal.STALE_ROWS),
    ):
        with pytest.raises(DecisionRefused) as refused:
            await installation.decide(view, APPROVE, **seen)
        assert refused.value.reason == reason
    now = await installation.client.view(view.workflow_id)
    assert now.state is State.WAITING
    assert [record.refused for record in now.decisions] == [Refusal.STALE_PLAN, Refusal.STALE_ROWS]


async def test_a_name_in_capitals_is_no_second_person(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1040), **about(1040))
    view = await installation.until_waiting(workflow_id)
    with pytest.raises(DecisionRefused) as caught:
        await installation.decide(view, APPROVE, by=" Ana@Example.com")
    assert caught.value.reason == Refusal.OWN_TICKET


async def test_the_requester_may_not_approve(installation: Installation) -> None:
    view = await installation.until_waiting(await installation.submit(refund(1006), **about(1006)))
    with pytest.raises(DecisionRefused) as refused:
        await installation.decide(view, APPROVE, by="ana@example.com")
    assert refused.value.reason == Refusal.OWN_TICKET


async def test_an_unsigned_decision_changes_nothing_by_update_or_signal(
    installation: Installation, temporal: Client
) -> None:
    view = await installation.until_waiting(await installation.submit(refund(1007), **about(1007)))
    assert view.report is not None
    forged = {
        "verdict": "approve",
        "plan_digest": view.report.plan_digest,
        "fingerprint": view.report.fingerprint,
        "by": "ben@example.com",
    }
    handle = temporal.get_workflow_handle(view.workflow_id)
    await handle.signal("decide", forged)
    now = await installation.until(view.workflow_id, lambda v: len(v.decisions) == 1)
    assert (now.state, now.decisions[0].refused) == (State.WAITING, Refusal.UNSIGNED)


async def test_a_decision_that_is_no_decision_changes_nothing(installation: Installation, temporal: Client) -> None:
    view = await installation.until_waiting(await installation.submit(refund(1008), **about(1008)))
    await temporal.get_workflow_handle(view.workflow_id).signal("decide", {"verdict": "approve!"})
    record = await installation.decide(view, REJECT, comment="still alive")
    assert record.refused is None


async def test_a_ticket_that_was_terminated_from_outside_is_listed_as_failed(
    installation: Installation, temporal: Client
) -> None:
    workflow_id = await installation.submit(refund(1041), **about(1041))
    await installation.until_waiting(workflow_id)
    await temporal.get_workflow_handle(workflow_id).terminate()

    async def listed(*states: State) -> list[str]:
        return [row.workflow_id for row in await installation.client.lists.tickets(states)]

    while workflow_id not in await listed(State.FAILED):  # noqa: ASYNC110 - visibility lags behind
        await asyncio.sleep(0.05)
    assert workflow_id not in await listed(State.WAITING)
    assert workflow_id in await listed(State.WAITING, State.FAILED)


async def test_a_decision_that_a_cancellation_overtakes_is_told_so(
    installation: Installation, temporal: Client
) -> None:
    workflow_id = await installation.submit(refund(1031), **about(1031))
    view = await installation.until_waiting(workflow_id)
    with psycopg.connect(installation.control_url) as audit:
        audit.execute("SELECT pg_advisory_xact_lock(hashtext('standfast.audit'))")
        deciding = asyncio.create_task(installation.decide(view, APPROVE))
        handle = temporal.get_workflow_handle(workflow_id)
        while not (await handle.describe()).raw_description.pending_activities:  # noqa: ASYNC110 - the server's news
            await asyncio.sleep(0.02)
        await handle.cancel()
        await installation.until(workflow_id, lambda now: now.outcome is not None)
    with pytest.raises(DecisionRefused, match="cancelled before the decision was on record"):
        await deciding
    assert (await installation.client.wait(workflow_id)).state is State.CANCELLED
    assert installation.ledger(workflow_id) == []


@pytest.mark.parametrize("field", ["plan_digest", "fingerprint", "by", "comment"])
async def test_a_decision_that_no_database_can_hold_changes_nothing(
    installation: Installation, temporal: Client, field: str
) -> None:
    workflow_id = await installation.submit(refund(1030), id=f"NUL-{field}", **about(1030))
    view = await installation.until_waiting(workflow_id)
    decision = {"verdict": "approve", "plan_digest": "d", "fingerprint": "f", "by": "eve", field: "a\x00b"}
    await temporal.get_workflow_handle(workflow_id).signal("decide", decision)
    await installation.decide(view, REJECT, comment="no")
    assert (await installation.client.wait(workflow_id)).state is State.REJECTED


async def test_every_decision_and_refusal_is_on_the_audit_chain(installation: Installation) -> None:
    view = await installation.until_waiting(await installation.submit(refund(1009), **about(1009)))
    with pytest.raises(DecisionRefused):
        await installation.decide(view, APPROVE, by="ana@example.com")
    await installation.decide(view, APPROVE)
    async with Databases(installation.settings, application="test") as databases, databases.control() as connection:
        cursor = await connection.execute(
            "SELECT kind, actor FROM standfast.audit"
            " WHERE workflow_id = %s AND kind LIKE 'decision%%' ORDER BY sequence",
            (view.workflow_id,),
        )
        rows = [(row["kind"], row["actor"]) for row in await cursor.fetchall()]
    assert rows == [("decision.refused", "ana@example.com"), ("decision", "ben@example.com")]


async def test_of_two_who_decide_at_once_one_counts_and_the_other_learns_who_was_first(
    installation: Installation,
) -> None:
    view = await installation.until_waiting(await installation.submit(refund(1010), **about(1010)))
    answers = await asyncio.gather(
        installation.decide(view, APPROVE, by="ben@example.com"),
        installation.decide(view, REJECT, by="cy@example.com", comment="no"),
        return_exceptions=True,
    )
    (loser,) = [answer for answer in answers if isinstance(answer, DecisionRefused)]
    (winner,) = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert loser.reason == Refusal.NOT_WAITING
    assert winner.by in str(loser) or "has ended already" in str(loser)


async def test_a_decision_whose_answer_was_lost_may_be_delivered_again(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1024), **about(1024))
    report = (await installation.until_waiting(workflow_id)).report
    assert report is not None
    seen = {"plan_digest": report.plan_digest, "fingerprint": report.fingerprint}
    client = installation.client
    decision = client.signed(workflow_id, verdict=APPROVE, by="ben@example.com", mode=Mode.CLI, **seen)

    first = await client.deliver(workflow_id, decision)
    assert await client.deliver(workflow_id, decision) == first
    await client.wait(workflow_id)
    assert await client.deliver(workflow_id, decision) == first

    assert [record.id for record in (await client.view(workflow_id)).decisions] == [first.id]
    assert len(installation.ledger(workflow_id)) == 1


async def test_who_stops_waiting_for_an_answer_is_not_told_that_a_service_is_away(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1025), **about(1025))
    view = await installation.until_waiting(workflow_id)
    with psycopg.connect(installation.control_url) as audit:
        audit.execute("SELECT pg_advisory_xact_lock(hashtext('standfast.audit'))")
        deciding = asyncio.create_task(installation.decide(view, APPROVE))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await until(lambda: installation.query(waiting) == [(1,)])
        deciding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deciding
    await installation.client.wait(workflow_id)


async def test_a_decision_before_it_waits_or_after_it_ended_is_refused(installation: Installation) -> None:
    workflow_id = await installation.submit(set_status(1011), **about(1011))
    outcome = await installation.client.wait(workflow_id)
    assert outcome.state is State.DONE
    with pytest.raises(DecisionRefused) as refused:
        await installation.decide(await installation.client.view(workflow_id), APPROVE)
    assert refused.value.reason == Refusal.NOT_WAITING


async def test_cancelling_a_waiting_ticket_ends_it_with_nothing_changed(installation: Installation) -> None:
    view = await installation.until_waiting(await installation.submit(refund(1012), **about(1012)))
    await installation.client.cancel(view.workflow_id)
    assert (await installation.client.wait(view.workflow_id)).state is State.CANCELLED
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1012") == [(0,)]
    with pytest.raises(DecisionRefused, match="has ended already"):
        await installation.client.cancel(view.workflow_id)


async def test_the_same_ticket_again_is_the_same_workflow(installation: Installation) -> None:
    ticket = Ticket(
        id="same", body="x", requester="a", target="shop", metadata={"plan": {"summary": "s", "operations": []}}
    )
    first, second = await asyncio.gather(installation.client.submit(ticket), installation.client.submit(ticket))
    assert first.workflow_id == second.workflow_id
    assert sorted([first.started, second.started]) == [False, True]
    await installation.client.wait(first.workflow_id)
    assert (await installation.client.submit(ticket)).started is False


async def test_a_used_id_with_other_content_is_refused(installation: Installation) -> None:
    workflow_id = await installation.submit({"operations": []}, id="used")
    await installation.client.wait(workflow_id)
    with pytest.raises(TicketConflict, match="ticket/shop/used was submitted before with other content"):
        await installation.submit({"operations": []}, id="used", body="something else")


async def test_unknown_tickets_and_targets_are_named(installation: Installation) -> None:
    with pytest.raises(UnknownTicket, match="ticket/shop/nope"):
        await installation.client.view("ticket/shop/nope")
    with pytest.raises(UnknownTicket, match="ticket/shop/nope"):
        await installation.client.wait("ticket/shop/nope")
    with pytest.raises(UnknownTarget, match="'crm'"):
        await installation.submit({"operations": []}, target="crm")


@pytest_asyncio.fixture
async def own_temporal(home: Path) -> AsyncIterator[str]:
    """Address of another Temporal server: workers of the other installation would take the work."""
    server = TemporalServer(home / "temporal", port=free_port(), ui_port=free_port())
    async with Supervisor(home / "logs", lambda _: None) as supervisor:
        await supervisor.start(server.service())
        yield server.address


async def test_a_ticket_nobody_decides_on_expires(postgres: str, own_temporal: str) -> None:
    settings, owner = await prepare(
        postgres, own_temporal, f"t{uuid4().hex[:8]}", review={"expire_after": timedelta(seconds=1)}
    )
    async with Standfast.connect(settings) as client:
        elsewhere = Installation(settings, client, owner)
        workflow_id = await elsewhere.submit(refund(1000), **about(1000))
        async with serving(settings, *Pool):
            outcome = await client.wait(workflow_id)
    assert outcome.state is State.EXPIRED
    assert elsewhere.query("SELECT count(*) FROM shop.refunds") == [(0,)]


async def test_lists_show_a_state_that_lasts(postgres: str, own_temporal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STATE_IN_LISTS", timedelta(milliseconds=500))
    settings, owner = await prepare(postgres, own_temporal, f"t{uuid4().hex[:8]}")
    async with Standfast.connect(settings) as client:
        elsewhere = Installation(settings, client, owner)
        await elsewhere.constrain(CONSTRAINTS)
        async with serving(settings, Pool.CORE, Pool.LLM):
            workflow_id = await elsewhere.submit(set_status(1000), **about(1000))
            (listed,) = await eventually(lambda: client.lists.tickets([State.EXECUTING]), bool)
            assert listed.workflow_id == workflow_id
            async with serving(settings, Pool.DATABASE):
                assert (await client.wait(workflow_id)).state is State.DONE
        assert "timer" not in {entry.step for entry in await client.history(workflow_id)}  # nobody's deadline


async def test_lists_show_an_end_that_is_not_on_record_yet(
    postgres: str, own_temporal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "STATE_IN_LISTS", timedelta(milliseconds=500))
    database = f"t{uuid4().hex[:8]}"
    settings, owner = await prepare(postgres, own_temporal, database)
    async with Standfast.connect(settings) as client, serving(settings, Pool.CORE, Pool.LLM):
        elsewhere = Installation(settings, client, owner)
        await elsewhere.constrain(CONSTRAINTS)
        workflow_id = await elsewhere.submit(set_status(1000), **about(1000))
        await eventually(lambda: client.lists.tickets([State.EXECUTING]), bool)
        with psycopg.connect(postgres, dbname=f"{database}_control") as held:
            held.execute("LOCK TABLE standfast.audit IN EXCLUSIVE MODE")
            async with serving(settings, Pool.DATABASE):
                (listed,) = await eventually(lambda: client.lists.tickets([State.DONE]), bool)
            assert (listed.workflow_id, listed.closed_at) == (workflow_id, None)
        assert (await client.wait(workflow_id)).state is State.DONE


async def test_an_execution_that_nobody_can_tell_about_ends_in_words(postgres: str, own_temporal: str) -> None:
    settings, owner = await prepare(postgres, own_temporal, f"t{uuid4().hex[:8]}")
    without_writer = {"shop": settings.target("shop").model_copy(update={"writer": None})}
    async with (
        Standfast.connect(settings) as client,
        serving(settings, Pool.CORE, Pool.LLM),
        serving(settings.model_copy(update={"targets": without_writer}), Pool.DATABASE),
    ):
        elsewhere = Installation(settings, client, owner)
        await elsewhere.constrain(CONSTRAINTS)
        workflow_id = await elsewhere.submit(set_status(1000), **about(1000))
        outcome = await client.wait(workflow_id)
    assert outcome.state is State.FAILED
    assert f"look for {workflow_id} in standfast.ledger of shop" in outcome.reason
    assert "this process has no writer URL for target 'shop'" in outcome.reason


async def test_a_cancellation_that_comes_together_with_the_execution_does_not_deny_it(
    postgres: str, own_temporal: str
) -> None:
    settings, owner = await prepare(postgres, own_temporal, f"t{uuid4().hex[:8]}")
    async with Standfast.connect(settings) as client:
        elsewhere = Installation(settings, client, owner)
        await elsewhere.constrain(CONSTRAINTS)
        async with serving(settings, Pool.CORE, Pool.LLM):
            workflow_id = await elsewhere.submit(set_status(1000), **about(1000))
            await elsewhere.until(workflow_id, lambda view: view.state is State.EXECUTING)
        await client.cancel(workflow_id)
        handle = (await cluster.connect(settings)).get_workflow_handle(workflow_id)
        async with serving(settings, Pool.DATABASE):
            while (await handle.describe()).raw_description.pending_activities:  # noqa: ASYNC110 - the server's
                await asyncio.sleep(0.02)
            async with serving(settings, Pool.CORE):  # which learns of both at once
                outcome = await client.wait(workflow_id)
    assert len(elsewhere.ledger(workflow_id)) == 1
    assert outcome.state is State.DONE
    assert outcome.execution is not None


async def test_a_ticket_that_is_cancelled_and_whose_worker_dies_before_it_hears_of_that_is_cancelled(
    postgres: str, own_temporal: str
) -> None:
    settings, owner = await prepare(postgres, own_temporal, f"t{uuid4().hex[:8]}")
    over = asyncio.Event()

    @activity.defn(name=steps.EXECUTE.name)
    async def dies(request: steps.ExecuteRequest) -> Execution:
        """Send no heartbeat, and hear of no cancellation."""
        del request
        with suppress(asyncio.CancelledError):
            await over.wait()
        await over.wait()
        raise AssertionError

    async with (
        Standfast.connect(settings) as client,
        Databases(settings, application="standfast-test") as databases,
        serving(settings, Pool.CORE, Pool.LLM),
    ):
        elsewhere = Installation(settings, client, owner)
        await elsewhere.constrain(CONSTRAINTS)
        activities = [dies, Executor(databases).settle]
        async with Worker(await cluster.connect(settings), task_queue=Pool.DATABASE, activities=activities):
            try:
                workflow_id = await elsewhere.submit(set_status(1000), **about(1000))
                await elsewhere.until(workflow_id, lambda view: view.state is State.EXECUTING)
                await client.cancel(workflow_id)
                assert (await client.wait(workflow_id)).state is State.CANCELLED
            finally:
                over.set()
    assert elsewhere.ledger(workflow_id) == []


async def test_a_ticket_that_is_cancelled_before_any_worker_takes_its_execution_is_cancelled(
    postgres: str, own_temporal: str
) -> None:
    settings, owner = await prepare(postgres, own_temporal, f"t{uuid4().hex[:8]}")
    async with Standfast.connect(settings) as client, serving(settings, Pool.CORE, Pool.LLM):
        elsewhere = Installation(settings, client, owner)
        await elsewhere.constrain(CONSTRAINTS)
        workflow_id = await elsewhere.submit(set_status(1000), **about(1000))
        await elsewhere.until(workflow_id, lambda view: view.state is State.EXECUTING)
        ticket = (await cluster.connect(settings)).get_workflow_handle(workflow_id)
        await client.cancel(workflow_id)

        async def ended_by_temporal() -> bool:
            events = (await ticket.fetch_history()).events
            return any(event.HasField("activity_task_canceled_event_attributes") for event in events)

        await eventually(ended_by_temporal, bool)
        async with serving(settings, Pool.DATABASE):  # the ledger is asked for the last word
            assert (await client.wait(workflow_id)).state is State.CANCELLED
    assert elsewhere.ledger(workflow_id) == []


async def test_the_timeline_tells_the_six_steps(installation: Installation) -> None:
    workflow_id = await installation.submit(refund(1013), **about(1013))
    view = await installation.until_waiting(workflow_id)
    await installation.decide(view, APPROVE)
    await installation.client.wait(workflow_id)
    steps = [entry.step for entry in await installation.client.history(workflow_id)]
    in_order = list(dict.fromkeys(steps))
    assert in_order == ["start", "context", "planning", "validation", "decision", "execution", "end"]


async def test_a_server_that_is_slow_for_a_moment_is_no_reason_for_another_plan(installation: Installation) -> None:
    installation.execute("""
        CREATE SEQUENCE shop.slow;
        CREATE FUNCTION shop.slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
            $$ BEGIN
                IF nextval('shop.slow') = 1 THEN PERFORM count(*) FROM generate_series(1, 1000000000); END IF;
                RETURN NEW;
            END $$;
        CREATE TRIGGER slow BEFORE UPDATE ON shop.orders
            FOR EACH ROW WHEN (NEW.id = 1016) EXECUTE FUNCTION shop.slow();
    """)
    workflow_id = await installation.submit(set_status(1016), **about(1016))
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    view = await installation.client.view(workflow_id)
    assert view.plan_number == 1
    validations = [entry for entry in await installation.client.history(workflow_id) if entry.step == "validation"]
    assert [entry.attempt for entry in validations] == [2]


async def test_a_plan_that_takes_too_long_to_rehearse_goes_back_to_its_agent(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "LONGEST_REHEARSAL", timedelta(seconds=1))
    installation.execute("""
        CREATE VIEW shop.pause AS SELECT pg_sleep(0.4)::text;
        CREATE FUNCTION shop.dawdle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
            $$ BEGIN PERFORM FROM shop.pause; RETURN NEW; END $$;
        CREATE TRIGGER dawdle BEFORE UPDATE ON shop.orders
            FOR EACH ROW WHEN (NEW.id = 1018) EXECUTE FUNCTION shop.dawdle();
    """)
    twice = {"operations": [set_status(1018, status)["operations"][0] for status in ("pleased", "please")]}
    plans = {"plan": twice, "mended": set_status(1019)}
    workflow_id = await installation.submit(twice, metadata=plans, subject={"order_ids": [1018, 1019]})
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    view = await installation.client.view(workflow_id)
    assert view.plan is not None
    assert (view.plan_number, "plan.time: to rehearse the plan takes more than" in view.plan.summary) == (2, True)
    history = await installation.client.history(workflow_id)
    assert [entry.attempt for entry in history if entry.step == "validation"] == [3, 1]
    assert installation.query("SELECT status FROM shop.orders WHERE id IN (1018, 1019) ORDER BY id") == [
        ("paid",),
        ("please",),
    ]


async def test_an_approved_plan_is_executed_though_the_server_is_slow_for_a_moment(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = statements("standfast.execution", "ledger.sql")
    hasty = {**sql, "bounds": sql["bounds"].replace("15s", "500ms")}
    monkeypatch.setattr("standfast.execution.ledger._SQL", hasty)
    installation.execute("""
        CREATE SEQUENCE shop.hesitant;
        CREATE FUNCTION shop.hesitate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
            $$ BEGIN
                IF session_user LIKE '%writer' AND nextval('shop.hesitant') = 1 THEN
                    PERFORM count(*) FROM generate_series(1, 1000000000);
                END IF;
                RETURN NEW;
            END $$;
        CREATE TRIGGER hesitate BEFORE INSERT ON shop.refunds
            FOR EACH ROW WHEN (NEW.order_id = 1017) EXECUTE FUNCTION shop.hesitate();
    """)
    workflow_id = await installation.submit(refund(1017), **about(1017))
    await installation.decide(await installation.until_waiting(workflow_id), APPROVE)
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    history = await installation.client.history(workflow_id)
    assert [entry.attempt for entry in history if entry.step == "execution"] == [2]
    assert len(installation.ledger(workflow_id)) == 1
    assert installation.query("SELECT amount FROM shop.refunds WHERE order_id = 1017") == [(1017,)]


async def test_two_waiting_plans_for_the_same_rows_are_marked_on_both(installation: Installation) -> None:
    client = installation.client

    async def waiting(order: int, status: str) -> TicketView:
        return await installation.until_waiting(await installation.submit(set_status(order, status), **about(order)))

    async def until_conflicts(view: TicketView, *others: TicketView) -> None:
        while await client.conflicts(view) != tuple(other.workflow_id for other in others):  # noqa: ASYNC110 - lists lag
            await asyncio.sleep(0.02)

    first, second, third = await waiting(1014, "unheard-of"), await waiting(1014, "unsaid"), await waiting(1015, "new")
    await until_conflicts(first, second)
    await until_conflicts(second, first)
    assert await client.conflicts(third) == ()
    await installation.decide(first, REJECT, comment="no")
    await until_conflicts(second)
    for view in (second, third):
        await installation.decide(view, REJECT, comment="no")


def _fingerprint(view: TicketView) -> str | None:
    return view.report.fingerprint if view.report else None


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def temporal(temporal_server: str) -> Client:
    return await cluster.connect(Settings(temporal={"address": temporal_server}, encryption=ENCRYPTION))
