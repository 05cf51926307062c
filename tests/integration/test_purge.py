"""What is kept of tickets that ended long ago can be removed; open ones, figures and the audit chain stay."""

import asyncio
import json
import operator
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from temporalio.client import Client

from standfast import batch, cluster, shown
from standfast.batch import BatchState, Pace, TicketState
from standfast.cli.purge import MEANING
from standfast.client import Standfast
from standfast.codec.sealing import Seal
from standfast.decision import DecisionVerdict
from standfast.errors import InvalidInput, NotPermitted, UnknownTicket
from standfast.local.ports import free_port
from standfast.local.supervisor import Supervisor
from standfast.local.temporal import TemporalServer
from standfast.outcome import State
from standfast.retention import namespaces
from standfast.retention.purge import Purged, purge
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.store.connections import open_connection
from standfast.verification import chain
from tests.integration.batching import automatic, batching, risky
from tests.integration.installation import CONSTRAINTS, Installation, exists, prepare, serving
from tests.processes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = [{"row": number, "text": "Parcel never came. " * 50} for number in range(200)]


def update(order: int) -> dict[str, Any]:
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
    return {"operations": [{"sql": sql, "params": ["please", order]}]}


def refund(order: int) -> dict[str, Any]:
    """A plan that needs a person."""
    return {"operations": [{"sql": "INSERT INTO shop.refunds (order_id, amount) VALUES ($1, 5)", "params": [order]}]}


