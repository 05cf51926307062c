"""`check` tells what a plan would do to any PostgreSQL database: no Temporal, no control database, nothing executed."""

import asyncio
import json
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tomli_w
from psycopg.conninfo import make_conninfo

from standfast.cli.program import program
from standfast.errors import InvalidInput, NotMigrated, ServiceUnavailable
from standfast.local.ports import free_port
from standfast.plan import Plan
from standfast.report import SafetyReport
from standfast.safety.check import check, parse_plan
from standfast.safety.constraints import Constraints, parse_constraints
from standfast.safety.rules import squawk
from standfast.ticket import Ticket
from tests.processes import eventually

SCHEMA = """
CREATE TABLE orders (id integer PRIMARY KEY, status text NOT NULL, email text);
CREATE TABLE items (id integer PRIMARY KEY, order_id integer REFERENCES orders ON DELETE CASCADE);
CREATE TABLE stamps (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id integer);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO stamps (order_id) VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER stamp AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
INSERT INTO orders SELECT n, 'paid', 'a@example.com' FROM generate_series(1040, 1049) n;
INSERT INTO items SELECT n, 1040 + n % 10 FROM generate_series(1, 200) n;
"""
CONSTRAINTS = parse_constraints(
    """
    version: 1
    target: shop
    statements: {auto: [select, update], approval: [delete]}
    tables: [{name: public.orders, writes: auto}, {name: public.stamps, trigger_writes: allowed}]
    columns: [{table: public.orders, name: email, class: pii}]
    """,
    source="test",
)
# The example of docs/interfaces.md, on the table of this test
REFUND = """{"summary": "refund", "operations": [{"sql": "UPDATE orders SET status = $1 WHERE id = $2",
  "params": ["refunded", 1042], "reason": "asked for", "expect_rows": 1}]}"""
TICKET = Ticket(id="T-1", body="Set order 1042 to refunded", requester="ana@example.com", target="shop")


@pytest.fixture
def shop(database: str) -> Iterator[str]:
    """URL of a small shop; whatever is checked, it is the same afterwards."""
    with psycopg.connect(database) as connection:
        connection.execute(SCHEMA.encode())
    before = contents(database)
    yield database
    assert contents(database) == before


