"""The embedded services are the real ones: they keep their data and their port through kill -9, and are ours alone."""

import asyncio
import os
import shutil
import signal
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import ListTaskQueuePartitionsRequest
from temporalio.client import Client

from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.local.ports import free_port
from standfast.local.postgres import Postgres
from standfast.local.supervisor import Account, Event, Happening, Service, Supervisor, launched
from standfast.local.temporal import TemporalServer
from standfast.steps import Pool
from tests.processes import is_running, until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about root")


@asynccontextmanager
async def running(service: Service, folder: Path) -> AsyncIterator[list[Event]]:
    events: list[Event] = []
    async with Supervisor(folder / "logs", events.append) as supervisor:
        await supervisor.start(service)
        yield events
    assert not any(is_running(event.pid) for event in events)


async def kill_and_wait(events: list[Event]) -> None:
    """kill -9 the one service, and wait until it is back."""
    os.kill(events[-1].pid, signal.SIGKILL)
    await until(lambda: events[-1].happening is Happening.BACK)


async def prepared(home: Path, port: int | None = None) -> Postgres:
    server = Postgres(home / "postgres", port=port or free_port())
    await server.prepare()
    return server


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owner(path: Path) -> int:
    return path.stat().st_uid


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def query(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row and row[0]


async def test_postgres_keeps_data_and_port_through_kill_9_and_through_a_new_start(home: Path) -> None:
    first = await prepared(home)
    async with running(first.service(), home) as events:
        query(first.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
        await kill_and_wait(events)
        assert query(first.url(), "SELECT answer FROM kept") == 42
    second = await prepared(home)
    async with running(second.service(), home):
        assert query(second.url(), "SELECT answer FROM kept") == 42
    assert names(home / "postgres") == {"data", "password"}
    assert mode(home / "postgres" / "password") == 0o600


def test_postgres_is_a_crash_safe_18_that_listens_on_loopback_only(postgres: str) -> None:
    assert str(query(postgres, "SHOW server_version")).startswith("18.")
    for setting in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
        assert query(postgres, f"SHOW {setting}") == "on"
    assert query(postgres, "SHOW listen_addresses") == "127.0.0.1"
    assert query(postgres, "SHOW unix_socket_directories") == ""


def test_postgres_lets_nobody_in_without_the_password(postgres: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        query(make_conninfo(postgres, password="guessed"), "SELECT 1")


async def test_a_lost_password_is_named_before_anything_starts(home: Path) -> None:
    await prepared(home)
    (home / "postgres" / "password").unlink()
    with pytest.raises(InvalidInput, match=r"postgres/password.*restore the file, or delete the folder"):
        await prepared(home)


async def test_an_interrupted_first_start_is_made_up_for(home: Path) -> None:
    (home / "postgres" / "data.new" / "base").mkdir(parents=True)
    server = await prepared(home)
    async with running(server.service(), home):
        assert query(server.url(), "SELECT 1") == 1


async def test_the_lock_of_a_killed_server_is_no_obstacle_when_its_id_was_given_to_another(home: Path) -> None:
    server = await prepared(home)
    data = home / "postgres" / "data"
    owner = data.stat()
    account = Account(uid=owner.st_uid, gid=owner.st_gid) if os.geteuid() == 0 else None
    sleep = shutil.which("sleep")
    assert sleep
    other = await asyncio.create_subprocess_exec(*launched((sleep, "600"), account))
    try:
        lock = data / "postmaster.pid"
        lock.write_text(f"{other.pid}\n{data}\n1700000000\n5432\n\n127.0.0.1\n")
        os.chown(lock, owner.st_uid, owner.st_gid)
        await server.prepare()
        async with running(server.service(), home):
            assert query(server.url(), "SELECT 1") == 1
    finally:
        other.kill()
        await other.wait()


async def test_postgres_says_why_it_cannot_start(home: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        server = await prepared(home, squatter.getsockname()[1])
        with pytest.raises(ServiceUnavailable, match=r"Address already in use"):
            async with running(server.service(), home):
                pass


@as_root
async def test_root_runs_postgres_as_another_account_and_opens_folders_for_passing_only(home: Path) -> None:
    server = await prepared(home)
    async with running(server.service(), home) as events:
        assert owner(Path(f"/proc/{events[0].pid}")) != 0
    assert [mode(folder) for folder in (home, home / "postgres", home / "postgres" / "data")] == [0o701, 0o701, 0o700]
    assert owner(home / "postgres" / "password") == 0


@as_root
async def test_root_says_once_which_folders_it_opened(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    await prepared(home)
    assert f"may now search (not read) {home.parent}, {home}, {home}/postgres" in caplog.text
    caplog.clear()
    await prepared(home)
    assert not caplog.text


async def test_temporal_keeps_workflows_and_port_through_kill_9(home: Path) -> None:
    server = TemporalServer(home / "temporal", port=free_port(), ui_port=free_port())
    async with running(server.service(), home) as events:
        client = await Client.connect(server.address)
        handle = await client.start_workflow("Anything", id="kept", task_queue="nobody")
        await kill_and_wait(events)
        described = await handle.describe()
        assert (described.id, described.run_id) == ("kept", handle.first_execution_run_id)


async def test_temporal_has_our_search_attributes_and_its_web_ui(home: Path) -> None:
    server = TemporalServer(home / "temporal", port=free_port(), ui_port=free_port())
    async with running(server.service(), home):
        client = await Client.connect(server.address)
        query_all = 'StandfastState = "done" AND StandfastTarget = "shop" AND StandfastRisk = "auto"'
        assert (await client.count_workflows(query_all)).count == 0
        host, _, port = server.ui.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readline()
        writer.close()


async def test_temporal_has_no_partition_of_a_queue_on_which_a_task_could_miss_its_worker(temporal_server: str) -> None:
    client = await Client.connect(temporal_server)
    found = await client.workflow_service.list_task_queue_partitions(
        ListTaskQueuePartitionsRequest(namespace="default", task_queue=TaskQueue(name=Pool.LLM))
    )
    assert len(found.activity_task_queue_partitions) == 1
    assert len(found.workflow_task_queue_partitions) == 1


async def test_temporal_ignores_what_was_configured_for_another_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example.com:7233")
    server = TemporalServer(home / "temporal", port=free_port(), ui_port=free_port())
    async with running(server.service(), home):
        assert (await Client.connect(server.address)).namespace == "default"
