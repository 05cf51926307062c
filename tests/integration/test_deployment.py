"""Versions of the workers: a ticket ends on the version that it began on, and no version is waited for in vain."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client

import standfast.workflow
from standfast import batch, cluster, worker
from standfast.decision import DecisionVerdict
from standfast.deployment import Deployments, Use
from standfast.doctor.temporal import inspect_temporal
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.outcome import State
from standfast.settings import Deployment, Settings
from standfast.steps import Pool
from tests.integration.batching import batching, risky
from tests.integration.installation import serving
from tests.integration.proxy import Proxy
from tests.integration.shop import Shop, shop_of_its_own
from tests.processes import LIMIT, eventually
from tests.replay.changed import MORE, changed
from tests.replay.paths import planned


@pytest_asyncio.fixture
async def shop(postgres: str) -> AsyncIterator[Shop]:
    async with shop_of_its_own(postgres) as shop:
        yield shop


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a drain look often."""
    monkeypatch.setattr("standfast.cli.deploy._LOOK", 0.2)


@pytest_asyncio.fixture
async def temporal(shop: Shop) -> Client:
    return await cluster.connect(shop.installation.settings)


def build(shop: Shop, build_id: str | None) -> Settings:
    """Return the settings of workers of this build."""
    return shop.installation.settings.model_copy(update={"deployment": Deployment(build_id=build_id)})


async def make_current(shop: Shop, build_id: str) -> None:
    """Run `standfast deploy current` until the server has seen the build's workers."""

    await eventually(lambda: shop.run("deploy", "current", build_id), lambda done: done.exception is None)


async def shown(shop: Shop) -> dict[str, Any]:
    """Return what `standfast deploy show` has, by build."""
    return {one["build_id"]: one for one in json.loads((await shop.run("deploy", "show")).stdout)}


async def builds(temporal: Client, workflow_id: str) -> set[str]:
    """Return the builds that have worked on a workflow."""
    events = (await temporal.get_workflow_handle(workflow_id).fetch_history()).events
    done = [e.workflow_task_completed_event_attributes for e in events]
    return {attributes.deployment_version.build_id for attributes in done if attributes.started_event_id}


async def _look(shop: Shop, build_id: str | None) -> dict[str, str]:
    """Return what the doctor of workers with this build has against the Temporal server."""
    return {check.name: check.message for check in await inspect_temporal(build(shop, build_id)) if not check.ok}


async def _logged(caplog: pytest.LogCaptureFixture) -> str:
    return caplog.text


async def approve(shop: Shop, workflow_id: str) -> None:
    await shop.installation.decide(await shop.installation.client.view(workflow_id), DecisionVerdict.APPROVE)
    assert (await shop.installation.client.wait(workflow_id)).state is State.DONE


async def revise(shop: Shop, workflow_id: str) -> None:
    view = await shop.installation.client.view(workflow_id)
    await shop.installation.decide(view, DecisionVerdict.REVISE, comment="Again.")


async def test_a_waiting_ticket_ends_on_the_version_it_began_on_and_new_ones_begin_on_the_next(
    shop: Shop, temporal: Client
) -> None:
    async with serving(build(shop, "1"), *Pool):
        await make_current(shop, "1")
        before = await shop.waiting(1000)
        async with serving(build(shop, "2"), *Pool):
            await make_current(shop, "2")
            after = await shop.waiting(1001)
            assert {name: one["use"] for name, one in (await shown(shop)).items()} == {"1": Use.OLD, "2": Use.CURRENT}
            assert await Deployments(temporal, "standfast").old() == {"1": 1}
            draining = asyncio.create_task(shop.run("deploy", "drain"))
            await approve(shop, before)
            await approve(shop, after)
            drained = await draining
    assert await builds(temporal, before) == {"1"}
    assert await builds(temporal, f"{before}/plan/1") == {"1"}
    assert await builds(temporal, after) == {"2"}
    assert [json.loads(line) for line in drained.stdout.splitlines()][-1] == {"1": 0}


