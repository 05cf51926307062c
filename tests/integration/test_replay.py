"""`standfast replay` tells before a roll-out which tickets under way this code could not go on with."""

import asyncio
import json
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import standfast.workflow
from standfast import cluster
from standfast.errors import InvalidInput
from standfast.outcome import State
from standfast.replay import OPEN
from standfast.steps import Pool
from tests.integration.installation import serving
from tests.integration.shop import Shop, shop_of_its_own
from tests.replay.changed import MORE, changed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str) -> AsyncIterator[Shop]:
    async with shop_of_its_own(postgres) as shop:
        yield shop


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_is_under_way_is_replayed_and_what_would_break_is_named(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(shop.installation.settings, *Pool):
        tickets = {await shop.waiting(order) for order in (1000, 1001)}
    temporal = await cluster.connect(shop.installation.settings)
    somebody_elses = await temporal.start_workflow("Invoice", id="invoice", task_queue="invoices")
    try:
        await shop.until_listed(3, OPEN)
        done = await shop.run("replay", "--open")
        assert (done.return_value, json.loads(done.stdout)) == (0, {"replayed": 2, "broken": [], "others": 1})

        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(standfast.workflow, "TicketWorkflow", changed(tmp_path, MORE))
        refused = await shop.run("replay", "--open")
        assert refused.return_value == 1
        broken = json.loads(refused.stdout)["broken"]
        assert {one["workflow_id"] for one in broken} == tickets
        assert all(
            "'validate' does not match activity type of activity command 'gather'" in one["breaks"] for one in broken
        )
    finally:
        await somebody_elses.terminate()
        for ticket in tickets:
            await temporal.get_workflow_handle(ticket).terminate()
        await shop.until_listed(0, OPEN)


async def test_what_has_ended_is_replayed_if_asked_for(shop: Shop) -> None:
    async with serving(shop.installation.settings, *Pool):
        workflow_id = await shop.installation.submit({"operations": []})
        await shop.installation.client.wait(workflow_id)
    await shop.until_listed(2, f'WorkflowId IN ("{workflow_id}", "{workflow_id}/plan/1") AND NOT ({OPEN})')
    temporal = await cluster.connect(shop.installation.settings)
    everything = (await temporal.count_workflows('TaskQueue IN ("core", "llm")')).count
    assert json.loads((await shop.run("replay", "--open")).stdout)["replayed"] == 0
    assert json.loads((await shop.run("replay", "--all")).stdout)["replayed"] == everything


async def test_a_planner_whose_agent_is_missing_is_no_success(shop: Shop) -> None:
    async with serving(shop.installation.settings, Pool.CORE):
        workflow_id = await shop.installation.submit({"operations": []})
        await shop.installation.until(workflow_id, lambda view: view.state is State.PLANNING)
        await shop.until_listed(2, OPEN)
    assert json.loads((await shop.run("replay", "--open")).stdout)["replayed"] == 2
    missing = await shop.run("replay", "--open", planner={"agent": "not_there:agent"})
    assert isinstance(missing.exception, InvalidInput)
    assert "planner.agent = 'not_there:agent': No module named 'not_there'" in str(missing.exception)
    temporal = await cluster.connect(shop.installation.settings)
    for started in (workflow_id, f"{workflow_id}/plan/1"):
        await temporal.get_workflow_handle(started).terminate()
    await shop.until_listed(0, OPEN)


async def test_a_history_that_temporals_command_line_wrote_is_replayed(shop: Shop, tmp_path: Path) -> None:
    async with serving(shop.installation.settings, *Pool):
        workflow_id = await shop.installation.submit({"operations": []})
        await shop.installation.client.wait(workflow_id)
    program = Path(sysconfig.get_path("scripts")) / "temporal"
    arguments = ("workflow", "show", "--output", "json", "--address", shop.installation.settings.temporal.address)
    files = []
    for number, name in enumerate((workflow_id, f"{workflow_id}/plan/1")):
        shown = await asyncio.create_subprocess_exec(
            program, *arguments, "--workflow-id", name, stdout=asyncio.subprocess.PIPE
        )
        files.append(tmp_path / f"{number}.json")
        files[-1].write_bytes((await shown.communicate())[0])
    done = await shop.run("replay", *map(str, files))
    assert (done.return_value, json.loads(done.stdout)["replayed"]) == (0, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no history as JSON"),
        ('{"events": []}', "is no history as JSON"),
        ('{"events": [{"eventType": "EVENT_TYPE_TIMER_STARTED"}]}', "task queue '', none of ours"),
    ],
)
async def test_a_file_that_is_no_history_of_ours_is_refused(shop: Shop, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "history.json"
    file.write_text(text)
    refused = await shop.run("replay", str(file))
    assert isinstance(refused.exception, InvalidInput)
    assert str(refused.exception).startswith(f"{file}: ")
    assert said in str(refused.exception)
