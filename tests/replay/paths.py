"""Every path that a ticket or a planner can take: how it is walked, and by what its history is told apart."""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg

from standfast import cluster
from standfast.batch import BatchState, Pace
from standfast.batch import workflow_id as batch_workflow_id
from standfast.decision import DecisionVerdict, Mode
from standfast.errors import DecisionRefused
from standfast.local.fake_provider import Answers, Calls, FakeProvider
from standfast.outcome import State
from standfast.report import Reminder
from standfast.settings import Planner
from standfast.steps import Pool
from standfast.view import TicketView
from tests.integration.batching import automatic as automatic_ticket
from tests.integration.batching import batching
from tests.integration.installation import CONSTRAINTS, Installation, serving
from tests.integration.planning import PLAN, Planning
from tests.processes import eventually

APPROVE, REJECT, REVISE = DecisionVerdict.APPROVE, DecisionVerdict.REJECT, DecisionVerdict.REVISE
FUNCTION = Planner(agent="tests.integration.scripted_planner:plan")
AGENT = Planner(model="openai:fake")
FORBIDDEN = {"operations": [{"sql": "TRUNCATE shop.orders CASCADE"}]}
MENDABLE = {"operations": [{"sql": "UPDATE shop.orders SET status = 'please'"}]}

Walk = Callable[[Installation], Awaitable[str]]


@dataclass(frozen=True, kw_only=True)
class Path:
    """One path."""

    name: str
    walk: Walk
    """Goes the path on an installation that nobody serves yet, and returns the id of the workflow to record."""
    ends: State | BatchState | None
    """None of a planner, which ends with a plan."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """How often activities and child workflows of these types are in the history: what makes it this path."""
    continued: bool = False
    """Whether its history was so long that it continued as new."""
    planner: Planner = FUNCTION
    """Whoever planned, and has to be there to replay a planner's history."""


def set_status(order: int, status: str = "please") -> dict[str, Any]:
    """A plan that runs by itself: one row, all values from the ticket."""
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
    return {"operations": [{"sql": sql, "params": [status, order], "expect_rows": 1}]}


def refund(order: int) -> dict[str, Any]:
    """A plan that needs a person: nothing allows writes to refunds."""
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    return {"operations": [{"sql": sql, "params": [order]}]}


async def submit(shop: Installation, plan: dict[str, Any], order: int) -> str:
    return await shop.submit(plan, subject={"order_id": order})


async def waiting(shop: Installation, order: int) -> TicketView:
    return await shop.until_waiting(await submit(shop, refund(order), order))


async def planned(shop: Installation, workflow_id: str, number: int) -> TicketView:
    """Wait until plan `number` waits for a person."""
    return await shop.until(workflow_id, lambda view: (view.plan_number, view.state) == (number, State.WAITING))


async def ended(shop: Installation, workflow_id: str) -> str:
    await shop.client.wait(workflow_id)
    return workflow_id


# --- tickets that end by themselves ------------------------------------------------------------------------------


