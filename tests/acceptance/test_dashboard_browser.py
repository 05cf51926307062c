"""The approver's page in a real browser: what a click does, what others see at once, and what hostile text can't do."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from standfast.dashboard import live
from standfast.dashboard.sessions import Sessions, local_session, new_login_link
from standfast.decision import DecisionVerdict
from standfast.errors import DecisionRefused
from standfast.outcome import State
from standfast.settings import Settings
from standfast.store.databases import Databases
from standfast.store.roles import CONTROL_ROLE
from standfast.view import TicketView
from tests.integration.installation import Installation, installed
from tests.integration.test_dashboard import about, dashboard, delete, refund, waiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = (
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">{{ 7 * 7 }} "
    "\u202eevil\u202c \u200b\u2066 [link](javascript:alert(1))"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(installation: Installation) -> AsyncIterator[str]:
    async with dashboard(installation.settings) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium: Browser, url: str, installation: Installation) -> AsyncIterator[Page]:
    async with signed_in(chromium, url, installation.settings) as page:
        yield page


@asynccontextmanager
async def signed_in(
    chromium: Browser, url: str, settings: Settings, *, expected: str = "-", **changes: Any
) -> AsyncIterator[Page]:
    """A page of a person of one's own; whatever else than `expected` its console complains about fails the test."""
    context = await chromium.new_context(base_url=url, **changes)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    async with Databases(settings, application="test") as databases:
        await page.goto(await new_login_link(databases, url))
    await page.get_by_role("button", name="Sign in as").click()
    await expect(page.get_by_role("heading", name="Inbox")).to_be_visible()
    yield page
    await context.close()
    assert [complaint for complaint in complaints if expected not in complaint] == []


async def open_ticket(page: Page, view: TicketView) -> None:
    await page.goto(f"/tickets/{view.workflow_id}")
    await expect(page.locator("#live")).to_have_text("Live")


async def clean_up(installation: Installation, *views: TicketView) -> None:
    for view in views:
        await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_a_click_on_approve_changes_the_row_and_the_page_shows_it(installation: Installation, page: Page) -> None:
    view = await waiting(installation, refund(1040), title="A lost parcel", **about(1040))
    await page.goto("/")
    await page.get_by_role("link", name="A lost parcel").click()
    await expect(page.get_by_text("Inserts 1 row in shop.refunds, deletes nothing, in shop.")).to_be_visible()
    await page.get_by_role("button", name="Approve plan").click()
    await expect(page.get_by_text("exactly the rows of the rehearsal")).to_be_visible()
    assert installation.query("SELECT amount FROM shop.refunds WHERE order_id = 1040") == [(1040,)]
    assert (await installation.client.view(view.workflow_id)).decisions[0].by == local_session().user


async def test_without_javascript_a_plan_that_deletes_rows_is_approved_by_typing_their_number(
    installation: Installation, chromium: Browser, url: str
) -> None:
    view = await waiting(installation, delete(1041), **about(1041))
    async with signed_in(chromium, url, installation.settings, expected="409", java_script_enabled=False) as page:
        await page.goto(f"/tickets/{view.workflow_id}")
        await page.get_by_label("Why it is right").fill("It is a test order")
        await page.get_by_label("Type how many").fill("3")
        await page.get_by_role("button", name="Approve plan").click()
        await expect(page.get_by_role("alert")).to_contain_text("type 1 to approve")
        await page.get_by_label("Type how many").fill("1")
        await page.get_by_role("button", name="Approve plan").click()
        await expect(page).to_have_url(re.compile(rf"{view.workflow_id}$"))
        assert (await installation.client.wait(view.workflow_id)).state is State.DONE


async def test_a_rejection_needs_a_reason_and_changes_nothing(installation: Installation, page: Page) -> None:
    view = await waiting(installation, refund(1042), **about(1042))
    await open_ticket(page, view)
    await page.get_by_role("button", name="Reject").click()
    assert (await installation.client.view(view.workflow_id)).state is State.WAITING
    await page.get_by_label("Why not").fill("Paid twice already")
    await page.get_by_role("button", name="Reject").click()
    await expect(page.locator(".effect.big")).to_contain_text("Paid twice already")
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1042") == [(0,)]