async def test_a_share_of_new_tickets_begins_on_a_ramping_version_and_none_once_it_is_taken_back(
    shop: Shop, temporal: Client
) -> None:
    async with serving(build(shop, "1"), *Pool), serving(build(shop, "2"), *Pool):
        await make_current(shop, "1")
        await eventually(lambda: shop.run("deploy", "ramp", "100", "2"), lambda done: done.exception is None)
        for other in ("1", "3"):
            refused = await shop.run("deploy", "ramp", "0", other)
            assert f"build {other} is not ramping, build 2 is" in str(refused.exception)
        assert {name: one["share"] for name, one in (await shown(shop)).items()} == {"1": 0, "2": 100}
        assert await builds(temporal, await shop.waiting(1000)) == {"2"}
        await shop.run("deploy", "ramp", "0", "2")
        assert {name: one["use"] for name, one in (await shown(shop)).items()} == {"1": Use.CURRENT, "2": Use.OLD}
        assert await builds(temporal, await shop.waiting(1001)) == {"1"}
        assert "build 2 is not ramping, no build is" in str((await shop.run("deploy", "ramp", "0", "2")).exception)


async def test_tickets_of_an_old_version_are_moved_if_they_replay_on_the_new_code(shop: Shop, temporal: Client) -> None:
    async with serving(build(shop, "1"), *Pool):
        await make_current(shop, "1")
        waiting = await shop.waiting(1000)
    async with serving(build(shop, "2"), *Pool):
        await make_current(shop, "2")
        drained = await shop.run("deploy", "drain", "--move", deployment={"build_id": "2"})
        assert (drained.return_value, json.loads(drained.stdout)) == (0, {"1": 0})
        await revise(shop, waiting)
        await planned(shop.installation, waiting, 2)
        await approve(shop, waiting)
    assert await builds(temporal, waiting) == {"1", "2"}
    assert await builds(temporal, f"{waiting}/plan/2") == {"2"}