def contents(url: str) -> list[list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return [
            connection.execute("SELECT * FROM orders ORDER BY id").fetchall(),
            connection.execute("SELECT * FROM items ORDER BY id").fetchall(),
            connection.execute("SELECT * FROM stamps ORDER BY id").fetchall(),
            connection.execute(
                "SELECT oid, relname, relacl FROM pg_class WHERE relkind <> 'S' ORDER BY oid"
            ).fetchall(),
        ]


async def checked(
    url: str, plan: str, *, constraints: Constraints | None = CONSTRAINTS, ticket: Ticket | None = None
) -> SafetyReport:
    return await check(
        parse_plan(plan, source="plan.json"),
        url=url,
        target="shop",
        schemas=("public",),
        constraints=constraints,
        ticket=ticket,
    )


def plan_of(*statements: str) -> str:
    return json.dumps({"operations": [{"sql": statement} for statement in statements]})


async def test_the_report_has_the_published_shape(shop: str) -> None:
    report = json.loads((await checked(shop, REFUND)).model_dump_json())
    assert report.keys() >= {
        "verdict",
        "plan_digest",
        "fingerprint",
        "rehearsed_at",
        "operations",
        "undo",
        "undo_proved",
    }
    assert report["verdict"] == "auto"
    # SHA-256 of {"operations":[{"params":["refunded",1042],"sql":"..."}],"target":"shop"}: as published, by sha256sum
    assert report["plan_digest"] == "59479d8accf4b149846be0fe39eab7ea3020f78f20120d07041e6660ea06eafb"
    (operation,) = report["operations"]
    assert operation.pop("seconds") >= 0
    assert operation == {
        "index": 0,
        "verdict": "auto",
        "kind": "update",
        "findings": [],
        "rows": [
            {
                "table": "public.orders",
                "key": {"id": 1042},
                "before": {"status": "paid"},
                "after": {"status": "refunded"},
                "via": "statement",
            },
            {
                "table": "public.stamps",
                "key": operation["rows"][1]["key"],
                "before": None,
                "after": operation["rows"][1]["key"] | {"order_id": 1042},
                "via": "trigger",
            },
        ],
        "counts": {
            "public.orders": {"inserted": 0, "updated": 1, "deleted": 0},
            "public.stamps": {"inserted": 1, "updated": 0, "deleted": 0},
        },
        "truncated": False,
        "locks": {"public.orders": "RowExclusiveLock", "public.stamps": "RowExclusiveLock"},
        "sequences": ["public.stamps_id_seq"],
    }
    (undo,) = report["undo"]["operations"]
    assert (undo["sql"], undo["params"]) == (
        'UPDATE "public"."orders" SET "status" = $1 WHERE "id" = $2',
        ["paid", "1042"],
    )
    assert report["undo_proved"]


async def test_a_finding_names_rule_verdict_value_and_limit(shop: str) -> None:
    report = json.loads((await checked(shop, plan_of("DELETE FROM orders WHERE id = 1042"))).model_dump_json())
    (operation,) = report["operations"]
    limit = next(finding for finding in operation["findings"] if finding["rule"] == "rows.limit")
    assert (report["verdict"], limit["verdict"], limit["evidence"]) == (
        "approval",
        "approval",
        {"rows": 21, "limit": 5},
    )
    assert "21 rows" in limit["message"]
    assert operation["counts"]["public.items"] == {"inserted": 0, "updated": 0, "deleted": 20}
    assert {row["via"] for row in operation["rows"] if row["table"] == "public.items"} == {"cascade"}


async def test_rows_beyond_what_a_report_shows_are_counted(shop: str) -> None:
    report = await checked(shop, plan_of("DELETE FROM orders WHERE id >= 1045"))
    (operation,) = report.operations
    assert (len(operation.rows), operation.truncated, operation.counts["public.items"].deleted) == (50, True, 100)


async def test_the_fingerprint_moves_with_the_rows_and_only_with_them(shop: str) -> None:
    first, second = await checked(shop, REFUND), await checked(shop, REFUND)
    assert first.fingerprint == second.fingerprint
    with psycopg.connect(shop) as connection:
        connection.execute("UPDATE orders SET email = 'b@example.com' WHERE id = 1042")
        connection.execute("DELETE FROM stamps")
    moved = await checked(shop, REFUND)
    assert moved.fingerprint != first.fingerprint
    with psycopg.connect(shop) as connection:
        connection.execute("UPDATE orders SET email = 'a@example.com' WHERE id = 1042")
        connection.execute("DELETE FROM stamps")
    assert (await checked(shop, REFUND)).fingerprint == first.fingerprint


async def test_without_constraints_the_strict_ones_hold(shop: str) -> None:
    assert (await checked(shop, plan_of("SELECT status FROM orders"), constraints=None)).verdict == "auto"
    assert (await checked(shop, REFUND, constraints=None)).verdict == "approval"
    assert (await checked(shop, plan_of("CREATE INDEX ON orders (status)"), constraints=None)).verdict == "block"


async def test_values_are_compared_with_the_ticket_if_there_is_one(shop: str) -> None:
    assert (await checked(shop, REFUND, ticket=TICKET)).verdict == "auto"
    other = TICKET.model_copy(update={"body": "Set order 1043 to refunded"})
    report = await checked(shop, REFUND, ticket=other)
    assert [(f.rule, f.evidence) for f in report.all_findings] == [("grounding", {"values": ["1042"]})]


async def test_an_empty_plan_changes_nothing_and_needs_nobody(shop: str) -> None:
    report = await checked(shop, '{"summary": "nothing to do", "operations": []}')
    assert (report.verdict, report.operations, report.findings) == ("auto", (), ())


async def test_a_declined_plan_goes_to_a_person(shop: str) -> None:
    report = await checked(shop, '{"summary": "No such order.", "declined": true}')
    assert (report.verdict, [f.rule for f in report.findings]) == ("block", ["plan.declined"])


async def test_a_plan_with_too_many_operations_is_not_even_opened(shop: str) -> None:
    report = await checked(shop, plan_of(*["SELECT 1"] * 51))
    assert (report.verdict, [f.rule for f in report.findings]) == ("block", ["plan.size"])
    assert (await checked(shop, plan_of(*["SELECT 1"] * 50))).verdict == "auto"


@pytest.mark.parametrize(("params", "used"), [([], "$1, $2"), ([1], "$1, $2"), ([1, 2, 3], "$1, $2")])
async def test_parameters_must_be_those_that_the_statement_uses(shop: str, params: list[int], used: str) -> None:
    plan = json.dumps({"operations": [{"sql": "SELECT $1::int + $2::int", "params": params}]})
    (operation,) = (await checked(shop, plan)).operations
    (finding,) = operation.findings
    assert (finding.rule, finding.verdict, finding.mendable) == ("statement.parameters", "block", True)
    assert f"has {len(params)} parameters, the statement uses {used}" in finding.message


async def test_a_statement_that_cannot_be_parsed_is_reported_and_the_others_too(shop: str) -> None:
    report = await checked(shop, plan_of("SELEC 1", "DROP TABLE orders"))
    assert [(o.kind, o.verdict) for o in report.operations] == [("unknown", "block"), ("drop", "block")]


async def test_while_squawk_reads_a_statement_all_else_goes_on(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, patient = tmp_path / "gate", tmp_path / "squawk"
    os.mkfifo(gate)
    real = Path(sysconfig.get_path("scripts")) / "squawk"
    patient.write_text(f"#!/bin/sh\nread opened < '{gate}'\nexec '{real}' \"$@\"\n", "utf-8")
    patient.chmod(0o700)
    monkeypatch.setattr(squawk, "_program", lambda: patient)

    async def opened() -> bool:
        try:
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # squawk has not started yet
            return False
        return True

    report, _ = await asyncio.gather(
        checked(shop, plan_of("CREATE INDEX ON orders (status)")), eventually(opened, bool)
    )
    assert [f.rule for f in report.all_findings] == ["squawk.require-concurrent-index-creation", "statement.kind"]


def test_a_plan_is_read_from_one_document() -> None:
    plan = parse_plan(REFUND, source="plan.json")
    assert plan.operations[0].params == ("refunded", 1042)
    assert plan == Plan.model_validate_json(REFUND)


def test_an_array_of_operations_is_a_plan_even_an_empty_one() -> None:
    plan = parse_plan(REFUND, source="plan.json")
    operations = json.dumps(json.loads(REFUND)["operations"])
    assert parse_plan(operations, source="plan.json") == plan.model_copy(update={"summary": ""})
    assert parse_plan("[]", source="plan.json") == Plan()


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["plan.json", "empty"]),
        ("{", ["plan.json, line 1", "not valid JSON"]),
        ('{"operations": [}', ["line 1, column 17"]),
        ('[{"operations": []}]', ["field operations.0.sql: is required", "operations.0.operations: unknown field"]),
        ('[{"sql": "SELECT 1"},\n {"sql": 2}]', ["plan.json, line 2: field operations.1.sql", "got 2"]),
        ('{"operations": []}\n{"operations": []}', ["plan.json, line 2, column 1: not valid JSON: Extra data"]),
        ('"DELETE FROM orders"', ["plan.json, line 1"]),
        ('{"operation": []}', ["field operation", "unknown field"]),
        ('{"operations": [{"params": []}]}', ["operations.0.sql", "required"]),
        ('{"operations": [{"sql": 1}]}', ["operations.0.sql", "string", "got 1"]),
        ('{"operations": [{"sql": "SELECT 1", "expect_rows": -1}]}', ["operations.0.expect_rows", "got -1"]),
        ('{"operations": [{"sql": "SELECT 1", "params": [9007199254740993]}]}', ["params.0", "write it as a string"]),
        ('{"operations": [{"sql": "SELECT 1", "params": [NaN]}]}', ["NaN is not a JSON number"]),
        ('{"operations": [], "operations": [{"sql": "DROP TABLE a"}]}', ["'operations' occurs twice"]),
    ],
)
def test_a_plan_that_is_none_is_refused_with_its_place(text: str, messages: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_plan(text, source="plan.json")
    assert [message for message in messages if message not in str(refused.value)] == []


async def test_constraints_on_other_tables_are_refused(shop: str) -> None:
    constraints = parse_constraints("version: 1\ntarget: shop\ntables: [{name: public.order}]", source="test")
    with pytest.raises(InvalidInput, match=r"tables\.0: no table 'public\.order'"):
        await checked(shop, REFUND, constraints=constraints)


def test_constraints_that_no_control_database_holds_so_far_are_no_verdict(shop: str, tmp_path: Path) -> None:
    plan, settings = tmp_path / "plan.json", tmp_path / "standfast.toml"
    plan.write_text(REFUND, "utf-8")
    settings.write_text(tomli_w.dumps({"targets": {"shop": {"rehearser": shop}}, "control": {"url": shop}}), "utf-8")
    with pytest.raises(NotMigrated, match="run `standfast migrate`, or give --constraints FILE"):
        program.main(["--config", str(settings), "check", str(plan), "--target", "shop"], standalone_mode=False)


async def test_a_server_that_is_lost_is_an_outage_and_no_verdict(shop: str) -> None:
    with psycopg.connect(shop) as connection:
        connection.execute(
            "CREATE FUNCTION lose() RETURNS boolean LANGUAGE sql AS 'SELECT pg_terminate_backend(pg_backend_pid())';"
            "CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM lose(); RETURN NULL; END'"
        )
        connection.execute("CREATE TRIGGER h AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION hang_up()")
    with pytest.raises(ServiceUnavailable, match=r"PostgreSQL at .* was lost: "):
        await checked(shop, REFUND)
    with psycopg.connect(shop) as connection:
        connection.execute("DROP FUNCTION hang_up CASCADE")


async def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not a PostgreSQL URL"):
        await checked("postgresql//nowhere", REFUND)


async def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    url = make_conninfo("", host="127.0.0.1", port=free_port(), dbname="shop", user="a", password="hush")
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:\d+/shop") as refused:
        await checked(url, REFUND)
    assert "hush" not in str(refused.value)
