"""The ticket page before several people, in real browsers: racing, going stale, comparing, undoing, printing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from standfast.dashboard import freshness
from standfast.decision import DecisionVerdict
from standfast.outcome import State
from standfast.view import TicketView
from tests.acceptance.people import dashboard_of_a_team, sign_in_as
from tests.integration.installation import CONSTRAINTS, Installation, installed
from tests.integration.test_dashboard import about, delete, refund, waiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPROVE, REJECT = DecisionVerdict.APPROVE, DecisionVerdict.REJECT
BEN, CLEO = "ben@example.com", "cleo@example.com"
HOSTILE = (
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">{{ 7 * 7 }} "
    "\u202eevil\u202c \u200b\u2066 [link](javascript:alert(1))"
)
ENDLESS = "W" * 60_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(installation: Installation) -> AsyncIterator[str]:
    async with dashboard_of_a_team(installation.settings) as address:
        yield address


@pytest.fixture
def people(chromium: Browser, installation: Installation, url: str) -> "People":
    return People(chromium, installation, url)


class People:
    """Opens the page of a ticket for somebody; a complaint on its console fails the test."""

    def __init__(self, chromium: Browser, installation: Installation, url: str) -> None:
        self._chromium, self._installation, self._url = chromium, installation, url

    @asynccontextmanager
    async def looking(self, name: str, view: TicketView, *, expected: str = "-", **changes: Any) -> AsyncIterator[Page]:
        context = await self._chromium.new_context(base_url=self._url, **changes)
        await sign_in_as(name, context, self._installation.settings, self._url)
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"/tickets/{view.workflow_id}")
        if changes.get("java_script_enabled", True):
            await expect(page.locator("#live")).to_have_text("Live" if not view.state.is_end else "")
        yield page
        await context.close()
        assert [complaint for complaint in complaints if expected not in complaint] == []


async def unfold(page: Page) -> None:
    await page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")


async def approve(page: Page) -> None:
    await page.get_by_role("button", name="Approve plan").click()


async def done(installation: Installation, order: int) -> TicketView:
    view = await waiting(installation, refund(order), **about(order))
    await installation.decide(view, APPROVE)
    await installation.client.wait(view.workflow_id)
    return await installation.client.view(view.workflow_id)


async def clean_up(installation: Installation, *views: TicketView) -> None:
    for view in views:
        await installation.decide(await installation.client.view(view.workflow_id), REJECT, comment="clean up")


async def test_of_two_who_approve_at_once_one_does_and_the_other_is_told_who(
    installation: Installation, people: People
) -> None:
    view = await waiting(installation, refund(1000), **about(1000))
    still: dict[str, Any] = {"java_script_enabled": False, "expected": "409"}  # else the form goes under the hand
    async with people.looking(BEN, view, **still) as one, people.looking(CLEO, view, **still) as other:
        await asyncio.gather(approve(one), approve(other))
        outcome = await installation.client.wait(view.workflow_id)
        assert outcome.execution is not None
        (first,) = outcome.execution.approved_by
        late = other if first == BEN else one
        await expect(late.get_by_role("alert")).to_contain_text(f"{first} has decided already")
        await expect(late.get_by_role("heading", name="Timeline")).to_be_visible()  # it is the ticket's own page
    assert len(installation.ledger(view.workflow_id)) == 1


async def test_the_second_of_two_needed_sees_the_first_approval_at_once(
    installation: Installation, people: People
) -> None:
    await installation.constrain(f"{CONSTRAINTS}quorum: {{approval: 2}}\n")
    view = await waiting(installation, refund(1001), **about(1001))
    await installation.constrain(CONSTRAINTS)
    async with people.looking(BEN, view) as one, people.looking(CLEO, view) as other:
        await one.get_by_label("Why it is right").fill("the parcel is lost")
        await approve(one)
        await expect(one.get_by_text("You have approved this plan already")).to_be_visible()
        await expect(other.get_by_text(f"1 of 2 people have approved: {BEN}")).to_be_visible()
        await other.get_by_label("Why it is right").fill("so it is")
        await approve(other)
        await expect(one.get_by_text(f"approved by {BEN} and {CLEO}")).to_be_visible()


async def test_a_plan_turns_stale_before_the_readers_eyes_and_fresh_once_it_is_rehearsed_again(
    installation: Installation, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "EVERY_SECONDS", 0.5)
    monkeypatch.setattr(freshness, "_SHARE", 0)
    view = await waiting(installation, refund(1002), **about(1002))
    async with people.looking(BEN, view) as page:
        standing, button = page.locator(".standing"), page.get_by_role("button", name="Approve plan")
        await expect(standing.get_by_text("fresh")).to_be_visible()
        await expect(button).to_be_enabled()
        installation.execute("UPDATE shop.orders SET total = 7 WHERE id = 1002")
        await expect(standing.get_by_text("stale")).to_be_visible()
        await expect(button).to_be_disabled()
        await page.get_by_role("button", name="Rehearse again").click()
        await expect(standing.get_by_text("fresh")).to_be_visible()
        await expect(page.get_by_role("cell", name="7.0")).to_be_visible()
        held = page.get_by_role("button", name="I have looked at it")  # there if the news came to the open page
        if await held.count():
            await held.click()
        await approve(page)
        await expect(page.get_by_text("exactly the rows of the rehearsal")).to_be_visible()
    assert installation.query("SELECT amount FROM shop.refunds WHERE order_id = 1002") == [(7,)]


async def test_asking_for_changes_shows_what_came_of_it(installation: Installation, people: People) -> None:
    view = await waiting(installation, {}, metadata={"plan": refund(1003), "mended": refund(1004)}, **about(1003, 1004))
    async with people.looking(BEN, view) as page:
        await page.get_by_label("Why not, or what to change").fill("It was order 1004")
        await page.get_by_role("button", name="Ask for changes").click()
        comparison = page.locator("details.revision")
        await expect(comparison).to_have_attribute("open", "")
        await expect(comparison.locator("blockquote")).to_have_text("It was order 1004")
        await expect(comparison.locator("del")).to_have_text("1003")
        await expect(comparison.locator("ins")).to_have_text("1004")
    await clean_up(installation, view)


async def test_without_javascript_a_ticket_is_taken_back_by_a_button(
    installation: Installation, people: People
) -> None:
    view = await done(installation, 1005)
    async with people.looking(CLEO, view, java_script_enabled=False) as page:
        await page.get_by_role("button", name="Undo this").click()
        undo = await installation.until_waiting(f"{view.workflow_id}-undo")
        await page.reload()
        await expect(page.get_by_text("You opened this ticket; somebody else has to decide.")).to_be_visible()
        await page.get_by_role("link", name=view.workflow_id, exact=True).click()
        await expect(page.get_by_text("An undo is under way")).to_be_visible()
    async with people.looking(BEN, undo) as page:
        await expect(page.get_by_text("Deletes 1 row in shop.refunds")).to_be_visible()
        await page.get_by_label("Type how many").fill("1")
        await page.get_by_label("Why it is right").fill("the parcel has come")
        await approve(page)
        await expect(page.get_by_text("exactly the rows of the rehearsal")).to_be_visible()
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1005") == [(0,)]


@pytest.mark.parametrize("width", [1280, 360])
async def test_words_without_end_and_hostile_values_break_nothing(
    installation: Installation, people: People, width: int
) -> None:
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
    operation = {"sql": sql, "params": [f"{HOSTILE}{ENDLESS}", 1006], "reason": ENDLESS}
    plans = {"plan": refund(1006), "mended": {"summary": HOSTILE, "operations": [operation]}}
    body = f"1006 {HOSTILE}"
    view = await waiting(installation, {}, metadata=plans, **about(1006) | {"body": body + "W" * (65_000 - len(body))})
    await installation.decide(view, DecisionVerdict.REVISE, comment=HOSTILE + "W" * 3000)
    view = await installation.until(view.workflow_id, lambda now: (now.plan_number, now.state) == (2, State.WAITING))
    async with people.looking(BEN, view, viewport={"width": width, "height": 800}) as page:
        await expect(page.locator("details.revision blockquote")).to_contain_text("<script>document.title = 'owned'")
        await expect(page.locator("details.revision ins", has_text="U+202E")).to_have_count(1)
        assert "owned" not in await page.title()
        assert await page.locator("main script, main img, main a[href^=javascript]").count() == 0
        await unfold(page)
        overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0
    await clean_up(installation, view)


async def test_a_printed_page_has_everything_unfolded_and_no_forms(installation: Installation, people: People) -> None:
    view = await waiting(installation, refund(1007), **about(1007))
    async with people.looking(BEN, view, color_scheme="dark") as page:
        undo = page.get_by_label("SQL of step 1 of the undo")
        await expect(undo).to_be_hidden()
        await page.emulate_media(media="print")
        await expect(undo).to_be_visible()
        await expect(page.locator(".decide")).to_be_hidden()
        await expect(page.get_by_text("Inserts 1 row in shop.refunds")).to_be_visible()
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
    await clean_up(installation, view)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def states(installation: Installation) -> dict[str, TicketView]:
    """A ticket in each state that its page has a look of its own for."""
    taken_back = await done(installation, 1010)
    undo = await installation.client.undo(taken_back.workflow_id, by="ana@example.com")
    rejected = await waiting(installation, delete(1011), **about(1011))
    await installation.decide(rejected, REJECT, comment="no")
    blocked = await installation.submit({"operations": [{"sql": "TRUNCATE shop.orders CASCADE"}]})
    await installation.client.wait(blocked)
    revised = await waiting(installation, {}, metadata={"plan": refund(1012), "mended": delete(1012)}, **about(1012))
    await installation.decide(revised, DecisionVerdict.REVISE, comment="delete it")
    await installation.until(revised.workflow_id, lambda now: (now.plan_number, now.state) == (2, State.WAITING))
    stale = await waiting(installation, refund(1013), **about(1013))
    installation.execute("UPDATE shop.orders SET total = 9 WHERE id = 1013")
    ids = {
        "taken back": taken_back.workflow_id,
        "undo": undo.workflow_id,
        "rejected": rejected.workflow_id,
        "blocked": blocked,
        "revised": revised.workflow_id,
        "stale": stale.workflow_id,
        "done": (await done(installation, 1014)).workflow_id,
    }
    await installation.until_waiting(undo.workflow_id)
    return {name: await installation.client.view(workflow_id) for name, workflow_id in ids.items()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_a_ticket_is_accessible_in_every_state(
    states: dict[str, TicketView], people: People, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 800}
    async with people.looking(BEN, states["stale"], color_scheme=scheme, viewport=size) as page:
        await expect(page.locator(".standing").get_by_text("stale")).to_be_visible()
        for name, view in states.items():
            await page.goto(f"/tickets/{view.workflow_id}")
            await unfold(page)
            results = await Axe().run(page)
            assert results.violations_count == 0, f"{name}: {results.generate_report()}"
            overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, name