async def test_a_second_viewer_sees_the_decision_at_once_and_the_form_goes(
    installation: Installation, chromium: Browser, url: str, page: Page
) -> None:
    view = await waiting(installation, refund(1043), **about(1043))
    async with signed_in(chromium, url, installation.settings) as other:
        await open_ticket(page, view)
        await open_ticket(other, view)
        await page.get_by_role("button", name="Approve plan").click()
        await expect(other.get_by_role("button", name="Approve plan")).to_have_count(0)
        await expect(other.get_by_text("exactly the rows of the rehearsal")).to_be_visible()
        await expect(other.get_by_role("status")).to_have_text("The ticket is done now.")


async def test_a_new_ticket_comes_to_an_open_inbox(installation: Installation, page: Page) -> None:
    await page.goto("/")
    await expect(page.locator("#live")).to_have_text("Live")
    view = await waiting(installation, refund(1044), title="Just arrived", **about(1044))
    await expect(page.get_by_role("link", name="Just arrived")).to_be_visible()
    await clean_up(installation, view)
    await expect(page.get_by_role("link", name="Just arrived")).to_have_count(0)


async def test_who_is_signed_out_elsewhere_is_asked_to_sign_in(
    installation: Installation, chromium: Browser, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE_SECONDS", 0.1)
    view = await waiting(installation, refund(1053), **about(1053))
    async with signed_in(chromium, url, installation.settings, expected="401") as page:
        await open_ticket(page, view)
        async with Databases(installation.settings, application="test") as databases:
            sessions = Sessions(databases)
            await sessions.revoke([max(row.number for row in await sessions.list())], by="test")
            await expect(page).to_have_url(re.compile(r"/login$"))
            await page.goto(await new_login_link(databases, url))
        await page.get_by_role("button", name="Sign in as").click()
        await expect(page).to_have_url(re.compile(f"{view.workflow_id}$"))
    await clean_up(installation, view)


async def test_a_page_goes_on_by_itself_when_the_control_database_is_back(
    installation: Installation, chromium: Browser, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE_SECONDS", 0.1)
    view = await waiting(installation, refund(1054), **about(1054))
    async with signed_in(chromium, url, installation.settings, expected="503") as page:
        await open_ticket(page, view)
        installation.execute(f"ALTER ROLE {CONTROL_ROLE} NOLOGIN")
        try:
            installation.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", CONTROL_ROLE
            )
            await expect(page.locator("#live")).to_have_text("Not up to date; trying again", timeout=30_000)
        finally:
            installation.execute(f"ALTER ROLE {CONTROL_ROLE} LOGIN")
        await expect(page.locator("#live")).to_have_text("Live", timeout=30_000)
    await clean_up(installation, view)


async def test_a_page_whose_news_were_lost_on_the_way_asks_again_until_it_shows_them(
    installation: Installation, chromium: Browser, url: str
) -> None:
    view = await waiting(installation, refund(1055), **about(1055))
    async with signed_in(chromium, url, installation.settings, expected="ERR_FAILED") as page:
        await open_ticket(page, view)
        await page.route(f"**/tickets/{view.workflow_id}", lambda route: route.abort(), times=5)  # more often than told
        await clean_up(installation, view)
        await expect(page.locator(".effect.big")).to_contain_text("clean up", timeout=30_000)
        await expect(page.locator("#live")).to_have_text("The ticket is rejected now.")


async def test_typed_text_and_focus_survive_news_about_the_same_plan(installation: Installation, page: Page) -> None:
    view = await waiting(installation, refund(1045), **about(1045))
    await open_ticket(page, view)
    reason = page.get_by_label("Why not")
    await reason.fill("half a thou")
    with pytest.raises(DecisionRefused, match="look at it and decide again"):
        await installation.decide(view, DecisionVerdict.APPROVE, plan_digest="0" * 64)
    await expect(page.get_by_text("Did not count")).to_be_visible()
    await expect(reason).to_be_focused()
    await page.keyboard.type("ght")
    await expect(reason).to_have_value("half a thought")
    await clean_up(installation, view)


async def test_the_focus_survives_news_wherever_it_is(installation: Installation, page: Page) -> None:
    view = await waiting(installation, refund(1056), **about(1056))
    await open_ticket(page, view)
    places = [
        page.get_by_role("link", name="Download as JSON"),
        page.locator("summary", has_text="How it would be taken back"),
        page.get_by_label("SQL of operation 1"),
    ]
    for number, place in enumerate(places, start=1):
        await place.focus()
        with pytest.raises(DecisionRefused):
            await installation.decide(view, DecisionVerdict.APPROVE, plan_digest="0" * 64)
        await expect(page.get_by_text("Did not count")).to_have_count(number)
        await expect(place).to_be_focused()
    await clean_up(installation, view)


COUNTED = "() => parseInt(document.getElementById('count').textContent) === document.querySelectorAll('.card').length"


async def test_neither_an_open_filter_nor_a_click_is_lost_to_a_ticket_that_comes(
    installation: Installation, page: Page
) -> None:
    first = await waiting(installation, refund(1057), title="The first", **about(1057))
    await page.goto("/")
    link = page.get_by_role("link", name="The first")
    await expect(link).to_be_visible()
    await expect(page.locator("#live")).to_have_text("Live")
    state = await page.get_by_label("State").element_handle()
    assert state is not None
    await state.focus()
    second = await waiting(installation, refund(1058), title="The second", **about(1058))
    await expect(page.get_by_role("link", name="The second")).to_be_visible()
    assert await state.evaluate("state => state.isConnected && state === document.activeElement")
    await page.wait_for_function(COUNTED)

    await link.hover()
    async with page.expect_response(lambda answer: answer.url.endswith("/")) as news:
        await page.mouse.down()
        third = await waiting(installation, refund(1059), title="The third", **about(1059))
    await (await news.value).finished()
    await page.mouse.up()
    await expect(page).to_have_url(re.compile(f"{first.workflow_id}$"))
    await clean_up(installation, first, second, third)


async def test_times_go_on_while_a_page_is_open(installation: Installation, page: Page) -> None:
    view = await waiting(installation, refund(1060), title="For a while", **about(1060))
    await page.clock.install()
    await page.goto("/stats")
    read = page.get_by_text("Read ").locator("time")
    await expect(read).to_have_text(re.compile(r" s$"))
    await page.clock.fast_forward("10:00")
    await expect(read).to_have_text("10 min")
    await page.goto("/")
    left = page.locator(".card", has_text="For a while").locator("time[data-left]")
    before = await left.inner_text()
    await page.clock.fast_forward("25:00:00")
    await expect(left).not_to_have_text(before)
    await clean_up(installation, view)


async def test_typed_text_survives_a_rehearsal_that_somebody_else_has_asked_for(
    installation: Installation, page: Page
) -> None:
    view = await waiting(installation, refund(1052), **about(1052))
    await open_ticket(page, view)
    await page.get_by_label("Why not").fill("half a thought")
    with psycopg.connect(installation.owner_url) as held:
        held.execute("LOCK TABLE shop.refunds IN ACCESS EXCLUSIVE MODE")
        await installation.client.rehearse(view.workflow_id, by="ben@example.com")
        await expect(page.get_by_label("Why not")).to_be_hidden()
    await expect(page.get_by_label("Why not")).to_have_value("half a thought")
    await clean_up(installation, view)


async def test_a_click_meant_for_one_plan_does_not_hit_the_next(installation: Installation, page: Page) -> None:
    sql = "UPDATE shop.orders SET total = $1 WHERE id = $2"
    plan = {"operations": [{"sql": sql, "params": [77777, 1046]}]}  # the number is nowhere in the ticket
    view = await waiting(installation, plan, **about(1046))
    await open_ticket(page, view)
    installation.query("UPDATE shop.orders SET total = 5 WHERE id = 1046 RETURNING 1")
    await installation.decide(view, DecisionVerdict.REVISE, comment="look again")
    await expect(page.get_by_role("alert")).to_contain_text("not what it was")
    approve = page.get_by_role("button", name="Approve plan")
    await expect(approve).to_be_disabled()
    with pytest.raises(DecisionRefused):  # news about the same plan, which must not lift the hold
        await installation.decide(view, DecisionVerdict.APPROVE)
    await expect(page.get_by_text("Did not count")).to_be_visible()
    await expect(approve).to_be_disabled()
    await page.get_by_role("button", name="I have looked at it").click()
    await approve.click()
    await expect(page.get_by_text("exactly the rows of the rehearsal")).to_be_visible()
    assert installation.query("SELECT total FROM shop.orders WHERE id = 1046") == [(77777,)]


async def test_approve_is_never_the_first_to_get_the_focus(installation: Installation, page: Page) -> None:
    view = await waiting(installation, refund(1047), **about(1047))
    await open_ticket(page, view)
    order = await page.locator("a[href], button, input:not([type=hidden]), textarea").all_inner_texts()
    position = {text.split(" plan ")[0]: index for index, text in enumerate(order)}
    assert position["Reject"] < position["Ask for changes"] < position["Approve"]
    await clean_up(installation, view)


async def test_hostile_text_is_shown_and_does_nothing(installation: Installation, page: Page) -> None:
    body = "1048 " + HOSTILE + "\U0001f600" * ((65_000 - len(HOSTILE.encode())) // 4)
    plan = refund(1048) | {"summary": HOSTILE}
    plan["operations"][0]["reason"] = HOSTILE
    view = await waiting(
        installation,
        plan,
        body=body,
        title=HOSTILE,
        requester=HOSTILE,
        priority="<b>'\"",
        labels=[HOSTILE[:100]],
        subject={"order_id": 1048},
    )
    await open_ticket(page, view)
    await expect(page.get_by_label("Text of the ticket")).to_contain_text("<script>document.title = 'owned'</script>")
    await expect(page.get_by_label("Text of the ticket")).to_contain_text("U+202Eevil")
    assert "\u202e" not in await page.locator("body").inner_text()
    assert "owned'" in await page.title()  # as text: all of the title, not what a script would have made of it
    assert await page.locator("main script, main img, main a[href^=javascript]").count() == 0
    overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0
    await page.goto("/")
    await expect(page.locator(".card.waiting h3", has_text="document.title = 'owned'")).to_be_visible()
    await clean_up(installation, view)


LEFT_EDGES = """
(statement, wanted) => {
  const walker = document.createTreeWalker(statement, NodeFilter.SHOW_TEXT);
  const left = (text) => {
    for (walker.currentNode = statement; walker.nextNode(); ) {
      const start = walker.currentNode.data.indexOf(text);
      if (start < 0) continue;
      const range = document.createRange();
      range.setStart(walker.currentNode, start);
      range.setEnd(walker.currentNode, start + text.length);
      return range.getBoundingClientRect().left;
    }
  };
  return wanted.map(left);
}
"""


async def test_letters_written_from_right_to_left_swap_no_values(installation: Installation, page: Page) -> None:
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2 AND ('\u05d0', 100, 5, '\u05d1') IS NOT NULL"
    view = await waiting(installation, {"operations": [{"sql": sql, "params": ["\u05d2", 1061]}]}, **about(1061))
    await open_ticket(page, view)
    statement = page.get_by_label("SQL of operation 1")
    edges = await statement.evaluate(LEFT_EDGES, ["\u05d0", "100", ", 5", "\u05d1", "IS NOT"])
    assert edges == sorted(edges)
    await clean_up(installation, view)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_every_page_is_accessible(
    installation: Installation, chromium: Browser, url: str, scheme: str, width: int
) -> None:
    done = await installation.submit(refund(1049), **about(1049))
    views = [
        await installation.until_waiting(done),
        await waiting(installation, delete(1050, 1051), title="Two to delete", **about(1050, 1051)),
    ]
    changes: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    async with signed_in(chromium, url, installation.settings, **changes) as page:
        for path in ("/", "/login", *(f"/tickets/{view.workflow_id}" for view in views)):
            await page.goto(path)
            results = await Axe().run(page)
            assert results.violations_count == 0, f"{path}: {results.generate_report()}"
            overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, path
    await clean_up(installation, *views)