@dataclass
class Kept:
    """An installation with an owner, and what its databases hold."""

    installation: Installation
    settings: Settings
    control: str
    temporal: Client

    def ask(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """Ask the control database as its owner."""
        with psycopg.connect(self.control) as connection:
            return connection.execute(statement.encode(), params).fetchall()

    def count(self, table: str, workflow_id: str, condition: str = "true") -> int:
        query = f"SELECT count(*) FROM standfast.{table} WHERE starts_with(workflow_id, %s) AND {condition}"  # noqa: S608
        ((number,),) = self.ask(query, workflow_id)
        return int(number)

    async def purge(self, before: datetime | None = None, **options: Any) -> Purged:
        told: dict[str, Any] = {"by": "ops@example.com", "progress": lambda *_: None}
        chosen: dict[str, Any] = {"histories": False, "dry_run": False} | told | options
        at = before or datetime.now(UTC)
        return await purge(self.settings, before=at, **chosen)

    async def breaks(self) -> list[str]:
        async with await open_connection(self.control) as connection:
            return [problem.problem for problem in (await chain.read(connection, (), lambda _: None)).problems]

    async def done(self, order: int) -> str:
        """Have a ticket with a large payload executed, and return its workflow id."""
        workflow_id = await self.installation.submit(
            update(order), subject={"order_id": order}, metadata={"plan": update(order), "rows": ROWS}
        )
        assert (await self.installation.client.wait(workflow_id)).state is State.DONE
        return workflow_id

    async def waiting(self, order: int) -> str:
        """Have a ticket with a large payload wait for a person."""
        workflow_id = await self.installation.submit(refund(order), metadata={"plan": refund(order), "rows": ROWS})
        await self.installation.until_waiting(workflow_id)
        return workflow_id


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick_to_forget() -> AsyncIterator[str]:
    """A Temporal server that removes a history at once, instead of half a minute after its end."""
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        server = TemporalServer(Path(folder), port=free_port(), ui_port=free_port())
        program = server.service()
        quick = "--dynamic-config-value=history.transferProcessorEnsureCloseBeforeDelete=false"
        async with Supervisor(Path(folder) / "logs", lambda _: None) as supervisor:
            await supervisor.start(replace(program, argv=(*program.argv, quick)))
            yield server.address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept(postgres: str, quick_to_forget: str) -> AsyncIterator[Kept]:
    name = f"t{uuid4().hex[:8]}"
    settings, owner = await prepare(postgres, quick_to_forget, name)
    control = make_conninfo(postgres, dbname=f"{name}_control")
    shop = settings.targets["shop"].model_copy(update={"owner": SecretStr(owner)})
    owned = settings.model_copy(
        update={
            "targets": {"shop": shop},
            "control": settings.control.model_copy(update={"owner": SecretStr(control)}),
        }
    )
    temporal = await cluster.connect(settings)
    async with await open_connection(control) as connection:
        await namespaces.note(temporal, connection)
    async with serving(settings, *Pool), Standfast.connect(settings) as client:
        installation = Installation(settings, client, owner)
        await installation.constrain(CONSTRAINTS)
        yield Kept(installation, owned, control, temporal)


async def test_a_purge_removes_what_is_kept_of_ended_tickets_and_leaves_open_ones_alone(kept: Kept) -> None:
    ended, open_ticket = await kept.done(1000), await kept.waiting(1001)
    assert kept.count("payload", ended) > 1
    assert kept.count("model_call", ended, "octet_length(answer) > 0") == 1
    of_open = kept.count("payload", open_ticket)
    view = await kept.installation.client.view(open_ticket)

    purged = await kept.purge()

    assert purged.tickets >= 1
    assert purged.left == ()
    assert kept.count("payload", ended) == 0
    assert kept.count("model_call", ended, "octet_length(answer) > 0") == 0
    assert kept.count("model_call", ended) == 1  # its figures
    assert kept.installation.query("SELECT * FROM standfast.ledger_row WHERE workflow_id = %s", ended) == []
    assert kept.installation.query("SELECT statements FROM standfast.ledger WHERE workflow_id = %s", ended) == [([{}],)]
    assert kept.count("payload", open_ticket) == of_open
    assert await kept.installation.client.view(open_ticket) == view
    await kept.installation.decide(view, DecisionVerdict.APPROVE)
    assert (await kept.installation.client.wait(open_ticket)).state is State.DONE


async def test_a_purge_removes_what_people_were_shown_of_a_ticket_and_what_was_rehearsed_beside_it(kept: Kept) -> None:
    ended, open_ticket = await kept.done(1008), await kept.waiting(1009)
    seal = Seal(kept.temporal.data_converter, kept.temporal.namespace)
    async with await open_connection(kept.control) as connection:
        for workflow_id in (ended, open_ticket):
            await shown.keep(connection, seal, await kept.installation.client.view(workflow_id), datetime.now(UTC))
        await connection.execute(
            "INSERT INTO standfast.payload (namespace, workflow_id, digest, run_id, content)"
            " VALUES ('default', %s, sha256('x'), '', 'x')",
            [f"{ended}/rehearsal"],
        )
    assert (await kept.purge(dry_run=True)).removed["shown"] == 1
    await kept.purge()
    assert (kept.count("shown", ended), kept.count("payload", ended)) == (0, 0)
    assert kept.count("shown", open_ticket) == 1


async def test_a_purge_is_on_the_audit_chain_which_verifies_as_before(kept: Kept) -> None:
    await kept.done(1002)
    before = datetime.now(UTC)
    purged = await kept.purge(before)
    ((actor, content),) = kept.ask(
        "SELECT actor, content FROM standfast.audit WHERE kind = 'purge' ORDER BY sequence DESC LIMIT 1"
    )
    assert actor == "ops@example.com"
    assert content == {
        "before": before.isoformat(),
        "removes": purged.removed,
        "ledgers": ["shop"],
        "histories": False,
    }
    assert await kept.breaks() == []


async def test_a_dry_run_tells_what_would_be_removed_and_removes_nothing(kept: Kept) -> None:
    workflow_id = await kept.done(1003)
    rows = kept.count("audit", "")
    told = await kept.purge(dry_run=True)
    assert told.removed["payloads"] == kept.count("payload", workflow_id) > 0
    assert told.removed["payload_bytes"] > told.removed["payloads"] * 64 * 1024
    assert told.removed["answers"] == told.removed["row_images"] == told.removed["statements"] == 1
    assert kept.count("audit", "") == rows
    done = await kept.purge()
    assert done.removed == told.removed
    assert (await kept.purge(dry_run=True)).removed.get("payloads", 0) == 0


async def test_people_are_told_of_everything_that_a_purge_removes(kept: Kept) -> None:
    assert (await kept.purge(dry_run=True, histories=True)).removed.keys() == MEANING.keys()


async def test_what_was_purged_can_not_be_taken_back_and_says_so(kept: Kept) -> None:
    workflow_id = await kept.done(1004)
    await kept.purge()
    ((operations, remarks),) = kept.installation.query(
        "SELECT operations, remarks FROM standfast.ledger_undo WHERE workflow_id = %s", workflow_id
    )
    assert operations is None
    assert "what it changed was purged from the ledger" in remarks[0]


async def test_a_ticket_that_ended_later_is_left_alone(kept: Kept) -> None:
    before = datetime.now(UTC)
    workflow_id = await kept.done(1005)
    payloads = kept.count("payload", workflow_id)
    await kept.purge(before)
    assert kept.count("payload", workflow_id) == payloads > 0


async def test_histories_are_removed_on_demand_and_content_that_outlived_its_history_by_its_age(kept: Kept) -> None:
    workflow_id = await kept.done(1006)

    async def listed() -> int:
        query = f'WorkflowId STARTS_WITH "{workflow_id}"'
        return (await kept.temporal.count_workflows(query)).count

    await eventually(listed, lambda number: number == 2)  # the ticket's and its planner's; lists lag a little behind
    await kept.purge(histories=True)
    await eventually(lambda: exists(kept.temporal, f"{workflow_id}/plan/1"), operator.not_)
    await eventually(lambda: exists(kept.temporal, workflow_id), operator.not_)
    with pytest.raises(UnknownTicket):
        await kept.installation.client.view(workflow_id)
    content = (
        "INSERT INTO standfast.payload (namespace, workflow_id, digest, run_id, content, stored_at)"
        " VALUES ('default', %s, sha256('x'), '', 'x', now() - make_interval(days => %s))"
    )
    with psycopg.connect(kept.control) as connection:
        connection.execute(content, [workflow_id, 3])
        connection.execute(content, ["ticket/shop/unknown-young", 1])
    await kept.purge(datetime.now(UTC) - timedelta(days=2))
    assert kept.count("payload", workflow_id) == 0
    assert kept.count("payload", "ticket/shop/unknown-young") == 1


async def test_the_tickets_of_a_batch_are_purged_when_it_has_ended_or_was_stopped_and_its_states_stay(
    kept: Kept,
) -> None:
    shop = kept.installation
    async with batching(shop) as batches:
        ended, stopped, running = automatic(8), risky(), risky()
        ids = [await batches.start([one]) for one in (ended, stopped, running)]
        await batches.end(ids[0])
        for batch_id, one in ((ids[1], stopped), (ids[2], running)):
            await batches.until_waiting(one)
            await batches.until(batch_id, lambda progress: progress.states == {TicketState.WAITING: 1})
        await kept.temporal.get_workflow_handle(batch.workflow_id(ids[1])).terminate()
        told = (await kept.purge(dry_run=True)).removed["batch_tickets"]

        done = (await kept.purge()).removed["batch_tickets"]

        left = kept.ask(
            "SELECT batch_id, state, octet_length(ticket) > 0, ending IS NULL FROM standfast.batch_ticket"
            " WHERE batch_id = ANY(%s) ORDER BY state DESC, 3",
            ids,
        )
        assert told == done == 2
        assert left == [
            (ids[1], "waiting", False, True),
            (ids[2], "waiting", True, True),
            (ids[0], "done", False, True),
        ]
        assert (await kept.purge(dry_run=True)).removed.get("batch_tickets", 0) == 0
        for one in (stopped, running):
            await batches.decide(one, DecisionVerdict.REJECT)
        await batches.end(ids[2])


async def test_a_batch_whose_tickets_were_purged_can_not_go_on_and_says_so(kept: Kept) -> None:
    async with batching(kept.installation) as batches:
        tickets = [automatic(9), automatic(10)]
        batch_id = await batches.start(tickets, pace=Pace(per_minute=1))
        await batches.until_ended(batch_id, 1)
        await kept.temporal.get_workflow_handle(batch.workflow_id(batch_id)).terminate()
        await kept.purge()
        await batches.start(tickets)
        end = await batches.end(batch_id)
    assert end.state is BatchState.STOPPED
    assert re.search(f"was purged from batch {batch_id}; start its file under another --id", end.reason)


async def test_a_ticket_that_was_submitted_again_meanwhile_is_left_alone(kept: Kept) -> None:
    old, again = [f"ticket/shop/old-{number:02}" for number in range(50)], "ticket/shop/old-again"
    content = (
        "INSERT INTO standfast.payload (namespace, workflow_id, digest, run_id, content, stored_at)"
        " VALUES ('default', %s, sha256('x'), '', 'x', now() - interval '3 days')"
    )
    with psycopg.connect(kept.control) as connection, connection.cursor() as cursor:
        cursor.executemany(content, [(workflow_id,) for workflow_id in (*old, again)])

    def submitted_again(*_: int) -> None:
        async def submit() -> None:
            async with Standfast.connect(kept.installation.settings) as standfast:
                await standfast.submit(risky().model_copy(update={"id": again.rpartition("/")[2]}))

        with ThreadPoolExecutor() as threads:
            threads.submit(asyncio.run, submit()).result()

    before = datetime.now(UTC) - timedelta(days=2)
    await kept.purge(before, progress=submitted_again)
    assert sum(kept.count("payload", workflow_id) for workflow_id in old) == 0
    assert kept.count("payload", again) == 1
    await kept.temporal.get_workflow_handle(again).terminate()


async def test_the_payloads_of_each_ticket_have_minutes_to_be_removed(kept: Kept) -> None:
    content = (
        "INSERT INTO standfast.payload (namespace, workflow_id, digest, run_id, content, stored_at)"
        " VALUES ('default', 'ticket/shop/slow-' || %s, sha256('x'), '', 'x', now() - interval '3 days')"
    )
    with psycopg.connect(kept.control) as connection:
        for number in range(3):
            connection.execute(content, [number])
        connection.execute("CREATE TABLE noted (statement_timeout interval)")
        connection.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF EXISTS (SELECT FROM gone) THEN"
            " INSERT INTO public.noted VALUES (current_setting('statement_timeout')::interval);"
            " END IF; RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER note AFTER DELETE ON standfast.payload REFERENCING OLD TABLE AS gone"
            " EXECUTE FUNCTION note()"
        )
    await kept.purge(datetime.now(UTC) - timedelta(days=2))
    with psycopg.connect(kept.control) as connection:
        noted = connection.execute("SELECT statement_timeout FROM noted").fetchall()
        connection.execute("DROP FUNCTION note CASCADE")
        connection.execute("DROP TABLE noted")
    assert len(noted) >= 3
    assert min(noted) >= (timedelta(minutes=2),)


