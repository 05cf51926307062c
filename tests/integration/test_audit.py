"""The audit chain on real servers: who can write what, and that whatever is tampered with afterwards is found."""

import asyncio
import base64
import json
import operator
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import SecretStr
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client

from standfast import audit, cluster, steps
from standfast.audit import GENESIS, Kind, Row, row_hash
from standfast.decision import DecisionVerdict
from standfast.local.ports import free_port
from standfast.local.supervisor import Supervisor
from standfast.local.temporal import TemporalServer
from standfast.outcome import State
from standfast.safety.constraints import default_constraints
from standfast.safety.versions import append as append_constraints
from standfast.settings import Encryption
from standfast.store.connections import open_connection
from standfast.store.databases import Role
from standfast.store.migrate import migrate_control
from standfast.store.roles import CONTROL_ROLE, CONTROL_ROLES, JOURNAL_ROLE, role_name
from standfast.verification import chain, streams, traces
from standfast.verification import verify as verification
from standfast.verification.verify import Verified, verify
from tests.integration.installation import PASSWORD, Installation, database_name, exists, installed
from tests.processes import eventually

NOW = datetime(2026, 11, 1, 12, 0, 0, 250_000, UTC)
APPROVE, REJECT = DecisionVerdict.APPROVE, DecisionVerdict.REJECT


REPLACE = """
CREATE OR REPLACE FUNCTION standfast.append_audit(text, text, text, text, text, text) RETURNS text
LANGUAGE sql AS 'SELECT NULL'
"""
INSERT = """
INSERT INTO standfast.audit (sequence, key, at, kind, workflow_id, actor, content, previous_hash, hash)
OVERRIDING SYSTEM VALUE
VALUES (99, 'k', now(), 'decision', 't', 'a', '{}', repeat('a', 64), repeat('b', 64))
"""


# --- the table and its rights ------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def control(database: str) -> str:
    """URL of a new control database, as its owner."""
    await migrate_control(database, dict.fromkeys(CONTROL_ROLES, PASSWORD))
    return database


def as_role(url: str, role: str) -> str:
    return make_conninfo(url, user=role, password=PASSWORD)


async def append(url: str, key: str, **changes: Any) -> str:
    fields: dict[str, Any] = {"at": NOW, "kind": Kind.DECISION, "workflow_id": "t", "actor": "ana", "content": {}}
    async with await open_connection(as_role(url, CONTROL_ROLE)) as connection:
        return await audit.append(connection, key=key, **(fields | changes))


async def wrong(url: str) -> list[str]:
    async with await open_connection(url) as connection:
        return [f"{p.where} {p.problem}" for p in (await chain.read(connection, [], lambda _: None)).problems]


TAMPERING = (
    "UPDATE standfast.audit SET actor = 'mallory'",
    "DELETE FROM standfast.audit",
    "TRUNCATE standfast.audit",
    "DROP TABLE standfast.audit",
    "ALTER TABLE standfast.audit DISABLE TRIGGER append_only",
    REPLACE,
    INSERT,
)


@pytest.mark.parametrize("role", CONTROL_ROLES)
async def test_who_writes_the_chain_can_do_nothing_but_append(control: str, role: str) -> None:
    await append(control, "k1")
    for statement in TAMPERING:
        with psycopg.connect(as_role(control, role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())
    assert await wrong(control) == []


async def test_the_llm_pools_role_can_neither_append_nor_read(control: str) -> None:
    with psycopg.connect(as_role(control, JOURNAL_ROLE)) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "SELECT standfast.append_audit('k', '2026-11-01T12:00:00+00:00', 'decision', 't', 'mallory', '{}')"
            )
        connection.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT actor FROM standfast.audit")


@pytest.mark.parametrize("replicating", ["origin", "replica"])
async def test_an_owner_changes_nothing_by_mistake(control: str, replicating: str) -> None:
    await append(control, "k1")
    for mistake in TAMPERING[:3]:
        with psycopg.connect(control) as connection:
            connection.execute(f"SET session_replication_role = {replicating}".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"append-only: [A-Z]+ refused"):
                connection.execute(mistake.encode())


