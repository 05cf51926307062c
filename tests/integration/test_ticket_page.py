"""The ticket page over real HTTP: what an approver can read there and do, without JavaScript as well."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo

from standfast import cluster
from standfast.codec.converter import data_converter
from standfast.codec.sealing import Seal
from standfast.dashboard import freshness, looks
from standfast.decision import DecisionVerdict
from standfast.errors import InvalidInput, PayloadLost
from standfast.listing import Narrowed
from standfast.outcome import State
from standfast.safety import conflicts
from standfast.shown import find
from standfast.steps import rehearsal_id
from standfast.store.databases import Databases
from standfast.view import TicketView
from tests.integration.installation import CONSTRAINTS, Installation, database_name, exists, installed
from tests.integration.listed import report, wait_in_vain
from tests.integration.shop import Shop
from tests.integration.test_dashboard import (
    ME,
    about,
    browser,
    dashboard,
    delete,
    form,
    page,
    refund,
    sign_in,
    waiting,
)
from tests.processes import LIMIT, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPROVE, REJECT = DecisionVerdict.APPROVE, DecisionVerdict.REJECT


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def approver(installation: Installation) -> AsyncIterator[httpx.AsyncClient]:
    async with dashboard(installation.settings) as url, browser(url) as client:
        await sign_in(installation.settings, client)
        yield client


async def executed(installation: Installation, order: int) -> TicketView:
    view = await waiting(installation, refund(order), **about(order))
    await installation.decide(view, APPROVE)
    assert (await installation.client.wait(view.workflow_id)).state is State.DONE
    return await installation.client.view(view.workflow_id)


# --- taking it back --------------------------------------------------------------------------------------------------


async def test_a_done_ticket_is_taken_back_by_a_button_and_a_ticket_of_its_own(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    done = await executed(installation, 1000)
    assert "Undo this" in (await approver.get(page(done))).text
    started = await approver.post(f"{page(done)}/undo")
    assert (started.status_code, started.headers["location"]) == (303, f"{page(done)}-undo")
    undo = await installation.until_waiting(f"{done.workflow_id}-undo")
    assert undo.ticket.requester == ME
    assert f'href="{page(done)}"' in (await approver.get(page(undo))).text

    under_way = (await approver.get(page(done))).text
    assert "An undo is under way" in under_way
    assert f'href="{page(undo)}"' in under_way
    assert "Undo this" not in under_way
    again = await approver.post(f"{page(done)}/undo")
    assert again.headers["location"] == page(undo)

    await installation.decide(undo, APPROVE)
    assert (await installation.client.wait(undo.workflow_id)).state is State.DONE
    assert installation.query("SELECT count(*) FROM shop.refunds WHERE order_id = 1000") == [(0,)]
    taken_back = (await approver.get(page(done))).text
    assert "Taken back by" in taken_back
    assert "Undo this" not in taken_back
    late = await approver.post(f"{page(done)}/undo")
    assert late.status_code == 409
    assert f"was taken back by {undo.workflow_id}" in late.text


async def test_an_undo_that_was_rejected_can_be_asked_for_once_more(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    done = await executed(installation, 1001)
    first = await approver.post(f"/api{page(done)}/undo")
    assert (first.status_code, first.json()["started"]) == (201, True)
    assert (await approver.post(f"/api{page(done)}/undo")).status_code == 200
    undo = await installation.until_waiting(first.json()["workflow_id"])
    await installation.decide(undo, REJECT, comment="it was right")
    await installation.client.wait(undo.workflow_id)
    text = (await approver.get(page(done))).text
    assert "An undo ended without a change" in text
    assert "Undo this" in text
    second = await approver.post(f"/api{page(done)}/undo")
    assert second.json() == {"workflow_id": f"{done.workflow_id}-undo2", "started": True}
    undo = await installation.until_waiting(second.json()["workflow_id"])
    await installation.decide(undo, REJECT, comment="clean up")


async def test_a_ticket_that_changed_nothing_offers_no_undo(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, delete(1002), **about(1002))
    await installation.decide(view, REJECT, comment="no")
    await installation.client.wait(view.workflow_id)
    assert "Undo this" not in (await approver.get(page(view))).text
    refused = await approver.post(f"/api{page(view)}/undo")
    assert (refused.status_code, refused.json()["reason"]) == (409, "nothing-to-undo")


async def test_a_ticket_that_only_has_the_name_of_an_undo_is_none(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    done = await executed(installation, 1003)
    impostor = await waiting(installation, refund(1004), id=f"{done.ticket.id}-undo", **about(1004))
    assert "Undo this" in (await approver.get(page(done))).text
    started = await approver.post(f"{page(done)}/undo")
    assert started.headers["location"] == f"{page(done)}-undo2"
    undo = await installation.until_waiting(f"{done.workflow_id}-undo2")
    for view in (impostor, undo):
        await installation.decide(view, REJECT, comment="clean up")


# --- what changed between plans --------------------------------------------------------------------------------------


async def test_after_asking_for_changes_the_page_shows_who_asked_for_what_and_what_came_of_it(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    plans = {"plan": refund(1010), "mended": refund(1011)}
    view = await waiting(installation, {}, metadata=plans, **about(1010, 1011))
    assert "What changed between the plans" not in (await approver.get(page(view))).text
    asked = form(view, "revise", comment="<b>1011</b> it is")
    assert (await approver.post(f"{page(view)}/decision", data=asked)).status_code == 303
    second = await installation.until(view.workflow_id, lambda now: (now.plan_number, now.state) == (2, State.WAITING))
    text = (await approver.get(page(view))).text
    for promised in (
        "From plan 1 to plan 2",
        f"{ME} asked for changes:",
        "&lt;b&gt;1011&lt;/b&gt; it is",
        "<del>1010</del>",
        "<ins>1011</ins>",
    ):
        assert promised in text
    await installation.decide(second, REJECT, comment="clean up")


async def test_a_plan_that_checks_sent_back_is_compared_with_the_next_too(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    unbounded = {"operations": [{"sql": "UPDATE shop.orders SET status = 'please'"}]}
    view = await waiting(installation, {}, metadata={"plan": unbounded, "mended": refund(1012)}, **about(1012))
    assert view.plan_number == 2
    text = (await approver.get(page(view))).text
    assert "Sent back by the checks:" in text
    assert "has no WHERE" in text
    await installation.decide(view, REJECT, comment="clean up")


# --- are the rows still the same -------------------------------------------------------------------------------------


async def until_page(approver: httpx.AsyncClient, view: TicketView, promised: str) -> str:
    return await eventually(lambda: text_of(approver, view), lambda text: promised in text)


async def text_of(approver: httpx.AsyncClient, view: TicketView) -> str:
    return (await approver.get(page(view))).text


async def test_a_plan_whose_rows_have_changed_is_stale_until_it_is_rehearsed_again(
    installation: Installation, approver: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(freshness, "_SHARE", 0)
    view = await waiting(installation, refund(1020), **about(1020))
    assert "Stale:" not in await until_page(approver, view, ">fresh<")
    installation.execute("UPDATE shop.orders SET total = 7 WHERE id = 1020")
    stale = await until_page(approver, view, ">stale<")
    assert '<button id="approve" class="primary" disabled>' in stale

    answer = await approver.post(f"{page(view)}/rehearse")
    assert (answer.status_code, answer.headers["location"]) == (303, page(view))
    again = await installation.until(
        view.workflow_id, lambda now: now.state is State.WAITING and now.report != view.report
    )
    assert '<button id="approve" class="primary">' in await until_page(approver, view, ">fresh<")
    await installation.decide(again, APPROVE)
    await installation.client.wait(view.workflow_id)
    assert installation.query("SELECT amount FROM shop.refunds WHERE order_id = 1020") == [(7,)]


async def test_looking_at_a_ticket_leaves_nothing_in_its_history(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1021), **about(1021))
    before = await installation.client.history(view.workflow_id)
    await until_page(approver, view, ">fresh<")
    assert await installation.client.history(view.workflow_id) == before
    await installation.decide(view, REJECT, comment="clean up")


async def test_many_who_look_cost_one_rehearsal(installation: Installation, approver: httpx.AsyncClient) -> None:
    view = await waiting(installation, refund(1022), **about(1022))
    await asyncio.gather(*(until_page(approver, view, ">fresh<") for _ in range(8)))
    temporal = await cluster.connect(installation.settings)

    async def runs() -> int:
        query = f'WorkflowId = "{rehearsal_id(view.workflow_id)}"'
        return (await temporal.count_workflows(query)).count

    assert await eventually(runs, bool) == 1
    await installation.decide(view, REJECT, comment="clean up")


async def test_however_many_tickets_people_look_at_only_so_many_are_rehearsed_together(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "AT_ONCE", 1)
    views = [await waiting(installation, refund(order), **about(order)) for order in (1040, 1041, 1042)]
    rehearsals = freshness.Rehearsals(installation.client, asyncio.Event())
    temporal = await cluster.connect(installation.settings)

    async def begun() -> list[str]:
        found = await asyncio.gather(*(exists(temporal, rehearsal_id(view.workflow_id)) for view in views))
        return [view.workflow_id for view, exists in zip(views, found, strict=True) if exists]

    with psycopg.connect(installation.owner_url) as others:
        others.execute("LOCK TABLE shop.refunds IN ACCESS EXCLUSIVE MODE")
        for view in views:
            assert await rehearsals.freshness(view) is freshness.Freshness.UNKNOWN
        assert await eventually(begun, bool) == [views[0].workflow_id] == await begun()
    assert set(await asyncio.gather(*(rehearsals.freshness(view, patience=60) for view in views))) == {
        freshness.Freshness.FRESH
    }
    for view in views:
        await installation.decide(view, REJECT, comment="clean up")


async def test_an_open_page_is_told_of_a_plan_for_the_same_rows(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (freshness, looks):
        monkeypatch.setattr(module, "TICKET_SECONDS", 0.1)
    view, others = await waiting(installation, delete(1043), **about(1043)), list[TicketView]()
    told: list[str] = []
    async with dashboard(installation.settings) as url, browser(url) as approver:
        await sign_in(installation.settings, approver)
        async with approver.stream("GET", f"{page(view)}/events") as stream, asyncio.timeout(LIMIT):
            lines = (line async for line in stream.aiter_lines() if line.startswith("data:"))
            while "wait, too" not in "".join(told):
                await anext(lines)
                told.append(await text_of(approver, view))
                if ">fresh<" in told[-1] and not others:  # nothing else changes any more
                    others.append(await waiting(installation, delete(1043), **about(1043)))
    assert others[0].workflow_id in told[-1]
    for one in (view, *others):
        await installation.decide(one, REJECT, comment="clean up")


async def test_of_many_plans_for_the_same_rows_the_page_names_a_few(
    installation: Installation, approver: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = await waiting(installation, refund(1044), **about(1044))
    temporal = await cluster.connect(installation.settings)
    tickets = [view.ticket.model_copy(update={"id": f"many-{uuid4().hex[:8]}"}) for _ in range(9)]
    for ticket in tickets:
        await wait_in_vain(temporal, ticket, report())
    names = sorted(ticket.workflow_id for ticket in tickets)
    with psycopg.connect(with_owner(installation)) as connection:
        connection.execute(
            "INSERT INTO standfast.touched_row (target, row_hash, workflow_id, until)"
            " SELECT target, row_hash, name, until FROM standfast.touched_row, unnest(%s::text[]) AS name"
            " WHERE workflow_id = %s",
            [names, view.workflow_id],
        )
    await eventually(lambda: installation.client.conflicts(view), lambda found: found == tuple(names))
    text = await text_of(approver, view)
    assert [name for name in names if name in text] == names[:5]
    assert "and at least 4 more." in text
    monkeypatch.setattr(
        conflicts, "_LOOKED_AT", {"of_a_row": 10, "of_a_ticket": 10, "others": 7}
    )  # fewer than there are
    assert await installation.client.conflicts(view) == tuple(names[:7])
    for name in names:
        await temporal.get_workflow_handle(name).terminate()
    await installation.decide(view, REJECT, comment="clean up")


def with_owner(installation: Installation) -> str:
    """Return the URL of the control database as its owner."""
    return make_conninfo(installation.owner_url, dbname=database_name(installation.control_url))


async def test_for_who_has_left_nothing_is_rehearsed_any_more(installation: Installation) -> None:
    view = await waiting(installation, refund(1029), **about(1029))
    rehearsals = freshness.Rehearsals(installation.client, asyncio.Event())
    known = asyncio.Queue[freshness.Freshness | None]()

    async def look() -> None:
        async for _, found in rehearsals.follow(installation.client.watch(view.workflow_id)):
            known.put_nowait(found)

    looking = asyncio.create_task(look())
    while await known.get() is not freshness.Freshness.FRESH:
        pass
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert [task for task in asyncio.all_tasks() if freshness.__file__ in repr(task)] == []
    await installation.decide(view, REJECT, comment="clean up")


async def test_a_target_that_is_away_makes_nothing_stale(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1023), **about(1023))
    with psycopg.connect(installation.owner_url) as others:
        others.execute("LOCK TABLE shop.refunds IN ACCESS EXCLUSIVE MODE")
        assert "not compared again yet" in await text_of(approver, view)
    await installation.decide(view, REJECT, comment="clean up")


async def test_a_plan_known_to_be_stale_stays_so_while_it_cannot_be_rehearsed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(freshness, "_SHARE", 0)
    view = await waiting(installation, refund(1024), **about(1024))
    closing = asyncio.Event()
    rehearsals = freshness.Rehearsals(installation.client, closing)

    async def look() -> freshness.Freshness | None:
        return await rehearsals.freshness(view, patience=LIMIT)

    assert await eventually(look, lambda found: found is not freshness.Freshness.UNKNOWN) is freshness.Freshness.FRESH
    installation.execute("UPDATE shop.orders SET total = 7 WHERE id = 1024")
    await eventually(look, lambda found: found is freshness.Freshness.STALE)
    closing.set()  # from here on, no rehearsal is waited for
    async with aclosing(rehearsals.follow(installation.client.watch(view.workflow_id))) as news:
        found = [(await anext(news))[1] for _ in range(3)]
    assert set(found) == {freshness.Freshness.STALE}
    await installation.decide(view, REJECT, comment="clean up")


async def test_one_of_two_approvals_stays_when_a_plan_is_rehearsed_again_with_the_same_effect(
    installation: Installation,
) -> None:
    await installation.constrain(f"{CONSTRAINTS}quorum: {{approval: 2}}\n")
    view = await waiting(installation, refund(1024), **about(1024))
    await installation.decide(view, APPROVE, by="ben@example.com")

    async def rehearsed_since(before: TicketView) -> TicketView:
        await installation.client.rehearse(view.workflow_id, by="ben@example.com")
        return await installation.until(
            view.workflow_id, lambda now: now.state is State.WAITING and now.report != before.report
        )

    same = await rehearsed_since(view)
    assert same.approvals == ("ben@example.com",)
    installation.execute("UPDATE shop.orders SET total = 8 WHERE id = 1024")
    other = await rehearsed_since(same)
    assert other.approvals == ()
    await installation.constrain(CONSTRAINTS)
    await installation.decide(other, REJECT, comment="clean up")


async def test_the_time_to_decide_goes_on_when_a_plan_is_rehearsed_again_and_begins_anew_with_another_effect(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1026), **about(1026))

    async def since() -> datetime | None:
        listed = (await installation.client.lists.waiting(Narrowed(), 1_000)).tickets
        return next((t.summary.waiting_since for t in listed if t.workflow_id == view.workflow_id and t.summary), None)

    async def rehearsed_since(before: TicketView) -> TicketView:
        await approver.post(f"{page(view)}/rehearse")
        return await installation.until(
            view.workflow_id, lambda now: now.state is State.WAITING and now.report != before.report
        )

    first = await eventually(since, bool)
    same = await rehearsed_since(view)
    assert await eventually(since, bool) == first
    installation.execute("UPDATE shop.orders SET total = 8 WHERE id = 1026")
    other = await rehearsed_since(same)
    await eventually(since, lambda now: now is not None and first is not None and now > first)
    asked = "SELECT count(*) FROM standfast.audit WHERE workflow_id = %s AND kind = 'rehearse' AND actor <> ''"
    with psycopg.connect(installation.control_url) as control:
        assert control.execute(asked, [view.workflow_id]).fetchone() == (2,)
    await installation.decide(other, REJECT, comment="clean up")


async def test_the_requester_can_not_have_the_plan_rehearsed(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1027), requester=ME, **about(1027))
    answer = await approver.post(f"{page(view)}/rehearse")
    assert (answer.status_code, "You opened this ticket" in answer.text) == (403, True)
    await installation.decide(view, REJECT, comment="clean up")


async def test_an_approval_from_a_page_on_which_the_rules_said_something_else_is_refused(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1028), **about(1028))
    answer = await approver.post(f"{page(view)}/decision", data=form(view, "approve") | {"judgement": "0" * 16})
    assert (answer.status_code, "the rules say something else" in answer.text) == (409, True)
    await installation.decide(view, REJECT, comment="clean up")


async def test_a_ticket_that_does_not_wait_is_not_rehearsed_again(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1025), **about(1025))
    await installation.decide(view, REJECT, comment="no")
    await installation.client.wait(view.workflow_id)
    answer = await approver.post(f"{page(view)}/rehearse")
    assert answer.status_code == 409
    assert "has ended already" in answer.text


# --- who may decide, and what it takes -------------------------------------------------------------------------------

SCOPED = f"""{CONSTRAINTS}
approvers:
  - {{tables: [shop.refunds], who: ["*@example.com", "lead@partner.example"]}}
