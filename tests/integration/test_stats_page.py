"""The stats page over real tickets: what it tells, that it tells the same as the API, and how rarely it reads."""

import asyncio
import html
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo
from temporalio.client import (
    Client,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowHistoryEventAsyncIterator,
)

from standfast import cluster
from standfast.client import Standfast
from standfast.dashboard import figures
from standfast.dashboard.figures import Figures
from standfast.decision import DecisionVerdict
from standfast.outcome import State
from standfast.steps import Pool
from standfast.store.databases import Databases
from tests.integration.installation import Installation, database_name, serving
from tests.integration.shop import shop_of_its_own
from tests.integration.test_dashboard import about, browser, dashboard, refund, sign_in, waiting
from tests.processes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/problem+json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str) -> AsyncIterator[Installation]:
    """A shop with one ticket that was approved, one that was rejected, and one that waits."""
    async with shop_of_its_own(postgres) as own, serving(own.installation.settings, *Pool):
        shop = own.installation
        approved, rejected, _ = [await waiting(shop, refund(order), **about(order)) for order in (1001, 1002, 1003)]
        await shop.decide(approved, DecisionVerdict.APPROVE)
        await shop.decide(rejected, DecisionVerdict.REJECT, comment="no")
        for view in (approved, rejected):
            await shop.client.wait(view.workflow_id)
        with owner(shop) as connection:
            connection.execute(
                "INSERT INTO standfast.model_call (run_id, activity_id, workflow_id, activity, attempt, answer, model,"
                " input_tokens, output_tokens, cost_usd, reused)"
                " VALUES ('r', '1', %s, 'model_request', 1, '', 'big<script>', 1000, 20, 0.25, 2)",
                [f"{approved.workflow_id}/plan/1"],
            )
        ends = {State.DONE: 1, State.REJECTED: 1, State.WAITING: 1}
        # The visibility store lags a little behind.
        await eventually(shop.client.stats, lambda found: found.tickets == ends)
        yield shop


@contextmanager
def owner(shop: Installation) -> Iterator[psycopg.Connection]:
    """The control database, as its owner."""
    with psycopg.connect(make_conninfo(shop.owner_url, dbname=database_name(shop.control_url))) as connection:
        yield connection


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(shop: Installation) -> AsyncIterator[httpx.AsyncClient]:
    async with dashboard(shop.settings) as address, browser(address) as client:
        await sign_in(shop.settings, client)
        yield client


def words(answer: httpx.Response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


async def test_the_page_tells_what_a_team_lead_wants_to_know(page: httpx.AsyncClient) -> None:
    answer = await page.get("/stats", params={"period": "24h"})
    told = words(answer)
    for promised in (
        "Over all 3 tickets that were submitted in the last 24 hours. Read 0 s ago.",
        "2 of 3 tickets have ended.",
        "3 submitted, 2 ended",
        "How long tickets waited for a person Half took no longer than",
        "From the submission to the decision Half took",
        "0 recoveries.",
        "0 attempts beyond the first.",
        "Spent: 0.2500 USD for 4 calls, without 3 calls of unknown price.",
        "Not spent again, since the answers were on record: 0.5000 USD for 2 calls.",
        "big<script> 1 1,000 20 0.2500 2 0.5000",
    ):
        assert promised in told
    assert answer.text.count("<svg") == answer.text.count("<desc") >= 6
    assert "big<script>" not in answer.text
    assert ' style="' not in answer.text


async def test_the_page_is_one_click_away_and_says_where_one_is(page: httpx.AsyncClient) -> None:
    assert '<a href="/stats">Stats</a>' in (await page.get("/")).text
    assert '<a href="/stats" aria-current="page">Stats</a>' in (await page.get("/stats")).text
    chosen = (await page.get("/stats", params={"period": "30d", "target": "shop"})).text
    assert '<a href="/stats?period=30d&amp;target=shop" aria-current="true">30 days</a>' in chosen


async def test_the_api_returns_what_the_command_line_prints(shop: Installation, page: httpx.AsyncClient) -> None:
    told = (await page.get("/api/stats", params={"period": "7d", "target": "shop"})).json()
    printed = (await shop.client.stats(["shop"], datetime.now(UTC) - timedelta(days=7))).model_dump(mode="json")
    assert told.pop("as_of") <= printed.pop("as_of")
    assert told == printed


@pytest.mark.parametrize(
    ("query", "said"),
    [({"period": "9d"}, "9d"), ({"target": "bank"}, "'bank'")],
)
async def test_a_choice_that_there_is_not_is_named(page: httpx.AsyncClient, query: dict[str, str], said: str) -> None:
    shown, told = await page.get("/stats", params=query), await page.get("/api/stats", params=query)
    assert (shown.status_code, told.status_code, told.headers["content-type"]) == (400, 400, JSON)
    assert said in html.unescape(shown.text)
    assert said in told.json()["detail"]


async def test_only_who_is_signed_in_sees_figures(page: httpx.AsyncClient) -> None:
    async with browser(str(page.base_url)) as stranger:
        assert (await stranger.get("/stats")).headers["location"] == "/login"
        assert (await stranger.get("/api/stats")).status_code == 401


class _Counting(Interceptor):
    """Counts the histories that are fetched, by workflow id."""

    def __init__(self) -> None:
        self.fetched: Counter[str] = Counter()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - temporalio's name
        return _Counted(next, self.fetched)


class _Counted(OutboundInterceptor):
    def __init__(self, following: OutboundInterceptor, fetched: Counter[str]) -> None:
        super().__init__(following)
        self._fetched = fetched

    def fetch_workflow_history_events(
        self,
        input: FetchWorkflowHistoryEventsInput,  # noqa: A002 - temporalio's name
    ) -> WorkflowHistoryEventAsyncIterator:
        self._fetched[input.id] += 1
        return super().fetch_workflow_history_events(input)


async def test_tickets_that_have_ended_are_read_once_however_often_and_by_how_many_they_are_asked_for(
    shop: Installation,
) -> None:
    counting = _Counting()
    config = (await cluster.connect(shop.settings)).config() | {"interceptors": [counting]}
    async with Databases(shop.settings, application="test") as databases:
        standfast = Standfast(Client(**config), shop.settings, databases)
        asked = Figures(standfast, shop.settings)
        answers = await asyncio.gather(*(asked.newest("24h", "") for _ in range(5)), asked.newest("7d", "shop"))
        assert len({answer.as_of for answer in answers}) == 2  # one of each choice
        rows = await standfast.lists.tickets()
        for row in rows:
            assert counting.fetched[row.workflow_id] == (1 if row.state.is_end else 2)
        assert (await asked.newest("24h", "")).as_of == answers[0].as_of


async def test_the_page_says_that_older_tickets_are_not_counted(
    shop: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Standfast.stats, "__defaults__", ((), None, 2))  # where there are more than two
    async with dashboard(shop.settings) as address, browser(address) as page:
        await sign_in(shop.settings, page)
        said = "Over the newest 2 tickets of these 7 days; older ones are not counted."
        assert said in words(await page.get("/stats"))


async def test_a_page_does_not_wait_long_for_figures(shop: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_PATIENCE", 0.2)
    async with dashboard(shop.settings) as address, browser(address) as page:
        await sign_in(shop.settings, page)
        with owner(shop) as connection:
            connection.execute("LOCK TABLE standfast.model_call IN ACCESS EXCLUSIVE MODE")
            assert "The figures are being read" in (await page.get("/stats")).text
        assert (await page.get("/api/stats")).json()["tickets"] == {"done": 1, "rejected": 1, "waiting": 1}
        assert "Over all 3 tickets" in words(await page.get("/stats"))
