"""What is too large for Temporal goes beside it, encrypted, through every step; while it is away, tickets wait."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError
from temporalio.converter import (
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

from standfast import cluster
from standfast.batch import content_digest
from standfast.batching.client import Batches
from standfast.client import Standfast
from standfast.decision import DecisionVerdict
from standfast.errors import NotPermitted, PayloadLost, ServiceUnavailable
from standfast.local.ports import free_port
from standfast.outcome import State
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.storage.contents import MAX_BYTES
from standfast.storage.external import external_storage
from standfast.storage.postgres import PostgresDriver
from standfast.store.databases import Databases
from standfast.ticket import MAX_BODY_BYTES, Ticket
from standfast.ticket import MAX_BYTES as MAX_BYTES_OF_A_TICKET
from standfast.visibility import TicketRow
from tests.integration.installation import CONSTRAINTS, Installation, prepare, serving
from tests.integration.passing import Passing, make, measure
from tests.integration.proxy import Proxy
from tests.processes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEGABYTE = 10**6
NOTHING: dict[str, Any] = {"operations": []}
WORKFLOW = StorageDriverStoreContext(
    target=StorageDriverWorkflowInfo(namespace="default", id="ticket/shop/of-the-driver", run_id="run")
)


def refund(order: int) -> dict[str, Any]:
    """A plan that needs a person."""
    return {"operations": [{"sql": "INSERT INTO shop.refunds (order_id, amount) VALUES ($1, 5)", "params": [order]}]}


def large(megabytes: int) -> list[dict[str, Any]]:
    return [{"row": number, "text": "Parcel never came. " * 50} for number in range(megabytes * 1000)]


def ids(rows: Iterable[TicketRow]) -> set[str]:
    return {row.workflow_id for row in rows}


@dataclass
class Stored:
    """An installation, and its control database as its owner sees it."""

    installation: Installation
    owner: str

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.owner) as connection:
            return connection.execute(statement.encode(), params).fetchall()

    def payloads(self, workflow_id: str) -> int:
        ((number,),) = self.query(
            "SELECT count(*) FROM standfast.payload WHERE starts_with(workflow_id, %s)", workflow_id
        )
        return int(number)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stored(postgres: str, temporal_server: str) -> AsyncIterator[Stored]:
    """An installation whose workers come and go."""
    name = f"t{uuid4().hex[:8]}"
    settings, owner = await prepare(postgres, temporal_server, name)
    async with Standfast.connect(settings) as client:
        installation = Installation(settings, client, owner)
        await installation.constrain(CONSTRAINTS)
        yield Stored(installation, make_conninfo(postgres, dbname=f"{name}_control"))


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """A client of Temporal's own that reads and stores large payloads."""
    async with (
        Databases(settings, application="test") as databases,
        external_storage(settings, databases) as storage,
    ):
        yield await cluster.connect(settings, storage)


async def history_bytes(client: Client, workflow_id: str) -> int:
    described = await client.get_workflow_handle(workflow_id).describe()
    return described.raw_description.workflow_execution_info.history_size_bytes


# --- a ticket with 20 MB ----------------------------------------------------------------------------------------------


async def test_a_ticket_with_20_mb_goes_through_every_step(stored: Stored) -> None:
    installation = stored.installation
    async with serving(installation.settings, *Pool), connected(installation.settings) as client:
        rows = large(20)
        workflow_id = await installation.submit(refund(1000), metadata={"plan": refund(1000), "rows": rows})
        await eventually(
            lambda: installation.client.lists.tickets([State.WAITING]), lambda found: workflow_id in ids(found)
        )
        view = await installation.client.view(workflow_id)
        assert view.context is not None
        assert view.context.ticket.metadata["rows"] == rows
        await installation.decide(view, DecisionVerdict.APPROVE)
        assert (await installation.client.wait(workflow_id)).state is State.DONE
        assert len(installation.ledger(workflow_id)) == 1
        assert await history_bytes(client, workflow_id) < MEGABYTE


async def test_what_is_stored_is_encrypted(stored: Stored) -> None:
    installation = stored.installation
    workflow_id = await installation.submit(refund(1001), metadata={"plan": refund(1001), "rows": large(1)})
    contents = stored.query("SELECT content FROM standfast.payload WHERE workflow_id = %s", workflow_id)
    assert contents
    for (content,) in contents:
        assert b"Parcel never came" not in content
    await installation.client.cancel(workflow_id)


