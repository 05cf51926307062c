"""What a change of constraints would have decided: for plans that were made, on the rows of now, storing nothing."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from standfast.report import Verdict
from standfast.safety.constraints import Constraints, parse_constraints
from standfast.safety.preview import Preview, preview
from standfast.store.databases import Databases
from tests.integration.installation import CONSTRAINTS, Installation, installed

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRESENT = parse_constraints(CONSTRAINTS, source="test")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


def note(order: int) -> dict[str, Any]:
    """A plan that the present constraints let pass."""
    return {"operations": [{"sql": "UPDATE shop.orders SET status = $1 WHERE id = $2", "params": ["held", order]}]}


async def tried(installation: Installation, changed: Constraints, *workflow_ids: str) -> Preview:
    views = [await installation.client.view(workflow_id) for workflow_id in workflow_ids]
    async with Databases(installation.settings, application="test") as databases:
        return await preview(views, PRESENT, changed, databases, installation.settings)


async def test_a_preview_names_the_tickets_that_would_have_gone_another_way_and_why(installation: Installation) -> None:
    body = "Set orders 1001, 1002 and 1003 to held, and refund order 1004, please."
    held = [
        await installation.submit(note(order), body=body, labels=["vip"] * (order == 1002)) for order in (1001, 1002)
    ]
    for workflow_id in held:
        await installation.client.wait(workflow_id)
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    refund = await installation.submit({"operations": [{"sql": sql, "params": [1004]}]}, body=body)
    await installation.until_waiting(refund)
    changed = parse_constraints(
        f"{CONSTRAINTS}  - {{name: shop.refunds, writes: auto}}\n"
        "conditions: [{labels: [vip], reason: important customer}]",
        source="test",
    )
    ledger = installation.query("SELECT count(*) FROM standfast.ledger")
    found = await tried(installation, changed, *held, refund)
    assert (found.assessed, found.before, found.after, found.unavailable) == (
        3,
        {Verdict.AUTO: 2, Verdict.APPROVAL: 1},
        {Verdict.AUTO: 2, Verdict.APPROVAL: 1},
        (),
    )
    by_ticket = {one.workflow_id: one for one in found.differences}
    assert set(by_ticket) == {held[1], refund}
    assert (by_ticket[held[1]].before, by_ticket[held[1]].after) == (Verdict.AUTO, Verdict.APPROVAL)
    assert by_ticket[held[1]].why == ("ticket.condition: important customer",)
    assert (by_ticket[refund].before, by_ticket[refund].after) == (Verdict.APPROVAL, Verdict.AUTO)
    assert by_ticket[refund].why == ("table.writes: writes to shop.refunds need a person",)
    assert installation.query("SELECT count(*) FROM standfast.ledger") == ledger
    assert installation.query("SELECT count(*) FROM shop.refunds") == [(0,)]


async def test_a_ticket_whose_rows_are_busy_is_named_and_the_others_are_judged(installation: Installation) -> None:
    tickets = [await installation.submit(note(order), body=f"Set order {order} to held.") for order in (1010, 1011)]
    for workflow_id in tickets:
        await installation.client.wait(workflow_id)
    with psycopg.connect(installation.owner_url) as other:
        other.execute("SELECT FROM shop.orders WHERE id = 1010 FOR UPDATE")
        found = await tried(installation, PRESENT, *tickets)
    assert (found.assessed, found.unavailable, found.differences) == (1, (tickets[0],), ())
