"""Several people in front of one dashboard, each with a name and a browser of his own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
from playwright.async_api import BrowserContext

from standfast.dashboard.sessions import Sessions, local_session
from standfast.decision import Mode
from standfast.local.ports import free_port
from standfast.settings import Settings
from standfast.store.databases import Databases
from tests.integration.test_dashboard import dashboard
from tests.integration.test_oidc import with_oidc


@asynccontextmanager
async def dashboard_of_a_team(settings: Settings) -> AsyncIterator[str]:
    """Serve the dashboard to people whom a provider has named, which isn't asked any more, and yield its address."""
    port = free_port()
    async with dashboard(with_oidc(settings, "http://localhost:1", port), port):
        yield f"http://localhost:{port}"


async def sign_in_as(name: str, context: BrowserContext, settings: Settings, url: str) -> None:
    """Let a browser have a session of a person with this name."""
    async with Databases(settings, application="test") as databases:
        person = replace(local_session(), user=name, mode=Mode.SESSION)
        token = await Sessions(databases).open(person, by="provider")
    cookie = f"standfast-session-{httpx.URL(url).port}"
    await context.add_cookies([{"name": cookie, "value": token, "url": url, "httpOnly": True, "sameSite": "Lax"}])