async def test_the_database_hashes_as_everybody_else_does(control: str) -> None:
    every = "".join(map(chr, range(1, 0x180))) + '\u2028\u2029\ufeff\uffff"\\/ 😀 e\u0301'
    times = [NOW, NOW.replace(microsecond=0), NOW.astimezone(tz=None), datetime(2000, 1, 1, 0, 0, 0, 1, UTC)]
    for number, at in enumerate(times):
        fields: dict[str, Any] = {
            "key": f"{number} {every}",
            "at": at,
            "kind": Kind.DECISION,
            "workflow_id": every,
            "actor": every[::-1],
            "content": {"é": 1, "a": {every: [every, None, True, 0.5, -7]}, "A": {}},
        }
        previous = audited(control)[-1].hash if number else GENESIS
        assert await append(control, **fields) == row_hash(**fields, previous=previous)
    assert await wrong(control) == []


@pytest.mark.parametrize(
    "at",
    ["infinity", "-infinity", "20000-01-01T00:00:00+00:00", "2200-01-01T00:00:01+00:00", "1999-12-31T23:59:59+00:00"],
)
async def test_a_time_that_nobody_could_read_is_refused(control: str, at: str) -> None:
    with psycopg.connect(as_role(control, CONTROL_ROLE)) as connection, pytest.raises(psycopg.DataError, match=at[:6]):
        connection.execute("SELECT standfast.append_audit('k', %s, 'decision', 't', 'mallory', '{}')", [at])
    assert audited(control) == []


@pytest.mark.parametrize("before", ["0001-01-01T00:00:00+14:00", "9999-01-01T00:00:00+00:00", "yesterday", ""])
async def test_a_purge_of_what_is_to_come_hides_nothing(control: str, before: str) -> None:
    content = {"before": before, "histories": True}
    await append(control, "purge/1", kind=Kind.PURGE, content=content)
    await append(control, "purge/2", kind=Kind.PURGE, content=content, at=datetime(2199, 1, 1, tzinfo=UTC))
    async with await open_connection(control) as connection:
        assert (await chain.read(connection, [], lambda _: None)).purged <= datetime.now(UTC)


async def test_a_row_is_not_taken_for_older_or_newer_than_the_rows_before_it_allow(control: str) -> None:
    old, future = datetime(2001, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC)
    for number, at in enumerate((NOW, old, future, NOW)):
        await append(control, f"k{number}", at=at)
    async with streams.reading(control) as connection:
        assert [row.reached async for row in streams.by_ticket(connection, 4)] == [NOW] * 4


async def test_verifying_can_change_nothing(control: str) -> None:
    async with streams.reading(control) as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await connection.execute("DELETE FROM standfast.constraints")


async def test_an_export_that_nobody_takes_holds_no_transaction(control: str, tmp_path: Path) -> None:
    for number in range(100):
        await append(control, f"k{number}", content={"much": "x" * 4096})
    settings = tmp_path / "standfast.toml"
    settings.write_text(f"[control]\nurl = {json.dumps(as_role(control, CONTROL_ROLE))}\n", "utf-8")
    command = [sys.executable, "-P", "-m", "standfast.cli", "--config", str(settings), "audit", "export"]

    async def state() -> str | None:
        query = "SELECT state FROM pg_stat_activity WHERE application_name LIKE %s AND query LIKE %s"
        with psycopg.connect(control) as connection:
            row = connection.execute(query, ["standfast audit%", "FETCH%"]).fetchone()
        return row[0] if row else None

    export = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=1024)
    try:
        assert await eventually(state, lambda seen: seen not in (None, "active")) == "idle"
    finally:
        export.terminate()
        await export.communicate()


async def test_the_same_key_again_changes_nothing_and_returns_the_hash_of_its_row(control: str) -> None:
    first = await append(control, "k1")
    await append(control, "k2")
    assert await append(control, "k1", actor="mallory") == first
    assert [(row.key, row.actor) for row in audited(control)] == [("k1", "ana"), ("k2", "ana")]