async def test_neither_looks_nor_workers_that_start_again_make_the_storage_grow(stored: Stored) -> None:
    installation = stored.installation
    async with serving(installation.settings, *Pool):
        workflow_id = await installation.submit(refund(1002), metadata={"plan": refund(1002), "rows": large(1)})
        view = await installation.until_waiting(workflow_id)
        number = stored.payloads(workflow_id)
        for _ in range(3):
            assert await installation.client.view(workflow_id) == view
        assert stored.payloads(workflow_id) == number
    async with serving(installation.settings, *Pool):  # nothing is cached: the workflow is replayed
        assert await installation.client.view(workflow_id) == view
        assert stored.payloads(workflow_id) == number
        await installation.decide(view, DecisionVerdict.REJECT, comment="no")
        assert (await installation.client.wait(workflow_id)).state is State.REJECTED


async def test_why_a_batch_stopped_can_be_read_however_large_it_is(stored: Stored) -> None:
    settings = stored.installation.settings
    settings = settings.model_copy(update={"storage": settings.storage.model_copy(update={"threshold": 1024})})
    ticket = Ticket(id="B-1", body="please", requester="ana@example.com", target="shop")
    row: dict[str, Any] = {
        "batch": "stops" * 25,  # is stored with each payload
        "digest": content_digest([ticket]),
        "workflow": f"ticket/shop/{'x' * 500}",
        "ticket": Payload(data=b"{}").SerializeToString(),  # not encrypted
    }
    with psycopg.connect(stored.owner) as connection:
        connection.execute("INSERT INTO standfast.batch VALUES (%(batch)s, %(digest)s, 1)", row)
        connection.execute("INSERT INTO standfast.batch_ticket VALUES (%(batch)s, 0, 1, %(workflow)s, %(ticket)s)", row)
    async with serving(settings, Pool.CORE), Batches.connect(settings) as batches:
        await batches.start([(1, ticket)], batch_id=row["batch"])
        progress = [progress async for progress in batches.follow(row["batch"])][-1]
    assert progress.reason.startswith("a payload of ticket/shop/xxx")
    assert stored.payloads(f"batch/{row['batch']}")


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def passing(stored: Stored) -> AsyncIterator[Client]:
    """A worker that passes payloads on."""
    async with (
        connected(stored.installation.settings) as client,
        Worker(client, task_queue="passing", workflows=[Passing], activities=[make, measure]),
    ):
        yield client


async def test_a_payload_of_20_mb_passes_from_step_to_step_and_to_whoever_asks(passing: Client) -> None:
    handle = await passing.start_workflow(Passing.run, 20 * MEGABYTE, id=f"passing/{uuid4()}", task_queue="passing")
    assert await handle.result() == 20 * MEGABYTE
    assert len(await handle.query(Passing.text)) == 20 * MEGABYTE
    assert await history_bytes(passing, handle.id) < 20_000


async def test_a_payload_beyond_every_limit_ends_the_workflow_at_once_and_says_so(passing: Client) -> None:
    handle = await passing.start_workflow(Passing.run, MAX_BYTES + 1, id=f"passing/{uuid4()}", task_queue="passing")
    with pytest.raises(WorkflowFailureError) as caught:
        await asyncio.wait_for(handle.result(), 60)
    assert isinstance(caught.value.cause, ActivityError)
    assert isinstance(caught.value.cause.cause, ApplicationError)
    assert caught.value.cause.cause.type == "PayloadTooLarge"
    assert f"at most {MAX_BYTES} are allowed" in caught.value.cause.cause.message


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"body": "x" * (MAX_BODY_BYTES + 1)}, "field body: .* 65537 bytes, at most 65536 are allowed"),
        ({"id": "no/slash"}, "field id"),
        ({"metadata": {"much": "x" * MAX_BYTES_OF_A_TICKET}}, "at most 33554432 are allowed"),
    ],
)
async def test_a_workflow_that_is_started_by_others_with_too_much_ends_at_once_and_says_so(
    stored: Stored, wrong: dict[str, Any], said: str
) -> None:
    ticket = {"id": "T-1", "body": "please", "requester": "ana@example.com", "target": "shop"} | wrong
    settings = stored.installation.settings
    async with serving(settings, Pool.CORE), connected(settings) as client:
        handle = await client.start_workflow("Ticket", ticket, id=f"ticket/shop/{uuid4()}", task_queue=Pool.CORE)
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 30)
    assert isinstance(caught.value.cause, ApplicationError)
    assert re.search(said, caught.value.cause.message)