quorum: {{approval: 2}}
"""


async def test_the_page_says_how_many_have_approved_and_who_may(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    await installation.constrain(SCOPED)
    view = await waiting(installation, refund(1030), **about(1030))
    await installation.constrain(CONSTRAINTS)
    await installation.decide(view, APPROVE, by="ben@example.com")
    text = await text_of(approver, view)
    assert "<b>1 of 2</b> people have approved: ben@example.com." in text
    assert "Who fits *@example.com or lead@partner.example, but not the requester." in text
    assert "constraints name others" in text, "the operating system's user is none of them"
    await installation.decide(view, REJECT, comment="clean up")


@pytest.mark.parametrize("way", ["", "/api"])
async def test_approving_what_needs_two_people_takes_a_reason_on_page_and_api(
    installation: Installation, approver: httpx.AsyncClient, way: str
) -> None:
    await installation.constrain(f"{CONSTRAINTS}quorum: {{approval: 2}}\n")
    view = await waiting(installation, refund(1031), **about(1031))
    await installation.constrain(CONSTRAINTS)

    async def approve(**said: str) -> httpx.Response:
        sent = form(view, "approve", **said)
        if way:
            return await approver.post(f"{way}{page(view)}/decision", json=sent)
        return await approver.post(f"{page(view)}/decision", data=sent)

    for said in ({}, {"comment": "  "}):
        answer = await approve(**said)
        assert answer.status_code == 409
        assert "this plan needs 2 people; say in a comment why you approve it" in answer.text
    assert (await installation.client.view(view.workflow_id)).approvals == ()
    assert (await approve(comment="the parcel is lost")).status_code in (200, 303)
    assert (await installation.client.view(view.workflow_id)).approvals == (ME,)
    await installation.decide(view, REJECT, comment="clean up")


async def test_who_approves_second_gets_the_page_with_the_first_name_whoever_was_first(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1032), **about(1032))

    async def approve() -> tuple[int, str]:
        answer = await approver.post(f"{page(view)}/decision", data=form(view, "approve"))
        return answer.status_code, answer.text

    answers = await asyncio.gather(approve(), approve(), installation.decide(view, APPROVE), return_exceptions=True)
    refused = [text for code, text in (one for one in answers if isinstance(one, tuple)) if code == 409]
    outcome = await installation.client.wait(view.workflow_id)
    assert outcome.execution is not None
    (first,) = outcome.execution.approved_by
    assert refused
    assert all(f"{first} has decided already" in text for text in refused)
    assert len(installation.ledger(view.workflow_id)) == 1


# --- what was shown --------------------------------------------------------------------------------------------------


async def test_an_auditor_sees_what_the_approver_was_shown(
    installation: Installation, approver: httpx.AsyncClient, tmp_path: Path
) -> None:
    view = await waiting(installation, refund(1040), **about(1040))
    for path in (page(view), page(view), f"/api{page(view)}"):
        assert (await approver.get(path)).status_code == 200
    await installation.decide(view, REJECT, comment="no")
    await installation.client.wait(view.workflow_id)
    with psycopg.connect(installation.control_url) as connection:
        query = "SELECT hash, content FROM standfast.shown WHERE workflow_id = %s"
        ((key, content),) = connection.execute(query, [view.workflow_id]).fetchall()
        query = "SELECT content ->> 'shown' FROM standfast.audit WHERE workflow_id = %s AND kind = 'view'"
        assert connection.execute(query, [view.workflow_id]).fetchall() == [(key,), (key,)]
    assert b"shop.refunds" not in content
    printed = await Shop(installation, tmp_path).run("audit", "shown", key)
    without_metadata = view.ticket.model_copy(update={"metadata": {}})
    assert TicketView.model_validate(json.loads(printed.stdout)["view"]) == view.model_copy(
        update={"ticket": without_metadata}
    )


async def test_content_that_was_changed_is_not_shown_to_an_auditor(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1041), **about(1041))
    await approver.get(page(view))
    async with Databases(installation.settings, application="test") as databases, databases.control() as connection:
        seal = Seal(data_converter(installation.settings), cluster.namespace(installation.settings))
        other = await seal.close(view.workflow_id, view.model_dump_json())
        row = {"hash": "0" * 64, "workflow_id": view.workflow_id, "at": datetime.now(UTC), "content": other}
        forged = "INSERT INTO standfast.shown VALUES (%(hash)s, %(workflow_id)s, %(at)s, %(content)s)"
        await connection.execute(forged, row)
        with pytest.raises(PayloadLost, match="is not what was shown"):
            await find(connection, seal, "0" * 64)
        with pytest.raises(InvalidInput, match="nobody was shown that"):
            await find(connection, seal, "1" * 64)
    await installation.decide(view, REJECT, comment="clean up")


async def test_a_ticket_can_be_cancelled_from_its_page_until_it_has_ended(
    installation: Installation, approver: httpx.AsyncClient
) -> None:
    view = await waiting(installation, refund(1005), **about(1005))
    assert f'action="{page(view)}/cancel"' in (await approver.get(page(view))).text
    cancelled = await approver.post(f"{page(view)}/cancel")
    assert (cancelled.status_code, cancelled.headers["location"]) == (303, page(view))
    assert (await installation.client.wait(view.workflow_id)).state is State.CANCELLED
    assert "Cancel this ticket" not in (await approver.get(page(view))).text
    late = await approver.post(f"{page(view)}/cancel")
    assert late.status_code == 409
    assert "Nothing is cancelled" in late.text