async def test_many_who_append_at_once_make_one_chain(control: str) -> None:
    await asyncio.gather(*(append(control, f"k{number % 20}") for number in range(60)))
    assert len(audited(control)) == 20
    assert await wrong(control) == []


async def test_rows_that_were_hashed_by_an_earlier_release_still_verify(control: str) -> None:
    fields: dict[str, Any] = {"at": NOW, "kind": "decision", "workflow_id": "t", "actor": "ana", "content": {"é": "😀"}}
    with psycopg.connect(control) as connection:
        connection.execute(
            "INSERT INTO standfast.audit (key, at, kind, workflow_id, actor, content, previous_hash, hash)"
            " VALUES ('old', %(at)s, %(kind)s, %(workflow_id)s, %(actor)s, %(content)s, %(previous)s, %(hash)s)",
            fields
            | {"content": Jsonb(fields["content"]), "previous": GENESIS}
            | {"hash": row_hash(key="old", **fields, previous=GENESIS)},
        )
    await append(control, "new")
    assert await wrong(control) == []
    assert len(audited(control)) == 2


async def test_whoever_freezes_in_a_transaction_keeps_the_chain_for_seconds_only(control: str) -> None:
    async with await open_connection(as_role(control, CONTROL_ROLE)) as frozen:
        await frozen.execute("SELECT 1")  # begins a transaction, which stays open
        await append_constraints(frozen, default_constraints("shop", ("shop",)), created_by="ana")
        await asyncio.wait_for(append(control, "k1"), 15)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await frozen.execute("SELECT 1")
    assert [row.key for row in audited(control)] == ["k1"]


# --- a whole installation ----------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str) -> AsyncIterator[Installation]:
    """An installation with a Temporal server of its own, since that one's tickets are compared with the chain."""
    with TemporaryDirectory(prefix="standfast-test-") as folder:
        server = TemporalServer(Path(folder), port=free_port(), ui_port=free_port())
        async with Supervisor(Path(folder) / "logs", lambda _: None) as supervisor:
            await supervisor.start(server.service())
            async with installed(postgres, server.address, storage={"threshold": 1024}) as installation:
                await _history(installation)
                yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def temporal(shop: Installation) -> Client:
    return await cluster.connect(shop.settings)


AUTOMATIC = {"operations": [{"sql": "UPDATE shop.orders SET status = $1 WHERE id = $2", "params": ["please", 1000]}]}
BLOCKED = {"operations": [{"sql": "TRUNCATE shop.orders", "params": []}]}


def refund(order: int) -> dict[str, Any]:
    sql = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"
    return {"operations": [{"sql": sql, "params": [order]}]}


async def _waiting(shop: Installation, order: int, identifier: str = "") -> Any:
    changes = {"id": identifier} if identifier else {}
    return await shop.until_waiting(await shop.submit(refund(order), subject={"order_id": order}, **changes))


async def _history(shop: Installation) -> None:
    """One ticket on each path; the approved one is the last to end."""
    await shop.client.wait(await shop.submit(AUTOMATIC, id="AUTOMATIC", subject={"order_id": 1000}))
    await shop.client.wait(await shop.submit(BLOCKED, id="BLOCKED"))
    rejected, cancelled = await _waiting(shop, 1001, "REJECTED"), await _waiting(shop, 1002, "CANCELLED")
    await shop.decide(rejected, REJECT, comment="no " * 500)  # its result is too large for Temporal
    await shop.client.cancel(cancelled.workflow_id)
    undo = (await shop.client.undo("ticket/shop/AUTOMATIC", by="ana@example.com")).workflow_id
    await shop.decide(await shop.until_waiting(undo), APPROVE)
    for ended in (rejected.workflow_id, cancelled.workflow_id, undo):
        await shop.client.wait(ended)
    approved = await _waiting(shop, 1003, "APPROVED")
    with pytest.raises(Exception, match="another plan"):
        await shop.decide(approved, APPROVE, plan_digest="0" * 64)
    await shop.decide(approved, APPROVE)
    await shop.client.wait(approved.workflow_id)


async def found(shop: Installation, *heads: str) -> Verified:
    return await verify(shop.settings, heads=heads, on_progress=lambda _: None)


