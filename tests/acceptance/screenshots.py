"""Makes the pictures in docs/images from the running product: `scripts/screenshots [NAME]...`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, Page, async_playwright, expect

from bench.installation import Installation, Services
from standfast.outcome import State
from standfast.steps import Pool
from standfast.ticket import Ticket
from standfast.view import TicketView
from tests.acceptance.people import dashboard_of_a_team, sign_in_as
from tests.integration.installation import serving

FOLDER = Path(__file__).parents[2] / "docs" / "images"
PERSON = "ben@example.com"
PLANNER = {"agent": "tests.integration.scripted_planner:plan"}

REFUND = {
    "summary": "The parcel of order 1005 is lost. Refund what was paid, and tell support.",
    "operations": [
        {
            "sql": "INSERT INTO shop.refunds (order_id, amount, reason)\nSELECT id, total, $2 FROM shop.orders"
            " WHERE id = $1",
            "params": [1005, "the parcel never came"],
            "reason": "The customer is owed what the order cost.",
            "expect_rows": 1,
        },
        {
            "sql": "UPDATE shop.orders SET status = $2, note = $3 WHERE id = $1",
            "params": [1005, "refunded", "refunded: the parcel never came"],
            "reason": "So that nobody sends it again.",
            "expect_rows": 1,
        },
    ],
}
DELETE = {"operations": [{"sql": "DELETE FROM shop.customers WHERE id = $1", "params": [12]}]}
CREDIT = {"operations": [{"sql": "UPDATE shop.customers SET credit = $2 WHERE id = $1", "params": [31, 40]}]}
CLOSE = {
    "operations": [
        {
            "sql": "UPDATE shop.orders SET status = 'cancelled' WHERE status = $1 AND placed_at < $2",
            "params": ["pending", "2026-03-01"],
        }
    ]
}
UNLOCK = {"operations": [{"sql": "UPDATE shop.customers SET failed_logins = 0 WHERE id = $1", "params": [7]}]}
EVERY_TICKET = {"requester": "ana@example.com", "target": "shop"}
TICKETS: Sequence[dict[str, Any]] = (
    {
        "id": "SUP-1003",
        "title": "Parcel never came",
        "body": "The parcel of order 1005 never came, the customer wants the money back: the parcel never came.",
        "labels": ["billing"],
        "subject": {"order_id": 1005},
        "metadata": {"plan": REFUND},
    },
    {
        "id": "SUP-1011",
        "title": "Delete my account",
        "body": "Customer 12 asks us to delete everything that we have on file about her.",
        "priority": "high",
        "subject": {"customer_id": 12},
        "metadata": {"plan": DELETE},
    },
    {
        "id": "SUP-1012",
        "title": "Goodwill credit for a late order",
        "body": "Please give customer 31 a credit of 40.",
        "subject": {"customer_id": 31},
        "metadata": {"plan": CREDIT},
    },
    {
        "id": "OPS-207",
        "title": "Close stale orders",
        "body": "Cancel every order that is pending since before 2026-03-01.",
        "requester": "ops@example.com",
        "labels": ["cleanup"],
        "metadata": {"plan": CLOSE},
    },
    {
        "id": "SUP-1014",
        "title": "Customer can't sign in",
        "body": "Customer 7 is locked out, please set the failed logins to 0.",
        "subject": {"customer_id": 7},
        "metadata": {"plan": UNLOCK},
    },
)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of one page."""

    name: str
    path: str
    scheme: Literal["light", "dark"] = "light"
    width: int = 1280
    height: int = 1000


PICTURES = (
    Picture(name="inbox", path="/", height=800),
    Picture(name="ticket", path="/tickets/ticket/shop/SUP-1003"),
    Picture(name="ticket-dark", path="/tickets/ticket/shop/SUP-1011", scheme="dark"),
    Picture(name="ticket-narrow", path="/tickets/ticket/shop/SUP-1003", width=390, height=844),
    Picture(name="stats", path="/stats"),
)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Installation, str]]:
    """Standfast with the sample shop, its workers, its tickets, and the address of its dashboard."""
    async with Services.start() as services:
        address = await services.temporal("temporal")
        installation = await Installation.create(services, address, "shop", planner=PLANNER)
        async with serving(installation.settings, *Pool), dashboard_of_a_team(installation.settings) as url:
            for ticket in TICKETS:
                await settled(installation, Ticket.model_validate(EVERY_TICKET | ticket))
            yield installation, url


async def settled(installation: Installation, ticket: Ticket) -> TicketView:
    """Submit a ticket and wait until it waits for a person, or has ended."""
    submitted = await installation.client.submit(ticket)
    async for view in installation.client.watch(submitted.workflow_id):
        if view.state is State.WAITING or view.state.is_end:
            return view
    raise AssertionError(submitted.workflow_id)


@asynccontextmanager
async def signed_in(browser: Browser, installation: Installation, url: str, picture: Picture) -> AsyncIterator[Page]:
    """A page of a browser as the picture wants it."""
    context = await browser.new_context(
        base_url=url,
        color_scheme=picture.scheme,
        viewport={"width": picture.width, "height": picture.height},
        reduced_motion="reduce",
    )
    await sign_in_as(PERSON, context, installation.settings, url)
    yield await context.new_page()
    await context.close()


async def take(names: Sequence[str]) -> None:
    """Make the pictures with these names, or all."""
    chosen = [picture for picture in PICTURES if not names or picture.name in names]
    FOLDER.mkdir(exist_ok=True)
    async with running() as (installation, url), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for picture in chosen:
            async with signed_in(browser, installation, url, picture) as page:
                await page.goto(picture.path)
                if await page.locator("[data-live]").count():
                    await expect(page.locator("#live")).to_have_text("Live")
                if await page.locator(".decide").count():
                    await expect(page.locator(".standing").get_by_text("fresh")).to_be_visible(timeout=60_000)
                file = FOLDER / f"{picture.name}.png"
                await page.screenshot(path=file)
                sys.stdout.write(f"{file.name}: {file.stat().st_size // 1024} KiB\n")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1:]))
