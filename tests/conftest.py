"""Real services for all tests: one throw-away PostgreSQL and one Temporal server a run, started on first use."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio
from psycopg import sql

from standfast.local.ports import free_port
from standfast.local.postgres import Postgres
from standfast.local.supervisor import Event, Supervisor
from standfast.local.temporal import TemporalServer
from standfast.store.connections import open_connection


def _ignore(event: Event) -> None:
    del event


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty private folder for services; not below pytest's own, which its next run closes to other accounts."""
    with TemporaryDirectory(prefix="standfast test ") as folder:
        path = Path(folder) / "home"
        path.mkdir(mode=0o700)
        yield path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _postgres_server() -> AsyncIterator[Postgres]:
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        server = Postgres(Path(folder), port=free_port())
        await server.prepare()
        async with Supervisor(Path(folder) / "logs", _ignore) as supervisor:
            await supervisor.start(server.service())
            yield server


@pytest.fixture(scope="session")
def postgres(_postgres_server: Postgres) -> str:
    """URL of a real PostgreSQL 18, as the superuser."""
    return _postgres_server.url()


@pytest_asyncio.fixture
async def database(_postgres_server: Postgres) -> AsyncIterator[str]:
    """URL of a new empty database, as the superuser."""
    name = f"test_{secrets.token_hex(6)}"
    await _postgres_server.create_database(name)
    yield _postgres_server.url(name)
    async with await open_connection(_postgres_server.url()) as connection:
        await connection.set_autocommit(True)
        await connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal_server() -> AsyncIterator[str]:
    """Address (host:port) of a real Temporal server with our search attributes."""
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        server = TemporalServer(Path(folder), port=free_port(), ui_port=free_port())
        async with Supervisor(Path(folder) / "logs", _ignore) as supervisor:
            await supervisor.start(server.service())
            yield server.address