def said(verified: Verified) -> str:
    return "\n".join(f"{problem.where}: {problem.problem}" for problem in verified.problems)


def control_owner(shop: Installation) -> str:
    return make_conninfo(shop.owner_url, dbname=database_name(shop.control_url))


def audited(url: str) -> list[Row]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        rows = connection.execute("SELECT * FROM standfast.audit ORDER BY sequence").fetchall()
    return [Row.model_validate(row) for row in rows]


def store(url: str, rows: Sequence[Row]) -> None:
    """Replace the whole table, as its owner who knows what he does."""
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE standfast.audit DISABLE TRIGGER append_only")
        connection.execute("TRUNCATE standfast.audit")
        for row in rows:
            connection.execute(
                "INSERT INTO standfast.audit OVERRIDING SYSTEM VALUE VALUES (%(sequence)s, %(key)s, %(at)s, %(kind)s,"
                " %(workflow_id)s, %(actor)s, %(content)s, %(previous_hash)s, %(hash)s)",
                row.model_dump() | {"content": Jsonb(row.content)},
            )
        connection.execute("ALTER TABLE standfast.audit ENABLE ALWAYS TRIGGER append_only")


@contextmanager
def tampered(shop: Installation, rows: Sequence[Row]) -> Iterator[None]:
    url = control_owner(shop)
    before = audited(url)
    store(url, rows)
    try:
        yield
    finally:
        store(url, before)


def hashed_anew(rows: Sequence[Row]) -> list[Row]:
    anew: list[Row] = []
    for row in rows:
        previous = anew[-1].hash if anew else GENESIS
        fields = {name: getattr(row, name) for name in ("key", "at", "kind", "workflow_id", "actor", "content")}
        hashed = row_hash(**fields, previous=previous)
        anew.append(row.model_copy(update={"previous_hash": previous, "hash": hashed}))
    return anew


