"""A whole installation in this process: real Temporal, real PostgreSQL with a small shop, a worker per pool."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from standfast import cluster, worker
from standfast.client import Standfast
from standfast.decision import DecisionRecord, DecisionVerdict, Mode
from standfast.outcome import State
from standfast.safety.constraints import parse_constraints
from standfast.safety.versions import append
from standfast.settings import Settings
from standfast.signing import new_key_pair
from standfast.steps import Pool
from standfast.storage.external import external_storage
from standfast.store.databases import Databases, Role
from standfast.store.migrate import migrate_control, migrate_target
from standfast.store.roles import CONTROL_ROLE, CONTROL_ROLES, JOURNAL_ROLE, STORAGE_ROLE, role_name
from standfast.ticket import Ticket
from standfast.view import TicketView

PASSWORD = "only-for-tests"
ENCRYPTION = {"keys": {"test": base64.b64encode(PASSWORD.encode().ljust(32)).decode()}}
SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id integer PRIMARY KEY, status text NOT NULL, total numeric(10,2) NOT NULL);
CREATE TABLE shop.refunds (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id integer NOT NULL UNIQUE REFERENCES shop.orders,
    amount numeric(10,2) NOT NULL
);
INSERT INTO shop.orders SELECT n, 'paid', n FROM generate_series(1000, 1099) n;
"""
CONSTRAINTS = """
version: 1
target: shop
schemas: [shop]
tables_default: approval
statements: {auto: [select, insert, update], approval: [delete]}
tables:
  - {name: shop.orders, writes: auto}
"""


@dataclass
class Installation:
    """What a test needs of it."""

    settings: Settings
    client: Standfast
    owner_url: str
    """Superuser's URL of the shop's database, to look at what really happened."""

    async def submit(self, plan: dict[str, Any], **changes: Any) -> str:
        """Submit a ticket whose plan the scripted agent answers, and return the workflow id."""
        fields: dict[str, Any] = {
            "id": f"T-{uuid4().hex[:12]}",
            "body": "please",
            "requester": "ana@example.com",
            "target": "shop",
            "metadata": {"plan": plan},
        }
        return (await self.client.submit(Ticket.model_validate(fields | changes))).workflow_id

    async def until(self, workflow_id: str, condition: Callable[[TicketView], bool]) -> TicketView:
        """Follow the ticket until `condition` holds."""
        async for view in self.client.watch(workflow_id):
            if condition(view):
                return view
        msg = f"{workflow_id} ended before the condition held"
        raise AssertionError(msg)

    async def until_waiting(self, workflow_id: str) -> TicketView:
        return await self.until(workflow_id, lambda view: view.state is State.WAITING)

    async def decide(
        self, view: TicketView, verdict: DecisionVerdict, *, by: str = "ben@example.com", comment: str = "", **seen: str
    ) -> DecisionRecord:
        """Decide on what `view` shows."""
        assert view.report is not None
        shown = {"plan_digest": view.report.plan_digest, "fingerprint": view.report.fingerprint} | seen
        return await self.client.decide(
            view.workflow_id, verdict=verdict, by=by, mode=Mode.CLI, comment=comment, **shown
        )

    @property
    def control_url(self) -> str:
        """URL of the control database."""
        assert self.settings.control.url is not None
        return self.settings.control.url.get_secret_value()

    async def constrain(self, constraints: str) -> None:
        """Store other constraints."""
        parsed = parse_constraints(constraints, source="test")
        async with Databases(self.settings, application="test") as databases, databases.control() as connection:
            await append(connection, parsed, created_by="test")

    def execute(self, statement: str) -> None:
        """Change the shop's database as its owner, behind everybody's back."""
        with psycopg.connect(self.owner_url) as connection:
            connection.execute(statement.encode())

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """Ask the shop's database as its owner."""
        with psycopg.connect(self.owner_url) as connection:
            return connection.execute(statement.encode(), params).fetchall()

    def ledger(self, workflow_id: str) -> list[tuple[Any, ...]]:
        """Return the ledger rows of a ticket."""
        return self.query("SELECT plan_digest FROM standfast.ledger WHERE workflow_id = %s", workflow_id)


def with_user(url: str, user: str) -> str:
    return make_conninfo(url, user=user, password=PASSWORD)


async def prepare(postgres_url: str, temporal_address: str, database: str, **changes: Any) -> tuple[Settings, str]:
    """Create a control and a target database with a small shop, and return settings for them."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in (database, f"{database}_control"):
            connection.execute(f"CREATE DATABASE {name}".encode())
    owner, control = (make_conninfo(postgres_url, dbname=name) for name in (database, f"{database}_control"))
    with psycopg.connect(owner) as connection:
        connection.execute(SCHEMA.encode())
    await migrate_control(control, dict.fromkeys(CONTROL_ROLES, PASSWORD))
    await migrate_target(owner, "shop", ("shop",), dict.fromkeys(Role, PASSWORD))
    private, public = new_key_pair()
    target = {role.value: with_user(owner, role_name("shop", role)) for role in Role} | {"schemas": ["shop"]}
    values: dict[str, Any] = {
        "targets": {"shop": target},
        "control": {"url": with_user(control, CONTROL_ROLE), "journal": with_user(control, JOURNAL_ROLE)},
        "storage": {"url": with_user(control, STORAGE_ROLE)},
        "temporal": {"address": temporal_address},
        "planner": {"agent": "tests.integration.scripted_planner:plan"},
        "review": {"signing_key": private, "public_keys": {"default": public}},
        "encryption": ENCRYPTION,
    }
    return Settings(**(values | changes)), owner


@asynccontextmanager
async def installed(postgres_url: str, temporal_address: str, **changes: Any) -> AsyncIterator[Installation]:
    """A new installation, with its constraints, served in this process; `changes` are of its settings."""
    settings, owner = await prepare(postgres_url, temporal_address, f"t{uuid4().hex[:8]}", **changes)
    async with serving(settings, *Pool), Standfast.connect(settings) as client:
        installation = Installation(settings, client, owner)
        await installation.constrain(CONSTRAINTS)
        yield installation


@asynccontextmanager
async def serving(settings: Settings, *pools: Pool) -> AsyncIterator[None]:
    """Serve `pools` in this process."""
    async with AsyncExitStack() as stack:
        databases = await stack.enter_async_context(Databases(settings, application="standfast-test"))
        storage = await stack.enter_async_context(external_storage(settings, databases))
        for pool in pools:
            served = worker.registrations(pool, settings, databases)
            client = await cluster.connect(settings, storage, plugins=served.plugins)
            await stack.enter_async_context(worker.build(pool, client, served, settings.deployment))
        yield


def database_name(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


async def exists(temporal: Client, workflow_id: str) -> bool:
    """Tell whether Temporal knows the workflow."""
    try:
        await temporal.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def runs(temporal: Client, workflow_id: str) -> list[WorkflowHistory]:
    """Return the histories of a workflow's runs, newest first; lists of workflows lag behind."""
    found: list[WorkflowHistory] = []
    run_id = ""
    while not found or run_id:
        found.append(await temporal.get_workflow_handle(workflow_id, run_id=run_id).fetch_history())
        run_id = found[-1].events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return found
