"""Connections to PostgreSQL: none is waited for in vain, and none that nobody uses holds others up."""

import asyncio
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.local.ports import free_port
from standfast.settings import Settings, Target
from standfast.store import connections
from standfast.store import databases as databases_module
from standfast.store.connections import Connection, open_connection
from standfast.store.databases import Databases, Role
from tests.integration.proxy import Proxy
from tests.integration.wire import Fate, Wire


def databases(url: str) -> Databases:
    return Databases(Settings(targets={"shop": Target(writer=SecretStr(url))}), application="standfast-test")


async def open_together(pool: Databases, count: int) -> None:
    """Use this many connections at once."""
    together = asyncio.Barrier(count)

    async def use() -> None:
        async with pool.target("shop", Role.WRITER) as connection:
            await connection.execute("SELECT 1")
            await together.wait()

    await asyncio.gather(*(use() for _ in range(count)))


@pytest.mark.parametrize("told", [True, False])
async def test_when_all_connections_are_lost_the_next_caller_gets_a_new_one(database: str, *, told: bool) -> None:
    port = int(conninfo_to_dict(database)["port"] or 5432)
    async with Proxy("127.0.0.1", port).open() as proxy, databases(make_conninfo(database, port=proxy.port)) as pool:
        await open_together(pool, 12)
        if told:
            await proxy.cut()
        else:
            proxy.swallow()
            proxy.heal()
        await open_together(pool, 1)


async def test_a_server_that_is_lost_before_a_new_connection_is_of_use_is_away(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases_module, "_PAYLOAD_SECONDS", 0.5)

    async def watch(message: bytes) -> Fate:
        return Fate.CUT if b"set_config" in message else Fate.PASS

    async with Wire(database).open() as wire:
        wire.watch = watch
        with pytest.raises(ServiceUnavailable, match=r"PostgreSQL at 127\.0\.0\.1:\d+/\w+ can't be reached"):
            await open_connection(wire.url)
        storage = {"url": SecretStr(wire.url)}
        async with Databases(Settings(storage=storage), application="standfast-test") as pool:
            with pytest.raises(ServiceUnavailable, match=r"PostgreSQL at 127\.0\.0\.1:\d+/\w+ can't be reached"):
                async with pool.payloads():
                    pass


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:Zm9v/hunter2@127.0.0.1:1/db",
        "postgresql://u:Zm9v@hunter2@127.0.0.1:1/db",
        "postgresql://u:hunter2/db",
        "postgresql://u:hunter2%zzs@127.0.0.1:1/db",
        "postgres:hunter2@127.0.0.1/db",
        "host=127.0.0.1 password=hunter 2hunter2",
    ],
)
async def test_a_url_that_libpq_reads_in_another_way_is_refused_without_its_password(url: str) -> None:
    assert connections.address(url) == "(not a PostgreSQL URL)"
    with pytest.raises(
        InvalidInput, match=r"not a PostgreSQL URL such as .*; percent-encode / @ % in the password"
    ) as raised:
        await open_connection(url)
    assert "hunter2" not in str(raised.value)
    async with databases(url) as pool:
        with pytest.raises(InvalidInput, match="not a PostgreSQL URL"):
            async with pool.target("shop", Role.WRITER):
                pass


@pytest.mark.parametrize("url", ["", " "])
async def test_an_empty_url_is_no_request_for_whichever_server_there_is(
    database: str, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for name, value in conninfo_to_dict(database).items():
        monkeypatch.setenv({"dbname": "PGDATABASE"}.get(name, f"PG{name.upper()}"), str(value))
    with pytest.raises(InvalidInput, match="the URL of a database is empty"):
        await open_connection(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@db.example.com:6432/shop", "db.example.com:6432/shop"),
        ("postgresql://u:p@db.example.com/shop", "db.example.com/shop"),
        ("postgresql:///shop?hostaddr=10.0.0.1", "10.0.0.1/shop"),
        ("postgresql://a:1,b:2/shop", "a,b:1,2/shop"),
        ("postgresql://", "the default host"),
    ],
)
def test_an_address_is_what_its_url_names_and_nothing_else(url: str, shown: str) -> None:
    assert connections.address(url) == shown


def test_a_command_says_once_that_a_database_is_away(tmp_path: Path) -> None:
    url = f"postgresql://u:p@127.0.0.1:{free_port()}/db"
    environment = {"STANDFAST_CONTROL__URL": url, "STANDFAST_HOME": str(tmp_path)}
    command = (sys.executable, "-m", "standfast.cli", "sessions", "list")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("standfast: PostgreSQL at 127.0.0.1:")


async def test_an_answer_that_never_comes_is_given_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "answer_seconds", 0.5)
    async with databases(database) as pool:
        with pytest.raises(ServiceUnavailable, match=r"no answer within 0\.5 s"):
            async with pool.target("shop", Role.WRITER) as connection:
                await connection.execute("SELECT pg_sleep(30)")


async def test_who_freezes_in_the_middle_of_an_answer_loses_his_locks(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections.PINNED["tcp_user_timeout"] == "10s"
    monkeypatch.setitem(connections.PINNED, "tcp_user_timeout", "500ms")
    with psycopg.connect(database) as owner:
        owner.execute("CREATE TABLE t AS SELECT 1 AS id")
    async with await open_connection(database) as frozen, await open_connection(database) as other:
        await frozen.execute("SELECT FROM public.t FOR UPDATE")
        frozen.pgconn.send_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 100)")
        await other.execute("SELECT FROM public.t FOR UPDATE")  # waits for the lock as long as we always do
        frozen.pgconn.finish()


async def test_a_rollback_costs_no_prepared_statement(database: str) -> None:
    async with await open_connection(database) as connection:
        for number in range(2):
            await connection.execute("SAVEPOINT here")
            await connection.execute("SELECT %s::int", [number], prepare=True)
            await connection.rollback_to("here")
            await connection.rollback()
        query = "SELECT generic_plans + custom_plans AS runs FROM pg_prepared_statements WHERE statement LIKE '%::int'"
        prepared = await (await connection.execute(query, prepare=False)).fetchall()
    assert [row["runs"] for row in prepared] == [2]


async def test_what_the_journal_was_sent_is_recorded_whatever_becomes_of_its_sender(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "answer_seconds", 0.5)
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("CREATE TABLE answers (id int)")

        async def watch(message: bytes) -> Fate:
            return Fate.VANISH_ANSWER if b"INSERT" in message else Fate.PASS

        async with Wire(database).open() as wire:
            control = {"url": SecretStr(wire.url)}
            async with Databases(Settings(control=control), application="standfast-test") as pool:
                wire.watch = watch
                with pytest.raises(ServiceUnavailable):
                    async with pool.journal() as connection:
                        await connection.execute("INSERT INTO public.answers VALUES (1)")
        assert owner.execute("SELECT count(*) FROM answers").fetchall() == [(1,)]
