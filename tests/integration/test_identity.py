"""Who may do what on the dashboard: programs by tokens, people by sessions, providers and proxies; all on record."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from standfast.cli.program import program as cli
from standfast.dashboard import live
from standfast.dashboard.tokens import PREFIX, TokenRow, Tokens
from standfast.decision import DecisionVerdict, Mode
from standfast.errors import InvalidInput
from standfast.local import configuration
from standfast.outcome import State
from standfast.scope import Scope
from standfast.store.databases import Databases
from tests.integration.installation import Installation, database_name, installed
from tests.integration.test_dashboard import (
    JSON,
    ME,
    about,
    browser,
    dashboard,
    form,
    page,
    refund,
    sign_in,
    viewed,
    waiting,
)
from tests.integration.test_undo import set_status
from tests.processes import LIMIT

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY = frozenset(Scope)
BEN = "ben@example.com"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(installation: Installation) -> AsyncIterator[str]:
    async with dashboard(installation.settings) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tokens(installation: Installation) -> AsyncIterator[Tokens]:
    async with Databases(installation.settings, application="test") as databases:
        yield Tokens(databases)


async def create(
    tokens: Tokens, *scopes: Scope, user: str = BEN, lasts: timedelta | None = None, name: str = ""
) -> str:
    name = name or f"t-{uuid4().hex[:8]}"
    return await tokens.create(name, user=user, scopes=scopes, lasts=lasts, created_by="admin")


@asynccontextmanager
async def program(url: str, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """A program with a token: it sends nothing of what browsers send."""
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


def on_record(installation: Installation, *kinds: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    with psycopg.connect(installation.control_url) as connection:
        query = "SELECT kind, workflow_id, actor, content FROM standfast.audit WHERE kind = ANY(%s) ORDER BY sequence"
        return connection.execute(query, [list(kinds)]).fetchall()


def change_sessions(installation: Installation, change: str) -> None:
    """Change all sessions as their table's owner."""
    control = make_conninfo(installation.owner_url, dbname=database_name(installation.control_url))
    with psycopg.connect(control) as connection:
        connection.execute(b"UPDATE standfast.session SET " + change.encode())


def stored(installation: Installation, column: str, name: str) -> Any:
    with psycopg.connect(installation.control_url) as connection:
        query = psycopg.sql.SQL("SELECT {} FROM standfast.api_token WHERE name = %s").format(
            psycopg.sql.Identifier(column)
        )
        row = connection.execute(query, [name]).fetchone()
        assert row is not None
        return row[0]


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_is_recognisable_and_only_its_hash_is_stored(installation: Installation, tokens: Tokens) -> None:
    token = await create(tokens, Scope.VIEW, name="recognisable")
    assert token.startswith(PREFIX)
    assert len(token) > len(PREFIX) + 40
    with psycopg.connect(installation.control_url) as connection:
        rows = connection.execute("SELECT to_jsonb(t)::text FROM standfast.api_token t").fetchall()
    assert not any(token.removeprefix(PREFIX) in text for (text,) in rows)


@pytest.mark.parametrize(
    "scopes",
    [[Scope.VIEW], [Scope.SUBMIT], [Scope.DECIDE], [Scope.VIEW, Scope.SUBMIT]],
    ids=" ".join,
)
async def test_a_token_may_do_what_its_scopes_say_and_nothing_else(
    installation: Installation, url: str, tokens: Tokens, scopes: list[Scope]
) -> None:
    view = await waiting(installation, refund(1060), **about(1060))
    ticket = {"id": uuid4().hex, "requester": BEN, "metadata": {"plan": refund(1061)}, **about(1061)}
    async with program(url, await create(tokens, *scopes)) as client:
        answers = {
            Scope.VIEW: await client.get(f"/api{page(view)}"),
            Scope.SUBMIT: await client.post("/api/tickets", json=ticket),
            Scope.DECIDE: await client.post(f"/api{page(view)}/decision", json=form(view, "reject", comment="no")),
        }
    for scope, answer in answers.items():
        if scope in scopes:
            assert answer.status_code in {200, 201}, answer.text
        else:
            assert (answer.status_code, answer.headers["content-type"]) == (403, JSON)
            assert (answer.json()["code"], answer.json()["scope"]) == ("scope-missing", scope)
            assert f'scope="{scope}"' in answer.headers["www-authenticate"]
    if Scope.DECIDE not in scopes:
        await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_a_decision_by_a_token_is_signed_and_recorded_as_such(
    installation: Installation, url: str, tokens: Tokens
) -> None:
    view = await waiting(installation, refund(1062), **about(1062))
    async with program(url, await create(tokens, Scope.DECIDE)) as client:
        answer = await client.post(f"/api{page(view)}/decision", json=form(view, "approve"))
    assert (answer.json()["by"], answer.json()["mode"]) == (BEN, Mode.TOKEN)
    outcome = await installation.client.wait(view.workflow_id)
    assert outcome.execution is not None
    assert outcome.execution.approved_by == (BEN,)


