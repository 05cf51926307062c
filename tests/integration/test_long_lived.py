"""A ticket may wait for days and be planned again and again: people are reminded, and its history stays short."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.testing import TimeSkipper

from standfast import cluster
from standfast.client import Standfast
from standfast.decision import DecisionVerdict
from standfast.errors import DecisionRefused, InvalidInput
from standfast.local.ports import free_port
from standfast.local.supervisor import Supervisor
from standfast.local.temporal import TemporalServer
from standfast.outcome import State
from standfast.report import Reminder
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.store.databases import Databases
from standfast.view import TicketView
from standfast.workflow import TicketWorkflow
from tests.integration.installation import CONSTRAINTS, Installation, prepare, runs, serving
from tests.processes import eventually

APPROVE, REVISE = DecisionVerdict.APPROVE, DecisionVerdict.REVISE
TIME_SKIPPING = ("frontend.WorkflowTimeSkippingEnabled=true",)
# A ticket that waits once has some thirty events.
SHORT_HISTORIES = ("limit.historyCount.suggestContinueAsNew=20",)
ONLY_LEADS = CONSTRAINTS + "approvers: [{who: [lead@example.com]}]\n"


def refund(order: int) -> dict[str, Any]:
    """A plan that needs a person."""
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    return {"operations": [{"sql": sql, "params": [order]}]}


@asynccontextmanager
async def server(home: Path, configuration: tuple[str, ...]) -> AsyncIterator[str]:
    """The server that `standfast up` starts, with further dynamic configuration."""
    temporal = TemporalServer(home / "temporal", port=free_port(), ui_port=free_port())
    program = temporal.service()
    options = (f"--dynamic-config-value={value}" for value in configuration)
    async with Supervisor(home / "logs", lambda _: None) as supervisor:
        await supervisor.start(replace(program, argv=(*program.argv, *options)))
        yield temporal.address


@asynccontextmanager
async def installation(postgres: str, address: str, **review: Any) -> AsyncIterator[Installation]:
    settings, owner = await prepare(postgres, address, f"t{uuid4().hex[:8]}")
    settings = settings.model_copy(update={"review": settings.review.model_copy(update=review)})
    async with serving(settings, *Pool), Standfast.connect(settings) as client:
        installation = Installation(settings, client, owner)
        await installation.constrain(CONSTRAINTS)
        yield installation


async def planned(shop: Installation, workflow_id: str, number: int) -> TicketView:
    """Wait until plan `number` waits for a person."""
    return await shop.until(workflow_id, lambda view: (view.plan_number, view.state) == (number, State.WAITING))


async def audited(settings: Settings, kind: str) -> list[dict[str, Any]]:
    async with Databases(settings, application="test") as databases, databases.control() as connection:
        cursor = await connection.execute("SELECT content FROM standfast.audit WHERE kind = %s ORDER BY at", (kind,))
        return [row["content"] for row in await cursor.fetchall()]


# --- days --------------------------------------------------------------------------------------------------------


async def test_in_three_days_people_are_reminded_twice_and_then_nothing_is_changed(home: Path, postgres: str) -> None:
    async with server(home, TIME_SKIPPING) as address, installation(postgres, address) as shop:
        skipper = TimeSkipper(await cluster.connect(shop.settings))
        clock = replace(shop, client=Standfast(skipper.client, shop.settings))
        with skipper.with_time_skipping_disabled():
            workflow_id = await clock.submit(refund(1000), subject={"order_id": 1000})
        await shop.until_waiting(workflow_id)
        waiting = skipper.client.get_workflow_handle_for(TicketWorkflow.run, workflow_id)

        await skipper.fast_forward(waiting, timedelta(hours=23))
        assert (await shop.client.view(workflow_id)).reminders == ()
        await skipper.fast_forward(waiting, timedelta(hours=2))
        view = await shop.until(workflow_id, lambda view: len(view.reminders) == 1)
        assert view.state is State.WAITING
        await skipper.fast_forward(waiting, timedelta(days=1))
        await shop.until(workflow_id, lambda view: len(view.reminders) == 2)
        await skipper.fast_forward(waiting, timedelta(days=2))

        assert (await shop.client.wait(workflow_id)).state is State.EXPIRED
        assert shop.query("SELECT count(*) FROM shop.refunds") == [(0,)]
        assert [row["after"] for row in await audited(shop.settings, "reminder")] == ["P1D", "P2D"]
        shown = [entry.what for entry in await shop.client.history(workflow_id)]
        assert shown.count("deadline passed") == 1
        assert [what for what in shown if "remind" in what] == [
            "remind people after 1 day, 0:00:00",
            "remind people after 2 days, 0:00:00",
        ]


async def test_a_reminder_may_let_others_approve(home: Path, postgres: str) -> None:
    soon = Reminder(after=timedelta(seconds=1), approvers=("deputy@*",))
    async with server(home, ()) as address, installation(postgres, address, reminders=(soon,)) as shop:
        await shop.constrain(ONLY_LEADS)
        workflow_id = await shop.submit(refund(1001), subject={"order_id": 1001})
        view = await shop.until_waiting(workflow_id)
        with pytest.raises(DecisionRefused) as refused:
            await shop.decide(view, APPROVE, by="deputy@example.com")
        assert refused.value.reason == "out-of-scope"
        view = await shop.until(workflow_id, lambda view: len(view.reminders) == 1)
        with pytest.raises(DecisionRefused):
            await shop.decide(view, APPROVE, by="ben@example.com")
        await shop.decide(view, APPROVE, by="deputy@example.com")
        assert (await shop.client.wait(workflow_id)).state is State.DONE


def test_reminders_are_in_order_and_must_lie_ahead() -> None:
    late, soon = {"after": "P2D"}, {"after": "PT1H"}
    review = Settings.model_validate({"review": {"reminders": [late, soon]}}).review
    assert [reminder.after for reminder in review.reminders] == [timedelta(hours=1), timedelta(days=2)]
    with pytest.raises(ValueError, match="after"):
        Settings.model_validate({"review": {"reminders": [{"after": "-PT1H"}]}})


# --- many plans --------------------------------------------------------------------------------------------------


async def test_a_ticket_that_is_planned_often_continues_as_new_and_remembers_everything(
    home: Path, postgres: str
) -> None:
    async with server(home, SHORT_HISTORIES) as address, installation(postgres, address) as shop:
        workflow_id = await shop.submit(refund(1002), subject={"order_id": 1002})
        for number in (1, 2, 3):
            view = await planned(shop, workflow_id, number)
            await shop.decide(view, REVISE, comment=f"Look {number}.")
        view = await planned(shop, workflow_id, 4)
        assert [record.comment for record in view.decisions] == ["Look 1.", "Look 2.", "Look 3."]
        assert view.plan is not None
        assert view.plan.summary.endswith("Look 3.")
        await shop.decide(view, APPROVE)
        assert (await shop.client.wait(workflow_id)).state is State.DONE
        assert shop.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1002") == [(1,)]

        temporal = await cluster.connect(shop.settings)
        histories = await runs(temporal, workflow_id)
        assert len(histories) > 3
        assert max(len(history.events) for history in histories) < 80

        (listed,) = await eventually(lambda: shop.client.lists.tickets([State.DONE]), bool)
        assert [listed] == await shop.client.lists.tickets()
        assert listed.workflow_id == workflow_id
        timeline = await shop.client.history(workflow_id)
        assert [entry.step for entry in timeline].count("execution") == 1
        assert sum(entry.what == "update decide" for entry in timeline) == 4
        stats = await shop.client.stats()
        assert (stats.tickets, stats.waiting and stats.waiting.number) == ({State.DONE: 1}, 4)


async def test_decisions_that_come_while_it_continues_as_new_are_answered(home: Path, postgres: str) -> None:
    async with server(home, SHORT_HISTORIES) as address, installation(postgres, address) as shop:
        workflow_id = await shop.submit(refund(1003), subject={"order_id": 1003})
        first = await planned(shop, workflow_id, 1)
        stop = asyncio.Event()

        async def pester() -> int:
            """Send decisions on an old plan without a pause, so that some meet the change of runs."""
            for sent in count():
                if (stop.is_set() and sent) or sent == 60:
                    return sent
                with pytest.raises(DecisionRefused) as refused:
                    await shop.decide(first, APPROVE, plan_digest="0" * 64)
                assert refused.value.reason in ("stale-plan", "not-waiting")
            raise AssertionError

        pestering = asyncio.create_task(pester())
        for number in (1, 2, 3):
            view = await planned(shop, workflow_id, number)
            await shop.decide(view, REVISE, comment="Again.")
        view = await planned(shop, workflow_id, 4)
        stop.set()
        sent = await pestering
        await shop.decide(view, APPROVE)
        assert (await shop.client.wait(workflow_id)).state is State.DONE
        assert len(await audited(shop.settings, "decision.refused")) == sent > 0
        assert len(await audited(shop.settings, "decision")) == 4


async def test_an_approval_survives_the_change_of_runs(home: Path, postgres: str) -> None:
    """Two people approve in one run, the next one rehearses once more and executes."""
    two = CONSTRAINTS + "quorum: {approval: 2, critical: 2}\n"
    at_every_turn = ("limit.historyCount.suggestContinueAsNew=5",)
    async with server(home, at_every_turn) as address, installation(postgres, address) as shop:
        await shop.constrain(two)
        workflow_id = await shop.submit(refund(1004), subject={"order_id": 1004})
        view = await shop.until_waiting(workflow_id)
        await shop.decide(view, APPROVE, by="ben@example.com")
        await shop.decide(view, APPROVE, by="cleo@example.com")
        outcome = await shop.client.wait(workflow_id)
        assert outcome.execution is not None
        assert outcome.execution.approved_by == ("ben@example.com", "cleo@example.com")
        temporal = await cluster.connect(shop.settings)
        assert len(await runs(temporal, workflow_id)) == 3


def test_a_deadline_of_no_time_is_refused() -> None:
    with pytest.raises((ValueError, InvalidInput), match="expire_after"):
        Settings.model_validate({"review": {"expire_after": "PT0S"}})
