"""The stats page and the timeline in a real browser: readable in both themes, by keyboard and by screen readers."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from standfast.decision import DecisionVerdict
from standfast.outcome import State
from standfast.steps import Pool
from standfast.view import TicketView
from tests.acceptance.test_dashboard_browser import clean_up, signed_in
from tests.integration.installation import Installation, serving
from tests.integration.shop import shop_of_its_own
from tests.integration.test_dashboard import about, dashboard, refund, waiting
from tests.processes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str) -> AsyncIterator[Installation]:
    async with shop_of_its_own(postgres) as shop, serving(shop.installation.settings, *Pool):
        yield shop.installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ticket(installation: Installation) -> AsyncIterator[TicketView]:
    """One that was approved, beside one that waits."""
    approved, waits = [await waiting(installation, refund(order), **about(order)) for order in (1001, 1002)]
    await installation.decide(approved, DecisionVerdict.APPROVE)
    await installation.client.wait(approved.workflow_id)
    ends = {State.DONE: 1, State.WAITING: 1}
    await eventually(installation.client.stats, lambda found: found.tickets == ends)  # lists lag a little behind
    yield approved
    await clean_up(installation, waits)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(installation: Installation) -> AsyncIterator[str]:
    async with dashboard(installation.settings) as address:
        yield address


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[("light", 1280), ("dark", 1280), ("light", 400)], ids=str
)
async def page(
    request: pytest.FixtureRequest, chromium: Browser, url: str, installation: Installation, ticket: TicketView
) -> AsyncIterator[Page]:
    """A page in either theme, and in a narrow window."""
    del ticket  # it has to be there
    scheme, width = request.param
    looks = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    async with signed_in(chromium, url, installation.settings, **looks) as page:
        yield page


async def assert_usable(page: Page) -> None:
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def test_the_stats_page_is_readable_in_both_themes_and_narrow(page: Page) -> None:
    await page.get_by_role("link", name="Stats").click()
    await expect(page.get_by_role("heading", name="How tickets ended")).to_be_visible()
    await page.get_by_role("link", name="24 hours").click()
    await expect(page.get_by_role("link", name="24 hours")).to_have_attribute("aria-current", "true")
    await expect(page.get_by_role("img", name="How tickets ended")).to_be_visible()
    ends = page.locator("section", has=page.get_by_role("heading", name="How tickets ended"))
    await ends.get_by_text("As a table").click()
    await expect(ends.get_by_role("row", name="done 1")).to_be_visible()
    bar = page.locator("svg .one").first
    assert await bar.evaluate("bar => getComputedStyle(bar).fill") != "rgb(0, 0, 0)"  # the style sheet draws it
    await assert_usable(page)


async def test_the_timeline_is_readable_in_both_themes_and_narrow(page: Page, ticket: TicketView) -> None:
    await page.goto(f"/tickets/{ticket.workflow_id}")
    timeline = page.get_by_role("region", name="Timeline")
    await expect(timeline.get_by_text("approve by ben@example.com (cli): counts")).to_be_visible()
    await assert_usable(page)