async def test_nobody_approves_an_own_ticket_by_a_token(installation: Installation, url: str, tokens: Tokens) -> None:
    view = await waiting(installation, refund(1063), requester=BEN.upper(), **about(1063))
    async with program(url, await create(tokens, *EVERY)) as client:
        answer = await client.post(f"/api{page(view)}/decision", json=form(view, "approve"))
    assert (answer.status_code, answer.json()["reason"]) == (409, "own-ticket")
    await installation.decide(view, DecisionVerdict.REJECT, by="carla@example.com", comment="clean up")


async def test_a_token_names_no_other_requester_also_where_one_person_does_everything(
    installation: Installation, tokens: Tokens
) -> None:
    settings = installation.settings
    solo = settings.model_copy(update={"review": settings.review.model_copy(update={"solo": True})})
    ticket = {"id": uuid4().hex, "requester": "ana@example.com", "metadata": {"plan": {}}, **about(1066)}
    token = await create(tokens, *EVERY)
    async with dashboard(solo) as url, program(url, token) as client, browser(url) as person:
        refused = await client.post("/api/tickets", json=ticket)
        assert (refused.status_code, refused.json()["code"]) == (403, "not-permitted")
        assert "submits tickets in this name only, got 'ana@example.com'" in refused.json()["detail"]
        await sign_in(settings, person)
        assert (await person.post("/api/tickets", json=ticket)).status_code == 201


async def test_who_may_submit_and_not_decide_starts_no_undo(
    installation: Installation, url: str, tokens: Tokens
) -> None:
    done = await installation.submit(set_status(1067), **about(1067))
    assert (await installation.client.wait(done)).state is State.DONE
    ticket = {"id": uuid4().hex, "body": "please", "requester": BEN}
    async with program(url, await create(tokens, Scope.SUBMIT, Scope.VIEW)) as client:
        asked = await client.post("/api/tickets", json=ticket | {"undo_of": done})
        assert (asked.status_code, asked.json()["code"]) == (400, "invalid-input")
        assert "POST to the ticket's /undo" in asked.json()["detail"]
        assert (await client.get(f"/api/tickets/ticket/shop/{ticket['id']}")).status_code == 404
        assert (await client.post(f"/api/tickets/{done}/undo")).json()["scope"] == Scope.DECIDE
    async with program(url, await create(tokens, Scope.DECIDE)) as client:
        assert (await client.post(f"/api/tickets/{done}/undo")).status_code == 201


async def test_a_token_that_is_none_expired_or_revoked_opens_nothing(
    installation: Installation, url: str, tokens: Tokens
) -> None:
    revoked = await create(tokens, *EVERY, name="revoked")
    await tokens.revoke("revoked", by="admin")
    expired = await create(tokens, *EVERY, name="expired", lasts=timedelta())
    for token, reason in (
        (f"{PREFIX}made-up", "was never given out"),
        (revoked.removeprefix(PREFIX), "was never given out"),
        (revoked, "revoked was revoked"),
        (expired, "expired has expired"),
    ):
        async with program(url, token) as client:
            for path in ("/api/tickets", "/api/tickets/ticket/shop/any"):
                answer = await client.get(path)
                assert (answer.status_code, answer.headers["content-type"]) == (401, JSON)
                assert answer.json()["code"] == "token-refused"
                assert reason in answer.json()["detail"]
                assert answer.headers["www-authenticate"].startswith("Bearer")
    refusals = {row[3]["reason"] for row in on_record(installation, "sign-in.refused") if row[3]["by"] == "token"}
    assert refusals == {"the token revoked was revoked", "the token expired has expired"}
    assert stored(installation, "used_at", "expired") is None


