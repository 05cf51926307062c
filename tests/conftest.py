"""Real services for all tests: one throw-away PostgreSQL and one Temporal server a run, started on first use."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio
from hypothesis import settings
from psycopg import sql

from standfast.local.ports import free_port
from standfast.local.postgres import Postgres
from standfast.local.supervisor import Event, Supervisor
from standfast.local.temporal import TemporalServer
from standfast.store.connections import open_connection
from tests.older_postgres import MAJORS, NEWEST, OlderPostgres

# `pytest --hypothesis-profile thorough` looks for longer.
settings.register_profile("standard", settings.default, deadline=None)
settings.register_profile("thorough", settings.default, deadline=None, max_examples=3000)
settings.load_profile("standard")


def _ignore(event: Event) -> None:
    del event


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty private folder for services; not below pytest's own, which its next run closes to other accounts."""
    with TemporaryDirectory(prefix="standfast test ") as folder:
        path = Path(folder) / "home"
        path.mkdir(mode=0o700)
        yield path


@asynccontextmanager
async def _running(server: Postgres, folder: Path) -> AsyncIterator[Postgres]:
    await server.prepare()
    async with Supervisor(folder / "logs", _ignore) as supervisor:
        await supervisor.start(server.service())
        yield server


@asynccontextmanager
async def _new_database(server: Postgres) -> AsyncIterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    await server.create_database(name)
    yield server.url(name)
    async with await open_connection(server.url()) as connection:
        await connection.set_autocommit(True)
        await connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _postgres_server() -> AsyncIterator[Postgres]:
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        async with _running(Postgres(Path(folder), port=free_port()), Path(folder)) as server:
            yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=MAJORS, ids="postgres{}".format)
async def any_postgres(request: pytest.FixtureRequest, _postgres_server: Postgres) -> AsyncIterator[Postgres]:
    """A real PostgreSQL of each major version in turn."""
    if request.param == NEWEST:
        yield _postgres_server
        return
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        older = OlderPostgres(Path(folder), port=free_port(), major=request.param)
        async with _running(older, Path(folder)) as server:
            yield server


@pytest.fixture(scope="session")
def postgres(_postgres_server: Postgres) -> str:
    """URL of a real PostgreSQL 18, as the superuser."""
    return _postgres_server.url()


@pytest_asyncio.fixture
async def database(_postgres_server: Postgres) -> AsyncIterator[str]:
    """URL of a new empty database, as the superuser."""
    async with _new_database(_postgres_server) as url:
        yield url


@pytest_asyncio.fixture
async def any_database(any_postgres: Postgres) -> AsyncIterator[str]:
    """URL of a new empty database on each major version, as the superuser."""
    async with _new_database(any_postgres) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _temporal_server() -> AsyncIterator[TemporalServer]:
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        server = TemporalServer(Path(folder), port=free_port(), ui_port=free_port())
        async with Supervisor(Path(folder) / "logs", _ignore) as supervisor:
            await supervisor.start(server.service())
            yield server


@pytest.fixture(scope="session")
def temporal_server(_temporal_server: TemporalServer) -> str:
    """Address (host:port) of a real Temporal server with our search attributes."""
    return _temporal_server.address


@pytest.fixture(scope="session")
def temporal_ui(_temporal_server: TemporalServer) -> str:
    """Address of that server's own web UI."""
    return _temporal_server.ui
