"""People in front of the dashboard, each with a name and a browser of his own."""

from dataclasses import replace

import httpx
from playwright.async_api import BrowserContext

from standfast.dashboard.sessions import Sessions, local_session, new_login_link
from standfast.decision import Mode
from standfast.settings import Settings
from standfast.store.connections import Databases


async def sign_in_as(name: str, context: BrowserContext, settings: Settings, url: str) -> None:
    """Let a browser have a session of a person with this name."""
    async with Databases(settings, application="test") as databases:
        link = httpx.URL(await new_login_link(databases, url))
        person = replace(local_session(), user=name, mode=Mode.SESSION)
        token = await Sessions(databases).redeem(link.params["token"], person)
    cookie = f"standfast-session-{httpx.URL(url).port}"
    await context.add_cookies([{"name": cookie, "value": token, "url": url, "httpOnly": True, "sameSite": "Lax"}])