async def test_a_token_opens_the_api_and_no_page(url: str, tokens: Tokens) -> None:
    async with program(url, await create(tokens, *EVERY)) as client:
        assert (await client.get("/")).headers["location"] == "/login"
        assert (await client.get("/events")).status_code == 401


async def test_a_page_of_another_site_gains_nothing_by_adding_a_token_to_the_persons_cookies(
    installation: Installation, url: str, tokens: Tokens
) -> None:
    view = await waiting(installation, refund(1064), **about(1064))
    headers = {"Authorization": f"Bearer {await create(tokens, *EVERY)}", "Sec-Fetch-Site": "cross-site"}
    async with browser(url) as client:
        client.cookies.set("any", "cookie")
        answer = await client.post(
            f"/api{page(view)}/decision", json=form(view, "reject", comment="no"), headers=headers
        )
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_the_last_use_of_a_token_is_written_at_most_once_a_minute(
    installation: Installation, url: str, tokens: Tokens
) -> None:
    token = await create(tokens, Scope.VIEW, name="busy")
    assert stored(installation, "used_at", "busy") is None
    async with program(url, token) as client:
        await client.get("/api/tickets")
        first = stored(installation, "used_at", "busy")
        await client.get("/api/tickets")
        assert stored(installation, "used_at", "busy") == first
        with psycopg.connect(installation.control_url) as connection:
            connection.execute("UPDATE standfast.api_token SET used_at = used_at - interval '61 s' WHERE name = 'busy'")
        await client.get("/api/tickets")
    assert stored(installation, "used_at", "busy") > first


async def test_tokens_that_are_created_and_revoked_are_on_record_and_listed(
    installation: Installation, tokens: Tokens
) -> None:
    await create(tokens, Scope.SUBMIT, Scope.VIEW, name="listed", lasts=timedelta(days=1))
    await tokens.revoke("listed", by="boss")
    (row,) = [row for row in await tokens.list() if row.name == "listed"]
    assert isinstance(row, TokenRow)
    assert (row.user, row.scopes, row.created_by) == (BEN, (Scope.VIEW, Scope.SUBMIT), "admin")
    assert row.expires_at is not None
    assert row.revoked_at is not None
    created, revoked = [r for r in on_record(installation, "token.created", "token.revoked") if r[1] == "tokens/listed"]
    assert created[2:] == (
        "admin",
        {"user": BEN, "scopes": ["view", "submit"], "expires_at": row.expires_at.isoformat()},
    )
    assert revoked[2:] == ("boss", {"user": BEN})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "taken"}, "a token named 'taken' exists or existed"),
        ({"name": "../x"}, "field name"),
        ({"user": " "}, "field user"),
        ({"scopes": []}, "expected at least one of: view, submit, decide"),
    ],
)
async def test_a_token_that_cannot_be_is_explained(tokens: Tokens, changes: dict[str, Any], message: str) -> None:
    if "taken" not in {row.name for row in await tokens.list()}:
        await create(tokens, Scope.VIEW, name="taken")
        await tokens.revoke("taken", by="admin")
    chosen = {"name": "new", "user": BEN, "scopes": [Scope.VIEW]} | changes
    with pytest.raises(InvalidInput, match=message):
        await tokens.create(chosen.pop("name"), **chosen, lasts=None, created_by="admin")
    with pytest.raises(InvalidInput, match="no token named 'taken' is in use"):
        await tokens.revoke("taken", by="admin")


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("api_token", ("scopes", "user_name", "token_hash", "expires_at")),
        ("session", ("scopes", "user_name", "token_hash", "expires_at", "mode", "groups")),
        ("login_link", ("token_hash", "expires_at")),
    ],
)
async def test_the_role_of_the_dashboard_cannot_widen_what_was_given(
    installation: Installation, table: str, columns: tuple[str, ...]
) -> None:
    statement = psycopg.sql.SQL("UPDATE standfast.{} SET {} = DEFAULT")
    for column in columns:
        with (
            psycopg.connect(installation.control_url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement.format(psycopg.sql.Identifier(table), psycopg.sql.Identifier(column)))


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("identity") / "operator.toml"
    file.write_text(configuration.to_toml(configuration.operator(installation.settings)))
    return str(file)


async def command(config: str, *arguments: str) -> Any:
    """Run a command as people do, with `--json`, and return what it prints."""
    invoke = CliRunner().invoke
    arguments = ("--config", config, "--json", *arguments)
    result = await asyncio.to_thread(invoke, cli, arguments, standalone_mode=False, catch_exceptions=False)
    return json.loads(result.stdout)


async def test_the_command_line_creates_lists_and_revokes_tokens(config: str, url: str) -> None:
    made = await command(
        config, "tokens", "create", "ci", "--user", BEN, "--scope", "view", "--scope", "submit", "--expires", "90d"
    )
    async with program(url, made["token"]) as client:
        assert (await client.get("/api/tickets")).status_code == 200
        (listed,) = [row for row in await command(config, "tokens", "list") if row["name"] == "ci"]
        assert (listed["user"], listed["scopes"], listed["revoked_at"]) == (BEN, ["view", "submit"], None)
        assert made["token"] not in json.dumps(listed)
        await command(config, "tokens", "revoke", "ci")
        assert (await client.get("/api/tickets")).status_code == 401
    with pytest.raises(InvalidInput, match="--expires 'soon'"):
        await command(config, "tokens", "create", "x", "--user", BEN, "--scope", "view", "--expires", "soon")


async def test_a_token_that_could_not_be_printed_is_named_since_it_is_good(config: str) -> None:
    arguments = ("--config", config, "tokens", "create", "unseen", "--user", BEN, "--scope", "view")
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 - no disk
        create = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "standfast.cli", *arguments, stdout=full, stderr=asyncio.subprocess.PIPE
        )
    _, said = await create.communicate()
    assert create.returncode == 1
    assert b"No space left on device; the token unseen is stored, and nobody has seen it: `standfast tokens" in said
    assert await command(config, "tokens", "revoke", "unseen") == {"name": "unseen", "revoked": True}


