"""A shop to plan for, a clinic to attack, and a provider that plans by script."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import pytest_asyncio

from standfast.local.fake_provider import FakeProvider
from standfast.local.postgres import Postgres
from standfast.settings import Settings
from tests.integration.bank import Bank
from tests.integration.clinic import Clinic, opened
from tests.integration.installation import prepare


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str, temporal_server: str) -> Settings:
    name = f"planner_{uuid4().hex[:8]}"
    settings, _ = await prepare(postgres, temporal_server, name, planner={"model": "openai:fake"})
    return settings


@pytest.fixture(scope="session")
def clinic(any_postgres: Postgres) -> Iterator[Clinic]:
    with opened(any_postgres.url()) as clinic:
        yield clinic


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    with FakeProvider({}) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield provider


@pytest_asyncio.fixture
async def bank(database: str) -> Bank:
    return await Bank.create(database)