async def test_a_ticket_that_does_not_replay_on_the_new_code_stays_and_is_waited_for(
    shop: Shop, temporal: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(build(shop, "1"), *Pool):
        await make_current(shop, "1")
        waiting = await shop.waiting(1000)
        async with serving(build(shop, "2"), *Pool):
            await make_current(shop, "2")
            monkeypatch.syspath_prepend(tmp_path)
            monkeypatch.setattr(standfast.workflow, "TicketWorkflow", changed(tmp_path, MORE))
            looked = looks(monkeypatch)
            draining = asyncio.create_task(shop.run("deploy", "drain", "--move", deployment={"build_id": "2"}))
            await asyncio.to_thread(looked.answered.wait, LIMIT)
            await approve(shop, waiting)
            drained = await draining
    assert drained.return_value == 1
    assert f"{waiting}  stays on 1: [TMPRL1100] Nondeterminism error" in drained.stderr
    assert await builds(temporal, waiting) == {"1"}


async def test_a_planner_stays_where_its_ticket_stays(
    shop: Shop, temporal: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(build(shop, "1"), Pool.CORE, Pool.DATABASE):
        async with serving(build(shop, "1"), Pool.LLM):
            await make_current(shop, "1")
            waiting = await shop.waiting(1000)
        await revise(shop, waiting)
        planner = f"{waiting}/plan/2"
        await shop.until_listed(1, f'WorkflowId = "{planner}" AND TemporalWorkerDeploymentVersion = "standfast:1"')
        async with serving(build(shop, "2"), *Pool):
            await make_current(shop, "2")
            monkeypatch.syspath_prepend(tmp_path)
            monkeypatch.setattr(standfast.workflow, "TicketWorkflow", changed(tmp_path, MORE))
            looked = looks(monkeypatch)
            draining = asyncio.create_task(shop.run("deploy", "drain", "--move", deployment={"build_id": "2"}))
            await asyncio.to_thread(looked.answered.wait, LIMIT)
            async with serving(build(shop, "1"), Pool.LLM):
                await planned(shop.installation, waiting, 2)
                await approve(shop, waiting)
                drained = await draining
    assert f"{planner}  stays on 1: as {waiting} does" in drained.stderr
    assert "0 moved to 2, 2 stay where they are" in drained.stderr
    assert await builds(temporal, waiting) == await builds(temporal, planner) == {"1"}


async def test_a_ticket_that_went_on_while_it_was_moved_is_taken_back_if_it_does_not_replay_any_more(
    shop: Shop, temporal: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(build(shop, "1"), *Pool):
        await make_current(shop, "1")
        waiting = await shop.waiting(1000)
        async with serving(build(shop, "2"), *Pool):
            await make_current(shop, "2")
            monkeypatch.syspath_prepend(tmp_path)
            second = f"if self._view.plan_number > 1:\n            {MORE}"
            monkeypatch.setattr(standfast.workflow, "TicketWorkflow", changed(tmp_path, second))
            real, about_to_move, may_move = Deployments.move, threading.Event(), threading.Event()

            async def late(deployments: Deployments, workflow_id: str, run_id: str, build_id: str) -> None:
                about_to_move.set()
                await asyncio.to_thread(may_move.wait, LIMIT)
                await real(deployments, workflow_id, run_id, build_id)

            monkeypatch.setattr(Deployments, "move", late)
            looked = looks(monkeypatch)
            draining = asyncio.create_task(shop.run("deploy", "drain", "--move", deployment={"build_id": "2"}))
            await asyncio.to_thread(about_to_move.wait, LIMIT)
            await revise(shop, waiting)
            await planned(shop.installation, waiting, 2)
            may_move.set()
            await asyncio.to_thread(looked.answered.wait, LIMIT)
            await approve(shop, waiting)
            drained = await draining
    assert f"{waiting}  stays on 1: [TMPRL1100] Nondeterminism error" in drained.stderr
    assert drained.return_value == 1
    assert await builds(temporal, waiting) == {"1"}


async def test_a_batch_is_waited_for_where_it_is_and_its_tickets_are_moved(
    shop: Shop, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(build(shop, "1"), *Pool), batching(shop.installation) as batches:
        await make_current(shop, "1")
        ticket = risky()
        started = batch.workflow_id(await batches.start([ticket]))
        await batches.until_waiting(ticket)
        async with serving(build(shop, "2"), *Pool):
            await make_current(shop, "2")
            await shop.until_listed(
                2, 'TemporalWorkerDeploymentVersion = "standfast:1" AND ExecutionStatus = "Running"'
            )
            looked = looks(monkeypatch)
            draining = asyncio.create_task(shop.run("deploy", "drain", "--move", deployment={"build_id": "2"}))
            await asyncio.to_thread(looked.answered.wait, LIMIT)
            await approve(shop, ticket.workflow_id)
            drained = await draining
    assert "1 moved to 2, 0 stay where they are" in drained.stderr
    assert json.loads(drained.stdout.splitlines()[-1]) == {"1": 0}
    assert await builds(temporal, ticket.workflow_id) == {"1", "2"}
    assert await builds(temporal, started) == {"1"}


async def test_draining_goes_on_after_temporal_was_away(
    shop: Shop, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = looks(monkeypatch)
    host, _, port = shop.installation.settings.temporal.address.rpartition(":")
    async with serving(build(shop, "1"), *Pool), Proxy(host, int(port)).open() as proxy:
        await make_current(shop, "1")
        waiting = await shop.waiting(1000)
        async with serving(build(shop, "2"), *Pool):
            await make_current(shop, "2")
            address = {"address": proxy.address, "namespace": temporal.namespace}
            draining = asyncio.create_task(shop.run("deploy", "drain", temporal=address))
            await asyncio.to_thread(looked.answered.wait, LIMIT)
            proxy.refuse()
            await proxy.cut()
            await asyncio.to_thread(looked.failed.wait, LIMIT)
            proxy.heal()
            await approve(shop, waiting)
            drained = await draining
    assert drained.exception is None
    assert [json.loads(line) for line in drained.stdout.splitlines()] == [{"1": 1}, {"1": 0}]
    assert "Temporal: " in drained.stderr


@dataclass(frozen=True)
class Looks:
    """What became of a drain's looks at what is under way."""

    answered: threading.Event
    failed: threading.Event


def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """See how a drain looks at what is under way, as it does in a thread of its own."""
    looks, real = Looks(threading.Event(), threading.Event()), Deployments.old

    async def old(deployments: Deployments) -> dict[str, int]:
        try:
            found = await real(deployments)
        except ServiceUnavailable:
            looks.failed.set()
            raise
        looks.answered.set()
        return found

    monkeypatch.setattr(Deployments, "old", old)
    return looks


async def test_a_ticket_that_continues_as_new_goes_on_on_the_current_version(postgres: str) -> None:
    # By its size, since Temporal keeps the versions themselves in workflows with many small events.
    async with shop_of_its_own(postgres, "limit.historySize.suggestContinueAsNew=300000") as shop:
        temporal = await cluster.connect(shop.installation.settings)
        async with serving(build(shop, "1"), *Pool), serving(build(shop, "2"), *Pool):
            await make_current(shop, "1")
            workflow_id = await shop.waiting(1000, body="please " * 9000)
            await make_current(shop, "2")
            assert await builds(temporal, workflow_id) == {"1"}
            await revise(shop, workflow_id)
            await planned(shop.installation, workflow_id, 2)
            assert await builds(temporal, workflow_id) == {"2"}
            await approve(shop, workflow_id)


async def test_only_to_the_version_of_this_code_anything_is_moved(shop: Shop) -> None:
    async with serving(build(shop, "1"), *Pool):
        await make_current(shop, "1")
        for deployment, said in (
            ({}, "no build is named"),
            ({"build_id": "2"}, "'2', which is not the current version"),
        ):
            refused = await shop.run("deploy", "drain", "--move", deployment=deployment)
            assert isinstance(refused.exception, InvalidInput)
            assert said in str(refused.exception)


async def test_a_version_without_all_pools_is_not_made_current(shop: Shop) -> None:
    unknown = await shop.run("deploy", "current", "1")
    assert isinstance(unknown.exception, InvalidInput)
    async with serving(build(shop, "1"), Pool.CORE, Pool.DATABASE):

        async def refused() -> str:
            return str((await shop.run("deploy", "current", "1")).exception)

        await eventually(refused, lambda said: said.startswith("no worker of pool llm has come with build 1; start"))


async def test_workers_that_get_no_new_tickets_are_told_so_by_themselves_and_by_the_doctor(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    first = "new tickets begin on workers without a version, not on build 1: `standfast deploy current 1`"
    async with serving(build(shop, "1"), *Pool):
        waiting = await shop.installation.submit({"operations": []})
        assert (await _look(shop, "1"))["temporal deployment"].startswith(first)
        assert "temporal deployment" not in await _look(shop, None)
        await make_current(shop, "1")
        assert (await shop.installation.client.wait(waiting)).state is State.DONE
        assert "temporal deployment" not in await _look(shop, "1")
        assert "deployment.build_id is not set" in (await _look(shop, None))["temporal deployment"]
    serving_in_vain = asyncio.create_task(worker.run(Pool.DATABASE, build(shop, "2")))
    await eventually(lambda: _logged(caplog), lambda said: "new tickets begin on build 1, not on build 2" in said)
    serving_in_vain.cancel()


async def test_the_doctor_misses_the_workers_of_an_old_version_that_is_needed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(build(shop, "1"), *Pool), serving(build(shop, "2"), *Pool):
        await make_current(shop, "1")
        await shop.waiting(1000)
        await make_current(shop, "2")
        assert "temporal deployment build 1" not in await _look(shop, "2")
    monkeypatch.setattr("standfast.doctor.versions._SEEN", timedelta())
    missed = (await _look(shop, "2"))["temporal deployment build 1"]
    assert missed.startswith("1 under way on it, but no worker of pool core or llm or database has its build")
