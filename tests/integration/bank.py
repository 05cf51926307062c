"""A small target for executions: accounts, and how to look at them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from temporalio.testing import ActivityEnvironment

from standfast.execution.activity import Executor
from standfast.outcome import Execution
from standfast.plan import Operation, Plan
from standfast.safety.constraints import Limits
from standfast.safety.rehearsal import rehearse
from standfast.settings import Settings, Target
from standfast.steps import ExecuteRequest
from standfast.store.databases import Databases, Role
from standfast.store.migrate import migrate_target
from standfast.store.roles import role_name

PASSWORD = "only-for-tests"
SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.accounts (id int PRIMARY KEY, balance int NOT NULL, owner text);
CREATE TABLE shop.payouts (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id int UNIQUE REFERENCES shop.accounts, amount int
);
INSERT INTO shop.accounts SELECT n, 100, 'ana' FROM generate_series(1, 5) n;
"""
PLAN = Plan(
    summary="Pay ten out of account 1",
    operations=(
        Operation(sql="UPDATE accounts SET balance = balance - $1 WHERE id = $2", params=(10, 1)),
        Operation(sql="INSERT INTO payouts (account_id, amount) VALUES ($1, $2)", params=(1, 10)),
    ),
)

DONE = {"ledger": 1, "ledger_count": 2, "ledger_row": 2, "ledger_undo": 1}
"""What the ledger has about it once it is executed, in rows by table..."""
NOTHING = dict.fromkeys(DONE, 0)
"""...and before."""


@dataclass
class Bank:
    """A target with accounts, and how to look at it."""

    owner_url: str
    writer_url: str
    name: str = "bank"
    tickets: int = field(default=0)

    @classmethod
    async def create(cls, owner_url: str) -> Self:
        """Open the bank in an empty database."""
        with psycopg.connect(owner_url) as connection:
            connection.execute(SCHEMA.encode())
        await migrate_target(owner_url, "bank", ("shop",), {Role.WRITER: PASSWORD})
        return cls(owner_url, make_conninfo(owner_url, user=role_name("bank", Role.WRITER), password=PASSWORD))

    @asynccontextmanager
    async def databases(self, url: str | None = None) -> AsyncIterator[Databases]:
        target = Target(writer=SecretStr(url or self.writer_url), schemas=("shop",))
        async with Databases(Settings(targets={self.name: target}), application="standfast-test") as databases:
            yield databases

    async def request(self, plan: Plan = PLAN, **changes: Any) -> ExecuteRequest:
        """A new ticket's plan, rehearsed on the rows as they are."""
        async with (
            self.databases() as databases,
            databases.target(self.name, Role.REHEARSER) as change,
            databases.observer(self.name, Role.REHEARSER) as observer,
        ):
            named = [frozenset[str]()] * len(plan.operations)
            rehearsal = await rehearse(plan, change, observer, limits=Limits(), targets=named)
        self.tickets += 1
        fields = {
            "workflow_id": f"ticket/bank/{self.tickets}",
            "target": self.name,
            "plan": plan,
            "plan_digest": plan.digest(self.name),
            "fingerprint": rehearsal.effect.fingerprint,
            "volatile": tuple(rehearsal.effect.volatile),
            "undo": rehearsal.undo,
            "undo_proved": rehearsal.undo_proved,
            "not_after": datetime.now(UTC) + timedelta(minutes=5),
            "approved_by": ("ben@example.com",),
        }
        return ExecuteRequest.model_validate(fields | changes)

    async def execute(self, request: ExecuteRequest, url: str | None = None, *, attempt: int = 1) -> Execution:
        """Execute as a worker process of its own would."""
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, attempt=attempt)
        async with self.databases(url) as databases:
            return await environment.run(Executor(databases).execute, request)

    async def settle(self, request: ExecuteRequest) -> Execution | None:
        """Ask the ledger as a worker would."""
        async with self.databases() as databases:
            return (await ActivityEnvironment().run(Executor(databases).settle, request)).execution

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.owner_url) as connection:
            return connection.execute(statement.encode(), params).fetchall()

    def balance(self, account: int = 1) -> int:
        return int(self.query("SELECT balance FROM shop.accounts WHERE id = %s", account)[0][0])

    def ledger(self, request: ExecuteRequest) -> list[tuple[Any, ...]]:
        return self.query("SELECT attempt FROM standfast.ledger WHERE workflow_id = %s", request.workflow_id)

    def recorded(self, request: ExecuteRequest) -> dict[str, int]:
        """Count what the ledger has about a plan, table by table."""
        query = "SELECT count(*) FROM standfast.{} WHERE workflow_id = %s"
        return {table: self.query(query.format(table), request.workflow_id)[0][0] for table in DONE}

    def reset(self) -> None:
        with psycopg.connect(self.owner_url) as connection:
            connection.execute("DELETE FROM shop.payouts")
            connection.execute("UPDATE shop.accounts SET balance = 100")

    async def until_blocked(self, count: int = 1) -> list[int]:
        """Wait until `count` sessions wait for a lock, and return their process ids."""
        async with asyncio.timeout(10):
            while True:
                waiting = self.query(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                if len(waiting) >= count:
                    return [pid for (pid,) in waiting]
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def locked(self, statement: str = "SELECT FROM shop.accounts WHERE id = 1 FOR UPDATE") -> AsyncIterator[Any]:
        """Somebody else's open transaction, which is rolled back unless the test commits it."""
        async with await psycopg.AsyncConnection.connect(self.owner_url) as connection:
            await connection.execute(statement.encode())
            try:
                yield connection
            finally:
                await connection.rollback()

    def assert_done_once(self, request: ExecuteRequest) -> None:
        assert (self.balance(), self.recorded(request)) == (90, DONE)
        assert self.query("SELECT amount FROM shop.payouts") == [(10,)]

    def assert_untouched(self, request: ExecuteRequest) -> None:
        assert (self.balance(), self.recorded(request)) == (100, NOTHING)
        assert self.query("SELECT amount FROM shop.payouts") == []