async def automatic(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        return await ended(shop, await submit(shop, set_status(1000), 1000))


async def nothing_to_change(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        return await ended(shop, await shop.submit({"summary": "It is on its way.", "operations": []}))


async def blocked(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        return await ended(shop, await shop.submit(FORBIDDEN))


async def replanned(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        plans = {"plan": MENDABLE, "mended": set_status(1001)}
        return await ended(shop, await shop.submit({}, metadata=plans, subject={"order_id": 1001}))


async def without_a_plan(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        return await ended(shop, await shop.submit({"operations": "none"}))


async def drifted(shop: Installation) -> str:
    async with serving(shop.settings, Pool.CORE, Pool.LLM):
        workflow_id = await submit(shop, set_status(1002), 1002)
        await shop.until(workflow_id, lambda view: view.state is State.EXECUTING)
        shop.execute("UPDATE shop.orders SET total = 5 WHERE id = 1002")
        async with serving(shop.settings, Pool.DATABASE):
            return await ended(shop, workflow_id)


async def execution_unknown(shop: Installation) -> str:
    targets = {"shop": shop.settings.target("shop").model_copy(update={"writer": None})}
    without_writer = shop.settings.model_copy(update={"targets": targets})
    async with serving(shop.settings, Pool.CORE, Pool.LLM), serving(without_writer, Pool.DATABASE):
        return await ended(shop, await submit(shop, set_status(1003), 1003))


# --- tickets that people decide on -------------------------------------------------------------------------------


async def approved(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1010)
        await shop.decide(view, APPROVE)
        return await ended(shop, view.workflow_id)


async def approved_by_signal(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1011)
        assert view.report is not None
        seen = {"plan_digest": view.report.plan_digest, "fingerprint": view.report.fingerprint}
        decision = shop.client.signed(view.workflow_id, verdict=APPROVE, by="ben@example.com", mode=Mode.CLI, **seen)
        temporal = await cluster.connect(shop.settings)
        await temporal.get_workflow_handle(view.workflow_id).signal("decide", decision)
        return await ended(shop, view.workflow_id)


async def approved_by_two(shop: Installation) -> str:
    await shop.constrain(f"{CONSTRAINTS}quorum: {{approval: 2}}\n")
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1012)
        await shop.decide(view, APPROVE, by="ben@example.com")
        await shop.decide(view, APPROVE, by="cy@example.com")
        await ended(shop, view.workflow_id)
    await shop.constrain(CONSTRAINTS)
    return view.workflow_id


async def asked_again(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1013)
        shop.execute("UPDATE shop.orders SET total = 5 WHERE id = 1013")
        await shop.decide(view, APPROVE)
        again = await shop.until(view.workflow_id, lambda now: now.state is State.WAITING and now.report != view.report)
        await shop.decide(again, APPROVE)
        return await ended(shop, view.workflow_id)


async def rehearsed_again(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1023)
        shop.execute("UPDATE shop.orders SET total = 5 WHERE id = 1023")
        await shop.client.rehearse(view.workflow_id, by="ben@example.com")
        again = await shop.until(view.workflow_id, lambda now: now.state is State.WAITING and now.report != view.report)
        await shop.decide(again, APPROVE)
        return await ended(shop, view.workflow_id)


async def rejected(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1014)
        await shop.decide(view, REJECT, comment="paid twice already")
        return await ended(shop, view.workflow_id)


async def revised(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1015)
        await shop.decide(view, REVISE, comment="say why")
        await shop.decide(await planned(shop, view.workflow_id, 2), APPROVE)
        return await ended(shop, view.workflow_id)


async def continued(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1019)
        for number in range(1, 5):
            await shop.decide(view, REVISE, comment="once more")
            view = await planned(shop, view.workflow_id, number + 1)
        await shop.decide(view, APPROVE)
        return await ended(shop, view.workflow_id)


async def expired(shop: Installation) -> str:
    waits = {"expire_after": timedelta(seconds=2), "reminders": (Reminder(after=timedelta(seconds=1)),)}
    review = shop.settings.review.model_copy(update=waits)
    async with serving(shop.settings.model_copy(update={"review": review}), *Pool):
        return await ended(shop, await submit(shop, refund(1016), 1016))


async def refused(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1017)
        for said in ({"by": "ana@example.com"}, {"plan_digest": "0" * 64}, {"fingerprint": "0" * 64}):
            with suppress(DecisionRefused):
                await shop.decide(view, APPROVE, **said)
        temporal = await cluster.connect(shop.settings)
        forged = {"verdict": "approve", "plan_digest": "d", "fingerprint": "f", "by": "eve@example.com"}
        await temporal.get_workflow_handle(view.workflow_id).signal("decide", forged)
        await shop.until(view.workflow_id, lambda now: len(now.decisions) == 4)
        await shop.decide(view, REJECT, comment="no")
        return await ended(shop, view.workflow_id)


async def undone(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1018)
        await shop.decide(view, APPROVE)
        await ended(shop, view.workflow_id)
        undo = await shop.client.undo(view.workflow_id, by="ana@example.com")
        await shop.decide(await shop.until_waiting(undo.workflow_id), APPROVE)
        return await ended(shop, undo.workflow_id)


# --- tickets that are cancelled ----------------------------------------------------------------------------------


async def cancelled_waiting(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        view = await waiting(shop, 1020)
        await shop.client.cancel(view.workflow_id)
        return await ended(shop, view.workflow_id)


async def cancelled_executing(shop: Installation) -> str:
    async with serving(shop.settings, Pool.CORE, Pool.LLM):
        workflow_id = await submit(shop, set_status(1021), 1021)
        await shop.until(workflow_id, lambda view: view.state is State.EXECUTING)
        with psycopg.connect(shop.owner_url) as other:
            other.execute("SELECT FROM shop.orders WHERE id = 1021 FOR UPDATE")
            async with serving(shop.settings, Pool.DATABASE):
                await eventually(lambda: _blocked(shop), bool)
                await shop.client.cancel(workflow_id)
                return await ended(shop, workflow_id)


async def cancelled_too_late(shop: Installation) -> str:
    async with serving(shop.settings, Pool.CORE, Pool.LLM):
        workflow_id = await submit(shop, set_status(1022), 1022)
        await shop.until(workflow_id, lambda view: view.state is State.EXECUTING)
    await shop.client.cancel(workflow_id)
    handle = (await cluster.connect(shop.settings)).get_workflow_handle(workflow_id)

    async def executed() -> bool:
        return not (await handle.describe()).raw_description.pending_activities

    async with serving(shop.settings, Pool.DATABASE):
        await eventually(executed, bool)
        async with serving(shop.settings, Pool.CORE):  # which learns of both at once
            return await ended(shop, workflow_id)


async def _blocked(shop: Installation) -> bool:
    waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(shop.query(waits))


# --- planners ----------------------------------------------------------------------------------------------------


async def planned_by_a_function(shop: Installation) -> str:
    async with serving(shop.settings, *Pool):
        return await ended(shop, await submit(shop, set_status(1030), 1030)) + "/plan/1"


@contextmanager
def providing(url: str) -> Iterator[None]:
    """Let the agent's provider be at `url`."""
    before = dict(os.environ)
    os.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


async def planned_by_an_agent(shop: Installation) -> str:
    settings = shop.settings.model_copy(update={"planner": AGENT})
    with FakeProvider({}) as provider, providing(provider.url):
        async with serving(settings, Pool.LLM):
            planning = Planning(settings, await cluster.connect(settings), provider)
            handle = await planning.start(
                Calls("describe_table", table="orders"),
                Calls("look_up_rows", table="orders", equals={"id": 1042}),
                Answers(PLAN),
            )
            await handle.result()
            return handle.id


# --- batches -----------------------------------------------------------------------------------------------------


async def in_a_batch(shop: Installation) -> str:
    async with serving(shop.settings, *Pool), batching(shop) as batches:
        tickets = [automatic_ticket(number) for number in range(16)]
        batch_id = await batches.start(tickets, pace=Pace(at_once=4), events_per_run=50)
        await batches.end(batch_id)
        return batch_workflow_id(batch_id)


PATHS = (
    Path(name="done-automatic", walk=automatic, ends=State.DONE, steps={"Planner": 1, "review": 0, "execute": 1}),
    Path(name="done-nothing-to-change", walk=nothing_to_change, ends=State.DONE, steps={"Planner": 1, "execute": 0}),
    Path(name="done-replanned", walk=replanned, ends=State.DONE, steps={"Planner": 2, "review": 0, "execute": 1}),
    Path(name="done-after-drift", walk=drifted, ends=State.DONE, steps={"review": 0, "execute": 2}),
    Path(name="approved", walk=approved, ends=State.DONE, steps={"review": 1, "execute": 1}),
    Path(name="approved-by-signal", walk=approved_by_signal, ends=State.DONE, steps={"signal": 1, "execute": 1}),
    Path(name="approved-by-two", walk=approved_by_two, ends=State.DONE, steps={"review": 2, "execute": 1}),
    Path(name="approved-again", walk=asked_again, ends=State.DONE, steps={"review": 2, "validate": 3, "execute": 1}),
    Path(
        name="rehearsed-again",
        walk=rehearsed_again,
        ends=State.DONE,
        steps={"signal": 1, "review": 1, "validate": 3, "execute": 1},
    ),
    Path(name="revised", walk=revised, ends=State.DONE, steps={"Planner": 2, "review": 2, "execute": 1}),
    Path(name="continued", walk=continued, ends=State.DONE, steps={"Planner": 5, "execute": 1}, continued=True),
    Path(name="undone", walk=undone, ends=State.DONE, steps={"Planner": 0, "recall": 1, "review": 1, "execute": 1}),
    Path(name="rejected", walk=rejected, ends=State.REJECTED, steps={"review": 1, "execute": 0}),
    Path(name="refused-decisions", walk=refused, ends=State.REJECTED, steps={"review": 5, "signal": 1, "execute": 0}),
    Path(name="expired", walk=expired, ends=State.EXPIRED, steps={"remind": 1, "review": 0, "execute": 0}),
    Path(name="blocked", walk=blocked, ends=State.BLOCKED, steps={"Planner": 1, "execute": 0}),
    Path(name="failed-without-a-plan", walk=without_a_plan, ends=State.FAILED, steps={"Planner": 1, "validate": 0}),
    Path(name="failed-unsettled", walk=execution_unknown, ends=State.FAILED, steps={"execute": 1, "settle": 1}),
    Path(name="cancelled-waiting", walk=cancelled_waiting, ends=State.CANCELLED, steps={"review": 0, "execute": 0}),
    Path(name="cancelled-executing", walk=cancelled_executing, ends=State.CANCELLED, steps={"execute": 1, "settle": 1}),
    Path(name="done-though-cancelled", walk=cancelled_too_late, ends=State.DONE, steps={"execute": 1, "settle": 1}),
    Path(name="planned-by-a-function", walk=planned_by_a_function, ends=None, steps={"plan": 1}),
    Path(name="batch", walk=in_a_batch, ends=BatchState.DONE, steps={"Ticket": 16}, continued=True),
    Path(
        name="planned-by-an-agent",
        walk=planned_by_an_agent,
        ends=None,
        steps={"agent__planner__model_request": 3, "agent__planner__toolset__database__call_tool": 2},
        planner=AGENT,
    ),
)