async def test_expired_sessions_and_notes_are_removed(kept: Kept) -> None:
    with psycopg.connect(kept.control) as connection:
        for age in ("3 days", "1 day"):
            connection.execute(
                "INSERT INTO standfast.session (token_hash, user_name, mode, expires_at)"
                " VALUES (sha256(%s::bytea), 'ana@example.com', 'session', now() - %s::interval)",
                [age, age],
            )
            connection.execute(
                "INSERT INTO standfast.touched_row VALUES ('shop', sha256(%s::bytea), 'ticket/shop/x',"
                " now() - %s::interval)",
                [age, age],
            )
    purged = await kept.purge(datetime.now(UTC) - timedelta(days=2))
    assert (purged.removed["sessions"], purged.removed["noted_rows"]) == (1, 1)
    assert kept.ask("SELECT count(*) FROM standfast.session") == [(1,)]


async def test_nothing_is_purged_by_a_temporal_that_does_not_know_the_tickets(kept: Kept) -> None:
    workflow_id = await kept.done(1007)
    with psycopg.connect(kept.control) as connection:
        connection.execute("UPDATE standfast.namespace SET id = 'another'")
    try:
        with pytest.raises(InvalidInput, match="used with another namespace than namespace default at"):
            await kept.purge()
    finally:
        with psycopg.connect(kept.control) as connection:
            connection.execute("DELETE FROM standfast.namespace")
    try:
        with pytest.raises(InvalidInput, match="no worker has noted yet"):
            await kept.purge()
    finally:
        async with await open_connection(kept.control) as owner:
            await namespaces.note(kept.temporal, owner)
    assert kept.count("payload", workflow_id) > 0


async def test_only_an_owner_purges_and_only_the_past(kept: Kept) -> None:
    with pytest.raises(NotPermitted, match=r"set control\.owner"):
        await purge(
            kept.installation.settings,
            before=datetime.now(UTC),
            by="ops@example.com",
            histories=False,
            dry_run=False,
            progress=lambda *_: None,
        )
    with pytest.raises(InvalidInput, match="is not over"):
        await kept.purge(datetime.now(UTC) + timedelta(hours=1))


async def test_a_ledger_whose_owner_is_not_set_is_named(kept: Kept) -> None:
    shop = kept.installation.settings.targets["shop"]
    settings = kept.settings.model_copy(update={"targets": {"shop": shop}})
    left = await Kept(kept.installation, settings, kept.control, kept.temporal).purge()
    assert left.left == ("shop",)
    assert json.loads(left.model_dump_json())["left"] == ["shop"]
