"""Signing in by a provider and out again, in a real browser: with our strict policy, and across two sites."""

from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.integration.installation import Installation, installed
from tests.integration.oidc_provider import OidcProvider, oidc_provider
from tests.integration.test_dashboard import about, refund, waiting
from tests.integration.test_oidc import oidc_dashboard, somebody

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[OidcProvider]:
    async with oidc_provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(installation: Installation, provider: OidcProvider) -> AsyncIterator[str]:
    async with oidc_dashboard(installation, provider) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module", params=[True, False], ids=["javascript", "no javascript"])
async def page(chromium: Browser, url: str, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A new browser's page; what its console complains about fails the test."""
    context = await chromium.new_context(base_url=url, java_script_enabled=request.param)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    assert [complaint for complaint in complaints if url in complaint or "Content Security" in complaint] == []


async def test_a_person_signs_in_at_the_provider_decides_and_signs_out_at_both(
    installation: Installation, provider: OidcProvider, page: Page, url: str
) -> None:
    person = await somebody(provider, "approvers")
    view = await waiting(installation, refund(1080), title="A lost parcel", **about(1080))
    await page.goto("/")
    await page.get_by_role("link", name="Sign in with localhost").click()
    await page.get_by_placeholder("sub").fill(person)
    await page.get_by_role("button", name="Authorize").click()
    await expect(page.get_by_role("heading", name="Inbox")).to_be_visible()
    await expect(page.locator(".who")).to_have_text(person)
    await page.goto(f"/tickets/{view.workflow_id}")
    await page.get_by_label("Why not").fill("It was found")
    await page.get_by_role("button", name="Reject").click()
    await expect(page.locator(".effect.big")).to_contain_text(f"Rejected by {person}: It was found")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="End session").click()
    await expect(page.get_by_role("link", name="Sign in with localhost")).to_be_visible()
    assert page.url.startswith(f"{url}/login")
    await page.goto("/")
    await expect(page).to_have_url(f"{url}/login")


async def test_a_person_whom_no_group_lets_in_reads_why(provider: OidcProvider, page: Page) -> None:
    person = await somebody(provider, "strangers")
    await page.goto("/login/oidc/")
    await page.get_by_placeholder("sub").fill(person)
    await page.get_by_role("button", name="Authorize").click()
    await expect(page.get_by_role("alert")).to_contain_text(f"{person} is in no group that may use this dashboard")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_to_sign_in_is_accessible(chromium: Browser, url: str, scheme: Literal["light", "dark"]) -> None:
    context = await chromium.new_context(base_url=url, color_scheme=scheme)
    page = await context.new_page()
    await page.goto("/login")
    results = await Axe().run(page)
    await context.close()
    assert results.violations_count == 0, results.generate_report()