async def test_the_command_line_lists_and_ends_sessions(config: str, installation: Installation, url: str) -> None:
    async with browser(url) as one, browser(url) as other:
        for client in (one, other):
            await sign_in(installation.settings, client)
        rows = await command(config, "sessions", "list")
        mine = [row["number"] for row in rows if row["user"] == ME]
        assert {(row["mode"], *row["scopes"]) for row in rows} == {(Mode.SOLO, "view", "submit", "decide")}
        await command(config, "sessions", "revoke", str(mine[0]))
        assert [(await client.get("/")).status_code for client in (one, other)] == [200, 303]
        assert (await command(config, "sessions", "revoke", "--user", ME.upper()))["revoked"] == mine[:0:-1]
        assert (await one.get("/")).status_code == 303
    with pytest.raises(InvalidInput, match=f"no open session has the number {mine[0]}"):
        await command(config, "sessions", "revoke", str(mine[0]))
    ended = [row for row in on_record(installation, "session.revoked") if row[3]["user"] == ME]
    assert {row[1] for row in ended} == {f"sessions/{number}" for number in mine}


async def test_signing_in_and_out_is_on_record(installation: Installation, url: str) -> None:
    async with browser(url) as client:
        await client.post("/login", data={"token": "made up"})
        await sign_in(installation.settings, client)
        await client.post("/logout")
    signed_in, signed_out = on_record(installation, "sign-in", "sign-out")[-2:]
    assert signed_in[2:] == (ME, {"by": "link", "scopes": ["view", "submit", "decide"]})
    assert signed_out[:3] == ("sign-out", signed_in[1], ME)
    assert {"by": "link", "reason": "unknown link"} in [r[3] for r in on_record(installation, "sign-in.refused")]


async def test_another_login_link_ends_the_session_that_the_browser_had(installation: Installation, url: str) -> None:
    async with browser(url) as client, browser(url) as before:
        await sign_in(installation.settings, client)
        before.cookies.update(client.cookies)
        await client.post("/login", data={"token": "made up"})
        assert (await before.get("/")).status_code == 200, "a link that lets nobody in ends nothing"
        await sign_in(installation.settings, client)
        assert [(await one.get("/")).status_code for one in (client, before)] == [200, 303]
    signed_in, signed_out, _ = on_record(installation, "sign-in", "sign-out")[-3:]
    assert signed_out[:3] == ("sign-out", *signed_in[1:3])