# --- the driver -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def driver(settings: Settings) -> AsyncIterator[PostgresDriver]:
    async with Databases(settings, application="test") as databases:
        yield PostgresDriver(databases)


async def test_what_comes_back_is_what_was_stored_or_nothing(stored: Stored) -> None:
    payload = Payload(metadata={"encoding": b"binary/plain"}, data=bytes(range(256)) * 10)
    async with driver(stored.installation.settings) as storage:
        (claim,) = await storage.store(WORKFLOW, [payload])
        assert await storage.store(WORKFLOW, [payload]) == [claim]
        assert stored.payloads("ticket/shop/of-the-driver") == 1
        assert await storage.retrieve(StorageDriverRetrieveContext(), [claim]) == [payload]
        with psycopg.connect(stored.owner) as connection:
            connection.execute("UPDATE standfast.payload SET content = set_byte(content, 20, 0) WHERE run_id = 'run'")
        with pytest.raises(PayloadLost, match="ticket/shop/of-the-driver was changed in the control database"):
            await storage.retrieve(StorageDriverRetrieveContext(), [claim])
        with psycopg.connect(stored.owner) as connection:
            connection.execute("DELETE FROM standfast.payload WHERE run_id = 'run'")
        with pytest.raises(PayloadLost, match="it was purged, or this is another database"):
            await storage.retrieve(StorageDriverRetrieveContext(), [claim])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE standfast.payload SET content = ''",
        "DELETE FROM standfast.payload",
        "TRUNCATE standfast.payload",
        "SELECT * FROM standfast.audit",
        "SELECT * FROM standfast.model_call",
        "CREATE TABLE standfast.mine ()",
    ],
)
async def test_the_role_of_the_storage_can_only_add_and_read(stored: Stored, statement: str) -> None:
    url = stored.installation.settings.storage.url
    assert url is not None
    with psycopg.connect(url.get_secret_value()) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


async def test_a_process_without_the_storage_says_which_setting_is_missing() -> None:
    async with driver(Settings()) as storage:
        with pytest.raises(NotPermitted, match=r"set storage\.url"):
            await storage.store(WORKFLOW, [Payload(data=b"x")])


# --- outages ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def behind_a_proxy(settings: Settings) -> AsyncIterator[tuple[Settings, Proxy]]:
    """Settings whose storage is reached by way of a proxy."""
    assert settings.storage.url is not None
    url = settings.storage.url.get_secret_value()
    parts = conninfo_to_dict(url)
    async with Proxy(str(parts["host"]), int(str(parts["port"]))).open() as proxy:
        there = SecretStr(make_conninfo(url, host="127.0.0.1", port=proxy.port))
        yield settings.model_copy(update={"storage": settings.storage.model_copy(update={"url": there})}), proxy


async def test_a_ticket_waits_while_the_storage_is_away_and_goes_on_when_it_is_back(stored: Stored) -> None:
    installation = stored.installation
    async with behind_a_proxy(installation.settings) as (settings, proxy), connected(installation.settings) as client:
        proxy.refuse()
        async with serving(settings, *Pool):
            workflow_id = await installation.submit(NOTHING, metadata={"plan": NOTHING, "rows": large(1)})

            async def events() -> set[int]:
                found = client.get_workflow_handle(workflow_id).fetch_history_events()
                return {event.event_type async for event in found}

            await eventually(events, lambda seen: EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED in seen)
            proxy.heal()
            assert (await installation.client.wait(workflow_id)).state is State.DONE


async def test_a_client_says_that_the_storage_is_away(stored: Stored) -> None:
    settings = stored.installation.settings
    assert settings.storage.url is not None
    nobody = SecretStr(make_conninfo(settings.storage.url.get_secret_value(), port=free_port()))
    away = settings.model_copy(update={"storage": settings.storage.model_copy(update={"url": nobody})})
    async with Standfast.connect(away) as client:
        with pytest.raises(ServiceUnavailable, match=r"PostgreSQL at 127\.0\.0\.1:\d+/\w+_control can't be reached"):
            await Installation(away, client, "").submit(refund(1004), metadata={"rows": large(1)})
