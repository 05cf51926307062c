"""PostgreSQL dies, fills up, falls silent or only reads: workers reconnect by themselves, and change things once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo
from pydantic import BaseModel, SecretStr
from temporalio.client import Client

from standfast import cluster
from standfast.client import Standfast
from standfast.codec.reading import of_workflow, reveal
from standfast.decision import DecisionVerdict
from standfast.local.ports import free_port
from standfast.local.postgres import Postgres
from standfast.local.supervisor import Event, Happening, Supervisor
from standfast.outcome import State
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.store.connections import Connection
from standfast.store.databases import Role
from tests.integration.installation import CONSTRAINTS, Installation, database_name, prepare, serving
from tests.integration.proxy import Proxy
from tests.processes import LIMIT, until

Section = TypeVar("Section", bound=BaseModel)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Trouble:
    """How it begins and ends, and what people read of it meanwhile."""

    begin: str
    end: str
    words: str


END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'standfast%'"
READ_ONLY = Trouble(
    "ALTER DATABASE {db} SET default_transaction_read_only = on",
    "ALTER DATABASE {db} RESET default_transaction_read_only",
    "read-only transaction",
)
CONTROL_READ_ONLY = Trouble(
    "ALTER DATABASE {control} SET default_transaction_read_only = on",
    "ALTER DATABASE {control} RESET default_transaction_read_only",
    "read-only transaction",
)
FULL = Trouble(
    "ALTER DATABASE {db} CONNECTION LIMIT 0", "ALTER DATABASE {db} CONNECTION LIMIT -1", "too many connections"
)

TABLE_GONE = Trouble(
    "ALTER TABLE shop.refunds RENAME TO refunds_old",
    "ALTER TABLE shop.refunds_old RENAME TO refunds",
    "there is no relation shop.refunds",
)
NO_RIGHT = Trouble(
    "REVOKE INSERT ON shop.refunds FROM standfast_shop_writer",
    "GRANT INSERT ON shop.refunds TO standfast_shop_writer",
    "permission denied for table refunds",
)
NO_LEDGER = Trouble(
    "REVOKE INSERT ON standfast.ledger FROM standfast_shop_writer",
    "GRANT INSERT ON standfast.ledger TO standfast_shop_writer",
    "permission denied for table ledger",
)


@dataclass
class Shop(Installation):
    """An installation whose database can be made to fail."""

    proxy: Proxy
    """Between all workers and their databases."""
    temporal: Client
    supervisor: Supervisor
    events: list[Event]

    def owner(self, statement: str) -> None:
        """Run a statement as the superuser, with {db} and {control} for the names of the databases, from elsewhere."""
        names = {"db": database_name(self.owner_url), "control": database_name(self.control_url)}
        with psycopg.connect(make_conninfo(self.owner_url, dbname="postgres"), autocommit=True) as connection:
            connection.execute(statement.format_map(names).encode())

    @contextmanager
    def trouble(self, trouble: "Trouble") -> Iterator[None]:
        """All workers are in trouble until the end of the block."""
        self.owner(trouble.begin)
        self.owner(END_SESSIONS)
        try:
            yield
        finally:
            self.owner(trouble.end)
            self.owner(END_SESSIONS)

    def blocked(self) -> bool:
        """Tell whether an execution waits to write to the ledger."""
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%standfast.ledger%%'"
        return bool(self.query(waiting))

    def happened(self, happening: Happening) -> int:
        return sum(event.happening is happening for event in self.events)

    @asynccontextmanager
    async def executing(self, order: int) -> AsyncIterator[str]:
        """A ticket whose execution waits for the ledger, which is free at the end of the block."""
        with psycopg.connect(self.owner_url) as held:
            held.execute("LOCK TABLE standfast.ledger IN SHARE MODE")
            workflow_id = await self.submit(set_status(order), subject={"order_id": order})
            await until(self.blocked)
            yield workflow_id
            held.close()

    async def assert_done_once(self, workflow_id: str, order: int) -> None:
        outcome = await self.client.wait(workflow_id)
        assert (outcome.state, len(self.ledger(workflow_id))) == (State.DONE, 1), outcome
        assert self.query("SELECT status FROM shop.orders WHERE id = %s", order) == [("please",)]

    async def failure(self, workflow_id: str, words: str) -> None:
        """Wait until an attempt of an activity has failed for this reason."""
        handle = self.temporal.get_workflow_handle(workflow_id)
        converter = of_workflow(self.temporal.data_converter, self.temporal.namespace, workflow_id)
        seen = ""
        async with asyncio.timeout(LIMIT):
            while words not in seen:
                pending = (await handle.describe()).raw_description.pending_activities
                await reveal((activity.last_failure for activity in pending), converter)
                seen = "".join(str(activity.last_failure) for activity in pending)
                await asyncio.sleep(0.05)


def set_status(order: int) -> dict[str, Any]:
    """A plan that runs by itself."""
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
    return {"operations": [{"sql": sql, "params": ["please", order], "expect_rows": 1}]}


def refund(order: int) -> dict[str, Any]:
    """A plan that needs a person."""
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    return {"operations": [{"sql": sql, "params": [order]}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(temporal_server: str) -> AsyncIterator[Shop]:
    events: list[Event] = []
    port = free_port()
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        postgres = Postgres(Path(folder), port=port)
        await postgres.prepare()
        async with Supervisor(Path(folder) / "logs", events.append) as supervisor:
            await supervisor.start(postgres.service())
            direct, owner = await prepare(make_conninfo(postgres.url()), temporal_server, "shop_of_outages")
            async with Proxy("127.0.0.1", port).open() as proxy:
                settings = through(direct, proxy.port)
                async with serving(settings, *Pool), Standfast.connect(settings) as client:
                    shop = Shop(direct, client, owner, proxy, await cluster.connect(direct), supervisor, events)
                    await shop.constrain(CONSTRAINTS)
                    yield shop


def through(settings: Settings, port: int) -> Settings:
    """Return the settings with all databases behind this port."""

    def moved(section: Section, *urls: str) -> Section:
        new = {name: SecretStr(make_conninfo(getattr(section, name).get_secret_value(), port=port)) for name in urls}
        return section.model_copy(update=new)

    targets = {name: moved(target, *Role) for name, target in settings.targets.items()}
    return settings.model_copy(update={"targets": targets, "control": moved(settings.control, "url", "journal")})


async def test_a_server_killed_in_the_middle_of_an_execution(shop: Shop) -> None:
    async with shop.executing(1000) as workflow_id:
        (status,) = shop.supervisor.status()
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        await until(lambda: shop.happened(Happening.BACK) == 1)
    await shop.assert_done_once(workflow_id, 1000)


async def test_a_network_that_swallows_everything(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "answer_seconds", 1.0)
    async with shop.executing(1002) as workflow_id:
        shop.proxy.swallow()
        await shop.failure(workflow_id, "no answer within 1 s")
        shop.proxy.heal()
    await shop.assert_done_once(workflow_id, 1002)


async def test_a_server_that_only_reads_is_waited_for(shop: Shop) -> None:
    async with AsyncExitStack() as trouble:
        async with shop.executing(1003) as workflow_id:
            trouble.enter_context(shop.trouble(READ_ONLY))
        await shop.failure(workflow_id, READ_ONLY.words)
    await shop.assert_done_once(workflow_id, 1003)


@pytest.mark.parametrize(("order", "trouble"), [(1004, READ_ONLY), (1005, FULL)])
async def test_no_plan_is_blamed_for_a_server_in_trouble(shop: Shop, order: int, trouble: Trouble) -> None:
    with shop.trouble(trouble):
        workflow_id = await shop.submit(set_status(order), subject={"order_id": order})
        await shop.failure(workflow_id, trouble.words)
    await shop.assert_done_once(workflow_id, order)


async def test_a_decision_waits_for_its_record_and_counts_once(shop: Shop) -> None:
    workflow_id = await shop.submit(refund(1006), subject={"order_id": 1006})
    view = await shop.until_waiting(workflow_id)
    with shop.trouble(CONTROL_READ_ONLY):
        deciding = asyncio.create_task(shop.decide(view, DecisionVerdict.APPROVE))
        await shop.failure(workflow_id, CONTROL_READ_ONLY.words)
        assert (await shop.client.view(workflow_id)).state is State.WAITING
    assert (await deciding).refused is None
    assert (await shop.client.wait(workflow_id)).state is State.DONE
    assert shop.query("SELECT amount FROM shop.refunds WHERE order_id = 1006") == [(1006,)]
    with psycopg.connect(shop.control_url) as control:
        recorded = control.execute("SELECT kind FROM standfast.audit WHERE workflow_id = %s", [workflow_id]).fetchall()
    assert recorded.count(("decision",)) == 1
    assert ("decision.refused",) not in recorded


@pytest.mark.parametrize(
    ("order", "damage", "state"),
    [
        (1007, TABLE_GONE, State.BLOCKED),
        (1008, NO_RIGHT, State.FAILED),
        (1009, NO_LEDGER, State.FAILED),
    ],
)
async def test_what_cannot_heal_ends_the_ticket_in_words(shop: Shop, order: int, damage: Trouble, state: State) -> None:
    workflow_id = await shop.submit(refund(order), subject={"order_id": order})
    view = await shop.until_waiting(workflow_id)
    shop.execute(damage.begin)
    try:
        await shop.decide(view, DecisionVerdict.APPROVE)
        outcome = await shop.client.wait(workflow_id)
    finally:
        shop.execute(damage.end)
    assert outcome.state is state
    assert damage.words in outcome.reason
    assert shop.query("SELECT count(*) FROM shop.refunds WHERE order_id = %s", order) == [(0,)]