async def test_strangers_cannot_fill_the_audit_chain(installation: Installation, url: str) -> None:
    async with browser(url) as client:
        before = len(on_record(installation, "sign-in.refused"))
        for number in range(5):
            await client.post("/login", data={"token": f"made up {number}"})
    assert len(on_record(installation, "sign-in.refused")) <= before + 2  # an hour may have begun


async def test_what_an_older_release_signs_in_may_do_nothing_here(installation: Installation, url: str) -> None:
    async with browser(url) as client:
        await sign_in(installation.settings, client)
        change_sessions(installation, "scopes = DEFAULT")
        answer = await client.get("/")
    assert answer.status_code == 403
    assert "may not look at tickets here" in answer.text


async def test_who_may_only_look_is_told_why_there_are_no_buttons(installation: Installation, url: str) -> None:
    view = await waiting(installation, refund(1065), **about(1065))
    async with browser(url) as client:
        await sign_in(installation.settings, client)
        change_sessions(installation, "scopes = '{view}'")
        text = (await client.get(page(view))).text
        assert "that takes the scope decide" in text
        assert "Approve plan" not in text
        refused = await client.post(f"{page(view)}/decision", data=form(view, "approve"))
        assert (refused.status_code, "takes the scope decide" in refused.text) == (403, True)
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


async def test_who_may_decide_and_not_look_is_told_what_is_wrong_without_the_ticket(
    installation: Installation, url: str
) -> None:
    view = await waiting(installation, refund(1068), requester=ME, **about(1068))
    async with browser(url) as client:
        await sign_in(installation.settings, client)
        change_sessions(installation, "scopes = '{decide}'")
        own = await client.post(f"{page(view)}/decision", data=form(view, "reject", comment="no"))
        nothing = await client.post(f"{page(view)}/undo")
        rehearsed = await client.post(f"{page(view)}/rehearse")
    assert (own.status_code, "the requester of a ticket may not" in own.text) == (409, True)
    assert (nothing.status_code, "nothing that could be taken back" in nothing.text) == (409, True)
    assert (rehearsed.status_code, "You opened this ticket" in rehearsed.text) == (403, True)
    for answer in (own, nothing, rehearsed):
        assert "shop.refunds" not in answer.text
        assert view.ticket.body not in answer.text
    assert viewed(installation, view) == []
    await installation.decide(view, DecisionVerdict.REJECT, comment="clean up")


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now()", "scopes = '{submit,decide}'"])
async def test_who_may_not_look_any_more_is_told_nothing_more(
    installation: Installation, url: str, change: str
) -> None:
    view = await waiting(installation, refund(1069), **about(1069))
    async with browser(url) as client:
        await sign_in(installation.settings, client)
        async with client.stream("GET", f"{page(view)}/events") as stream, asyncio.timeout(LIMIT):
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            change_sessions(installation, change)
            await installation.decide(view, DecisionVerdict.REJECT, comment="no")
            assert "event: end" not in [line async for line in lines]


async def test_a_quiet_stream_ends_soon_after_its_session(
    installation: Installation, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE_SECONDS", 0.1)
    async with browser(url) as client:
        await sign_in(installation.settings, client)
        async with client.stream("GET", "/events?state=expired") as stream, asyncio.timeout(LIMIT):
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            await client.post("/logout")
            async for _ in lines:
                pass


async def test_the_audit_chain_with_all_that_is_verified(installation: Installation, config: str) -> None:
    found = await command(config, "audit", "verify")
    with psycopg.connect(installation.control_url) as connection:
        own = {row for (row,) in connection.execute("SELECT DISTINCT workflow_id FROM standfast.audit")}
    # Tickets of other installations on the same Temporal server are not in this one's chain.
    assert [one for one in found["problems"] if one["where"] in own or not one["where"].startswith("ticket/")] == []
    assert {"sign-in", "sign-out", "sign-in.refused", "session.revoked", "token.created", "token.revoked"} <= set(
        found["kinds"]
    )