def one_byte(text: str) -> str:
    """Return the text with its last letter or digit changed."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def with_changed(rows: Sequence[Row], number: int, **changes: Any) -> list[Row]:
    return [row.model_copy(update=changes) if n == number else row for n, row in enumerate(rows)]


@pytest.mark.asyncio(loop_scope="module")
async def test_all_that_happened_is_on_record_and_agrees(shop: Installation) -> None:
    verified = await found(shop)
    assert said(verified) == ""
    assert (verified.tickets, verified.executions, verified.histories, verified.removed) == (6, 3, 6, 0)
    assert verified.head == audited(control_owner(shop))[-1].hash
    by_ticket = {
        ticket: Counter(row.kind for row in audited(control_owner(shop)) if row.workflow_id == f"ticket/shop/{ticket}")
        for ticket in ("AUTOMATIC", "BLOCKED", "REJECTED", "CANCELLED", "AUTOMATIC-undo", "APPROVED")
    }
    assert by_ticket == {
        "AUTOMATIC": {"submission": 1, "verdict": 1, "execution": 1},
        "BLOCKED": {"submission": 1, "verdict": 1, "end": 1},
        "REJECTED": {"submission": 1, "verdict": 1, "decision": 1, "end": 1},
        "CANCELLED": {"submission": 1, "verdict": 1, "end": 1},
        "AUTOMATIC-undo": {"submission": 1, "verdict": 2, "decision": 1, "undo": 1},
        "APPROVED": {"submission": 1, "verdict": 2, "decision": 1, "decision.refused": 1, "execution": 1},
    }
    ends = {row.workflow_id: row.content for row in audited(control_owner(shop)) if row.kind in ("end", "undo")}
    assert [content["state"] for content in ends.values()].count("done") == 1
    assert ends["ticket/shop/AUTOMATIC-undo"]["undo_of"] == "ticket/shop/AUTOMATIC"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_chain_holds_no_text_and_no_values_of_tickets(shop: Installation) -> None:
    kept = json.dumps([row.content for row in audited(control_owner(shop)) if not row.kind.startswith("decision")])
    for word in ("please", "paid", "INSERT", "UPDATE", "ana@example.com"):
        assert word not in kept


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("field", ["content", "hash", "previous_hash", "actor", "kind", "at", "key", "workflow_id"])
@pytest.mark.parametrize("place", [0, 7, -1])
async def test_one_changed_byte_anywhere_is_found(shop: Installation, field: str, place: int) -> None:
    rows = audited(control_owner(shop))
    number = place % len(rows)
    value = getattr(rows[number], field)
    if field == "content":
        other: Any = json.loads(one_byte(json.dumps(value)[:-2]) + json.dumps(value)[-2:])
    else:
        other = value + timedelta(microseconds=1) if field == "at" else one_byte(value)
    with tampered(shop, with_changed(rows, number, **{field: other})):
        assert f"row {rows[number].sequence} " in "\n".join(await wrong(control_owner(shop)))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("last", [1, 2, 30])
async def test_removed_last_rows_are_found_by_the_histories(shop: Installation, last: int) -> None:
    rows = audited(control_owner(shop))
    with tampered(shop, rows[:-last]):
        report = said(await found(shop))
    assert f"has a completed conclude, whose row {rows[-1].key} is not in the chain" in report
    assert "which is not on record as its end" in report


@pytest.mark.asyncio(loop_scope="module")
async def test_removed_last_rows_are_found_by_a_kept_hash(shop: Installation) -> None:
    rows = audited(control_owner(shop))
    assert said(await found(shop, rows[-1].hash, rows[3].hash)) == ""
    with tampered(shop, rows[:-1]):
        assert f"kept head {rows[-1].hash[:12]}: is not in the chain" in said(await found(shop, rows[-1].hash))


@pytest.mark.asyncio(loop_scope="module")
async def test_two_rows_that_changed_places_are_found(shop: Installation) -> None:
    rows = audited(control_owner(shop))
    one, other = rows[4], rows[5]
    rows[4], rows[5] = (
        other.model_copy(update={"sequence": one.sequence}),
        one.model_copy(update={"sequence": other.sequence}),
    )
    with tampered(shop, rows):
        assert f"row {one.sequence} (" in said(await found(shop))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_decision_that_was_added_is_found_though_the_chain_is_whole(shop: Installation) -> None:
    rows = audited(control_owner(shop))
    approval = next(row for row in rows if row.kind == "decision" and row.workflow_id.endswith("APPROVED"))
    run = approval.key.split("/")[0]
    forged = approval.model_copy(
        update={"sequence": rows[-1].sequence + 1, "key": f"{run}/99", "actor": "cy@example.com"}
    )
    with tampered(shop, hashed_anew([*rows, forged])):
        assert "(decision by cy@example.com) was never asked for by its workflow" in said(await found(shop))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_chain_that_was_written_anew_is_found_by_histories_and_by_a_kept_hash(shop: Installation) -> None:
    rows = audited(control_owner(shop))
    approval = next(n for n, row in enumerate(rows) if row.kind == "decision")
    anew = hashed_anew(with_changed(rows, approval, actor="mallory@example.com"))
    with tampered(shop, anew):
        assert await wrong(control_owner(shop)) == [], "the chain itself has nothing to say"
        report = said(await found(shop, rows[-1].hash))
    assert "the chain was written anew" in report
    assert f"kept head {rows[-1].hash[:12]}: is not in the chain" in report


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_executed_without_approval_is_found(shop: Installation) -> None:
    forged = "ticket/shop/FORGED"
    columns = "plan_digest, target, statements, fingerprint, approved_by, attempt"
    shop.execute(
        f"INSERT INTO standfast.ledger (workflow_id, {columns})"  # noqa: S608 - our own words
        f" SELECT '{forged}', {columns} FROM standfast.ledger WHERE workflow_id = 'ticket/shop/APPROVED'"
    )
    try:
        report = said(await found(shop))
    finally:
        shop.execute(f"DELETE FROM standfast.ledger WHERE workflow_id = '{forged}'")  # noqa: S608
    assert f"{forged}: plan" in report
    assert "approved by ben@example.com, of whom no approval" in report
    assert "without a verdict on this plan and these rows on record" in report
    assert "which is not on record as its end" in report


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("workflow_id", "target", "unread"),
    [
        ("manual/1", "shop", ()),
        ("ticket/other/1", "shop", ("other",)),
        ("ticket/shop", "shop", ()),
        ("ticket/shop/1", "other", ("other",)),
        ("manual/1", "other", ("other",)),
    ],
)
async def test_what_was_executed_for_no_ticket_of_its_target_is_found(
    shop: Installation, workflow_id: str, target: str, unread: tuple[str, ...]
) -> None:
    plan = f"plan {'0' * 12} is in a ledger for target '{target}', of which this is no ticket"
    with in_ledger(shop, workflow_id, target):
        verified = await found(shop)
    assert said(verified) == f"{workflow_id}: {plan}"
    assert verified.unread == unread


@pytest.mark.asyncio(loop_scope="module")
async def test_executions_for_a_target_that_no_setting_names_are_not_read_and_the_target_is_named(
    shop: Installation,
) -> None:
    with in_ledger(shop, "ticket/other/1", "other"):
        verified = await found(shop)
    assert (said(verified), verified.unread) == ("", ("other",))


@contextmanager
def in_ledger(shop: Installation, workflow_id: str, target: str) -> Iterator[None]:
    """A row in the ledger that somebody has written by hand."""
    columns = "statements, fingerprint, approved_by, attempt"
    shop.execute(
        f"INSERT INTO standfast.ledger (workflow_id, target, plan_digest, {columns})"  # noqa: S608 - our own words
        f" SELECT '{workflow_id}', '{target}', repeat('0', 64), {columns} FROM standfast.ledger"
        " WHERE workflow_id = 'ticket/shop/APPROVED'"
    )
    try:
        yield
    finally:
        shop.execute(f"DELETE FROM standfast.ledger WHERE workflow_id = '{workflow_id}'")  # noqa: S608


@pytest.mark.asyncio(loop_scope="module")
async def test_a_ticket_whose_payloads_can_not_be_read_is_named_and_the_others_are_verified(
    shop: Installation,
) -> None:
    other = Encryption(keys={"other": SecretStr(base64.b64encode(bytes(32)).decode())})
    without_key = shop.settings.model_copy(update={"encryption": other})
    verified = await verify(without_key, on_progress=lambda _: None)
    assert {problem.where for problem in verified.problems} == {
        row.workflow_id for row in audited(control_owner(shop)) if row.workflow_id.startswith("ticket/")
    }
    assert all("can't be compared: a payload of" in problem.problem for problem in verified.problems)
    assert verified.executions == 3


@pytest.mark.asyncio(loop_scope="module")
async def test_a_ticket_of_which_a_stored_payload_is_gone_is_named_and_the_others_are_verified(
    shop: Installation,
) -> None:
    def stored_of(workflow_id: str, moved_to: str) -> None:
        with psycopg.connect(control_owner(shop)) as owner:
            move = "UPDATE standfast.payload SET workflow_id = %s WHERE workflow_id = %s"
            assert owner.execute(move, [moved_to, workflow_id]).rowcount

    stored_of("ticket/shop/REJECTED", moved_to="elsewhere")
    try:
        verified = await found(shop)
    finally:
        stored_of("elsewhere", moved_to="ticket/shop/REJECTED")
    (problem,) = verified.problems
    assert problem.where == "ticket/shop/REJECTED"
    assert "can't be compared: payload" in problem.problem
    assert "is not in the control database: it was purged" in problem.problem
    assert verified.executions == 3


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("change", "back", "expected"),
    [
        (
            "UPDATE standfast.ledger SET approved_by = '{cy@example.com}' WHERE workflow_id = 'ticket/shop/APPROVED'",
            "UPDATE standfast.ledger SET approved_by = '{ben@example.com}' WHERE workflow_id = 'ticket/shop/APPROVED'",
            "otherwise than row",
        ),
        (
            "UPDATE standfast.ledger SET target = 'hidden' WHERE workflow_id = 'ticket/shop/APPROVED'",
            "UPDATE standfast.ledger SET target = 'shop' WHERE workflow_id = 'ticket/shop/APPROVED'",
            "which is not in the ledger",
        ),
    ],
)
async def test_a_ledger_that_was_tampered_with_is_found(
    shop: Installation, change: str, back: str, expected: str
) -> None:
    shop.execute(change)
    try:
        assert expected in said(await found(shop))
    finally:
        shop.execute(back)


@pytest.mark.asyncio(loop_scope="module")
async def test_constraints_that_were_changed_behind_the_chain_are_found(shop: Installation) -> None:
    with psycopg.connect(control_owner(shop)) as connection:
        (kept,) = connection.execute("SELECT document FROM standfast.constraints").fetchone() or ()
        connection.execute('UPDATE standfast.constraints SET document = document || \'{"tables_default": "auto"}\'')
    try:
        assert said(await found(shop)) == "constraints/shop/1: was changed after it was stored"
    finally:
        with psycopg.connect(control_owner(shop)) as connection:
            connection.execute("UPDATE standfast.constraints SET document = %s", [Jsonb(kept)])


@pytest.mark.asyncio(loop_scope="module")
async def test_the_rehearser_sees_of_the_ledger_what_verifying_needs_and_nothing_else(shop: Installation) -> None:
    url = make_conninfo(shop.owner_url, user=role_name("shop", Role.REHEARSER), password=PASSWORD)
    targets = {"shop": shop.settings.targets["shop"].model_copy(update={"writer": None})}
    as_operator = replace(shop, settings=shop.settings.model_copy(update={"targets": targets}))
    assert (await found(as_operator)).executions == 3
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT statements FROM standfast.ledger")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_answer_to_a_decision_is_a_receipt_of_the_chain_up_to_it(shop: Installation) -> None:
    view = await _waiting(shop, 1010)
    record = await shop.decide(view, REJECT, comment="no")
    await shop.client.wait(view.workflow_id)
    rows = audited(control_owner(shop))
    assert [row.kind for row in rows if row.hash == record.receipt] == ["decision"]
    assert said(await found(shop, record.receipt)) == ""
    with tampered(shop, hashed_anew(with_changed(rows, 0, actor="mallory@example.com"))):
        assert "is not in the chain" in said(await found(shop, record.receipt))


@pytest.mark.asyncio(loop_scope="module")
async def test_tickets_under_way_are_no_trouble(shop: Installation) -> None:
    waiting = await _waiting(shop, 1011)
    plans = [
        {"operations": [{"sql": "UPDATE shop.orders SET status = $1 WHERE id = $2", "params": ["please", 1050 + n]}]}
        for n in range(6)
    ]
    ids = await asyncio.gather(*(shop.submit(p, subject={"order_id": 1050 + n}) for n, p in enumerate(plans)))
    ended = asyncio.gather(*(shop.client.wait(one) for one in ids))
    while not ended.done():
        assert said(await found(shop)) == ""
    await shop.decide(waiting, REJECT, comment="enough")
    await shop.client.wait(waiting.workflow_id)
    assert said(await found(shop)) == ""


@pytest.mark.asyncio(loop_scope="module")
async def test_a_ticket_that_was_reset_by_its_operators_is_no_trouble(shop: Installation, temporal: Client) -> None:
    view = await _waiting(shop, 1012)
    await shop.decide(view, REJECT, comment="a mistake")
    await shop.client.wait(view.workflow_id)
    events = (await temporal.get_workflow_handle(view.workflow_id).fetch_history()).events
    decided = next(e.event_id for e in events if e.HasField("workflow_execution_update_accepted_event_attributes"))
    tasks = [e.event_id for e in events if e.HasField("workflow_task_completed_event_attributes")]
    await temporal.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=view.workflow_id),
            reason="the wrong button",
            request_id="reset",
            workflow_task_finish_event_id=[task for task in tasks if task < decided][-2],
            reset_reapply_exclude_types=[ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE],
        )
    )
    await shop.decide(await shop.until_waiting(view.workflow_id), APPROVE)
    await shop.client.wait(view.workflow_id)
    verified = await found(shop)
    assert said(verified) == ""
    assert verified.histories > verified.tickets


@pytest.mark.asyncio(loop_scope="module")
async def test_people_see_the_end_at_once_and_its_record_waits_for_the_control_database(shop: Installation) -> None:
    view = await _waiting(shop, 1013)
    with psycopg.connect(shop.control_url) as held:
        held.execute("SELECT pg_advisory_xact_lock(hashtext('standfast.audit'))")
        await shop.client.cancel(view.workflow_id)
        ended = await shop.until(view.workflow_id, lambda now: now.outcome is not None)
        assert ended.state is State.CANCELLED
    assert (await shop.client.wait(view.workflow_id)).state is State.CANCELLED
    kinds = [row.kind for row in audited(control_owner(shop)) if row.workflow_id == view.workflow_id]
    assert kinds == ["submission", "verdict", "end"]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_execution_that_can_never_be_put_on_record_ends_done_all_the_same_and_is_found(
    shop: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = replace(steps.CONCLUDE, give_up_after=timedelta(seconds=1))
    monkeypatch.setattr(steps, "CONCLUDE", impatient)
    plan = {"operations": [{"sql": "UPDATE shop.orders SET status = $1 WHERE id = $2", "params": ["lost", 1020]}]}
    revoked = f"FUNCTION standfast.append_audit {{}} {CONTROL_ROLE}"
    with psycopg.connect(shop.owner_url) as held:
        held.execute("LOCK TABLE standfast.ledger IN SHARE MODE")
        workflow_id = await shop.submit(plan, id="LOST", subject={"order_id": 1020})
        await shop.until(workflow_id, lambda now: now.state is State.EXECUTING)
        with psycopg.connect(control_owner(shop)) as owner:
            owner.execute(f"REVOKE EXECUTE ON {revoked.format('FROM')}".encode())
        held.rollback()
    try:
        assert (await shop.client.wait(workflow_id)).state is State.DONE
        report = said(await found(shop))
    finally:
        with psycopg.connect(control_owner(shop)) as owner:
            owner.execute(f"GRANT EXECUTE ON {revoked.format('TO')}".encode())
        shop.execute("DELETE FROM standfast.ledger_undo WHERE workflow_id = 'ticket/shop/LOST'")
        for table in ("ledger_row", "ledger_count", "ledger"):
            shop.execute(f"DELETE FROM standfast.{table} WHERE workflow_id = 'ticket/shop/LOST'")  # noqa: S608
    assert report.startswith(f"{workflow_id}: plan")
    assert "which is not on record as its end; its workflow is completed" in report
    assert said(await found(shop)) == ""


@pytest.mark.asyncio(loop_scope="module")
async def test_a_deleted_history_is_found(
    shop: Installation, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = "ticket/shop/BLOCKED"
    await deleted(temporal, workflow_id)
    verified = await found(shop)
    (problem,) = verified.problems
    assert problem.where == workflow_id
    assert "is gone before its time" in problem.problem
    assert verified.removed == 1
    with monkeypatch.context() as patch:
        pass_while_reading(patch)
        assert said(await found(shop)) == "", "unless its time is over by then"
    await append(
        control_owner(shop),
        "purge/1",
        at=datetime.now(UTC),
        kind=Kind.PURGE,
        workflow_id="",
        content={"before": datetime.now(UTC).isoformat(), "histories": True},
    )
    assert said(await found(shop)) == "", "unless a purge is on record"


def pass_while_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time for which histories are kept pass between the question about it and the first ticket."""
    passed = timedelta()

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + passed

    real = traces.retention

    async def slow(client: Client) -> timedelta:
        nonlocal passed
        passed = await real(client)
        return passed

    monkeypatch.setattr(verification, "datetime", Clock)
    monkeypatch.setattr(traces, "retention", slow)


async def deleted(temporal: Client, workflow_id: str) -> None:
    """Delete a history, and wait until it is gone."""
    execution = WorkflowExecution(workflow_id=workflow_id)
    await temporal.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(namespace=temporal.namespace, workflow_execution=execution)
    )

    await eventually(lambda: exists(temporal, workflow_id), operator.not_)
