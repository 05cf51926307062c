"""From a ticket's page to its history in Temporal's own UI: readable there for who is signed in, and nowhere else."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect
from pydantic import SecretStr

from standfast.local.ports import free_port
from standfast.settings import CodecServer
from standfast.view import TicketView
from tests.acceptance.test_dashboard_browser import clean_up, signed_in
from tests.integration.installation import Installation, installed
from tests.integration.test_codec_server import codec_server
from tests.integration.test_dashboard import about, dashboard, delete, waiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = 30_000  # ms; Temporal's UI is a large program
WORDS = "the parcel for ana@example.com never came"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str, temporal_ui: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        port = free_port()
        shown = installation.settings.temporal.model_copy(update={"ui": f"http://127.0.0.1:{port}"})
        page = installation.settings.dashboard.model_copy(update={"port": free_port()})
        server = CodecServer(port=port, ui=temporal_ui, token=SecretStr("only-for-tests"))
        installation.settings = installation.settings.model_copy(
            update={"temporal": shown, "dashboard": page, "codec_server": server}
        )
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(installation: Installation) -> AsyncIterator[str]:
    settings = installation.settings
    async with dashboard(settings, settings.dashboard.port) as address, codec_server(settings):
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def ticket(installation: Installation) -> AsyncIterator[TicketView]:
    view = await waiting(installation, delete(1050), title="A lost parcel", **(about(1050) | {"body": WORDS}))
    yield view
    await clean_up(installation, view)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_ticket_is_read_in_temporals_ui(
    installation: Installation, chromium: Browser, url: str, ticket: TicketView, name: str
) -> None:
    async with signed_in(chromium, url.replace("127.0.0.1", name), installation.settings) as page:
        await page.goto(f"/tickets/{ticket.workflow_id}")
        await page.get_by_role("link", name="Open in Temporal's UI").click()
        await expect(page.get_by_text(WORDS).first).to_be_visible(timeout=LONG)
        assert page.url.startswith(str(installation.settings.temporal.ui).replace("127.0.0.1", name))


async def test_without_a_session_temporals_ui_shows_nothing(
    installation: Installation, chromium: Browser, url: str, ticket: TicketView, temporal_ui: str
) -> None:
    page = await chromium.new_page()
    path = f"/namespaces/default/workflows/{ticket.workflow_id.replace('/', '%2F')}"
    await page.goto(f"{installation.settings.temporal.ui}{path}")
    await expect(page).to_have_url(f"{url}/login")
    await page.goto(f"{temporal_ui}{path}")  # where it is not shown by us
    await expect(page.locator("#content").get_by_text("Codec Server could not connect")).to_be_visible(timeout=LONG)
    await expect(page.get_by_role("heading", name=ticket.workflow_id)).to_be_visible()
    assert WORDS not in await page.content()
    await page.close()


async def test_an_entry_of_the_timeline_leads_to_its_event(
    installation: Installation, chromium: Browser, url: str, ticket: TicketView
) -> None:
    async with signed_in(chromium, url, installation.settings) as page:
        await page.goto(f"/tickets/{ticket.workflow_id}")
        entry = page.locator(".timeline li").filter(has_text="read the context")
        link = entry.get_by_role("link", name="in Temporal's UI")
        address = await link.get_attribute("href")
        await link.click()
        await expect(page.get_by_text("Activity Task Completed").first).to_be_visible(timeout=LONG)
        assert page.url == address
