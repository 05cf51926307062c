"""The roles that `standfast migrate` makes: what the constraints don't leave open is out of every statement's reach."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from standfast.plan import Operation, Plan
from standfast.report import SafetyReport
from standfast.safety.access import constrained
from standfast.safety.check import check
from standfast.safety.constraints import Constraints, parse_constraints
from standfast.safety.measurement import Meter, apply, twin
from standfast.store.connections import PINNED, open_connection
from standfast.store.databases import Role
from standfast.store.migrate import migrate_target
from standfast.store.roles import role_name

TARGET, PASSWORD = "vault", "only-for-tests"
SCHEMA = """
CREATE SCHEMA shop;
CREATE SCHEMA hidden;
CREATE TABLE shop.customers (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, email text, tax_id text
);
CREATE TABLE shop.notes (id serial PRIMARY KEY, customer_id integer REFERENCES shop.customers ON DELETE CASCADE);
CREATE TABLE shop.events (customer_id integer, at date, token text, PRIMARY KEY (customer_id, at))
    PARTITION BY RANGE (at);
CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE shop.prices (id integer PRIMARY KEY, amount integer);
CREATE TABLE shop.staff (id serial PRIMARY KEY, name text);
CREATE TABLE shop.audit (id serial PRIMARY KEY, customer_id integer, what text);
CREATE TABLE hidden.plans (id integer PRIMARY KEY);
CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS
    'BEGIN INSERT INTO shop.audit (customer_id, what) VALUES (coalesce(NEW.id, OLD.id), TG_OP); RETURN NULL; END';
CREATE TRIGGER note AFTER UPDATE OR DELETE ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.note();
CREATE VIEW shop.names AS SELECT id, name FROM shop.customers;
CREATE VIEW shop.numbers AS SELECT id, tax_id FROM shop.customers;
CREATE VIEW shop.rows AS SELECT c.id, to_jsonb(c) AS r FROM shop.customers c;
CREATE VIEW shop.numbers_again AS SELECT * FROM shop.numbers;
CREATE VIEW shop.people AS SELECT name FROM shop.staff;
CREATE VIEW shop.cheap AS SELECT * FROM shop.prices WHERE amount < 10;
INSERT INTO shop.customers (name, email, tax_id) VALUES ('Ana', 'ana@example.com', 'T-1'), ('Ben', NULL, 'T-2');
INSERT INTO shop.notes (customer_id) VALUES (1);
INSERT INTO shop.events VALUES (1, '2026-05-01', 'secret');
INSERT INTO shop.prices VALUES (1, 5);
INSERT INTO shop.staff (name) VALUES ('Cleo');
"""
CONSTRAINTS = """
version: 1
target: vault
schemas: [shop]
tables_default: auto
statements: {auto: [select, insert, update, delete], approval: []}
tables:
  - {name: shop.prices, writes: block}
  - {name: shop.staff, protected: true}
  - {name: shop.audit, protected: true, trigger_writes: allowed}
columns:
  - {table: shop.customers, name: tax_id, class: secret}
  - {table: shop.customers, name: email, class: pii}
  - {table: shop.events, name: token, class: secret}
"""
READER, REHEARSER, WRITER = Role


def constraints(text: str = CONSTRAINTS) -> Constraints:
    return parse_constraints(text, source="test")


async def migrate(owner: str, text: str = CONSTRAINTS) -> None:
    passwords = dict.fromkeys(Role, PASSWORD)
    await migrate_target(owner, TARGET, ("shop",), passwords, accesses=constrained(constraints(text)))


@pytest.fixture
async def vault(database: str) -> str:
    """URL of a target, as its owner."""
    execute(database, SCHEMA)
    await migrate(database)
    return database


@pytest.fixture(scope="module")
def kept(postgres: str) -> Iterator[str]:
    """URL of one for tests that change nothing, as its owner."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_roles")
    url = make_conninfo(postgres, dbname="test_roles")
    execute(url, SCHEMA)
    asyncio.run(migrate(url))
    yield url
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE test_roles WITH (FORCE)")


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def as_role(owner: str, role: Role) -> str:
    return make_conninfo(owner, user=role_name(TARGET, role), password=PASSWORD)


def refusal(owner: str, role: Role, statement: str) -> str | None:
    """Return for want of which right the server refuses a statement, None if it doesn't. Nothing is kept."""
    with psycopg.connect(as_role(owner, role)) as connection:
        connection.execute("SET TRANSACTION READ WRITE")
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            return error.diag.message_primary
        finally:
            connection.rollback()
    return None


async def judged(owner: str, *statements: str, text: str = CONSTRAINTS) -> SafetyReport:
    """Return the report on a plan, rehearsed as the rehearser."""
    return await check(
        Plan(operations=tuple(Operation(sql=statement) for statement in statements)),
        url=as_role(owner, REHEARSER),
        target=TARGET,
        schemas=("shop",),
        constraints=constraints(text),
        ticket=None,
    )


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("statement", "relation"),
    [
        ("SELECT tax_id FROM shop.customers", "customers"),
        ("SELECT * FROM shop.customers", "customers"),
        ("SELECT to_jsonb(c) FROM shop.customers c", "customers"),
        ("SELECT c.tax_id FROM shop.customers c WHERE c.id = 1", "customers"),
        ("SELECT id FROM shop.customers ORDER BY tax_id", "customers"),
        ("SELECT token FROM shop.events", "events"),
        ("SELECT token FROM shop.events_2026", "events_2026"),
        ("SELECT id FROM shop.numbers", "numbers"),
        ("SELECT id FROM shop.numbers_again", "numbers_again"),
        ("SELECT id FROM shop.rows", "rows"),
        ("SELECT id FROM shop.staff", "staff"),
        ("SELECT name FROM shop.people", "people"),
        ("SELECT id FROM shop.audit", "audit"),
        ("SELECT 1 FROM hidden.plans", "hidden"),
        ("CREATE TEMP TABLE t (a integer)", "temporary"),
        ("CREATE TABLE shop.t (a integer)", "shop"),
        ("CREATE TABLE public.t (a integer)", "public"),
        ("TRUNCATE shop.notes", "notes"),
        ("SELECT setval('shop.notes_id_seq', 1)", "notes_id_seq"),
        ("DELETE FROM standfast.ledger", "standfast|ledger"),
    ],
)
def test_what_no_role_may_do(kept: str, role: Role, statement: str, relation: str) -> None:
    message = refusal(kept, role, statement)
    assert message is not None
    assert any(name in message for name in relation.split("|"))


@pytest.mark.parametrize("role", Role)
def test_what_is_not_withheld_can_be_read(kept: str, role: Role) -> None:
    for statement in (
        "SELECT id, name, email FROM shop.customers",
        "SELECT customer_id, at FROM shop.events",
        "SELECT * FROM shop.names",
        "SELECT * FROM shop.prices, shop.cheap",
        "SELECT count(*) FROM shop.customers",
    ):
        assert refusal(kept, role, statement) is None, statement


@pytest.mark.parametrize("role", [REHEARSER, WRITER])
def test_plans_may_write_what_the_constraints_leave_open(kept: str, role: Role) -> None:
    for statement in (
        "INSERT INTO shop.customers (name, tax_id) VALUES ('Cleo', 'T-3')",
        "UPDATE shop.customers SET name = 'Eva', tax_id = 'T-4' WHERE id = 2",
        "INSERT INTO shop.notes (customer_id) VALUES (2)",
        "DELETE FROM shop.customers WHERE id = 1",
        "UPDATE shop.events SET at = '2026-06-01' WHERE customer_id = 1",
        "UPDATE shop.names SET name = 'Eva' WHERE id = 1",
    ):
        assert refusal(kept, role, statement) is None, statement


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE shop.prices SET amount = 1 WHERE id = 1",
        "DELETE FROM shop.cheap WHERE id = 1",
        "INSERT INTO shop.staff (name) VALUES ('Eva')",
        "INSERT INTO shop.people (name) VALUES ('Eva')",
        "INSERT INTO shop.audit (what) VALUES ('nothing happened')",
        "UPDATE shop.numbers SET tax_id = NULL",
    ],
)
def test_nobody_writes_what_the_constraints_close(kept: str, role: Role, statement: str) -> None:
    assert refusal(kept, role, statement) is not None


def test_the_reader_writes_nothing(kept: str) -> None:
    insert = "INSERT INTO shop.notes (customer_id) VALUES (1)"
    assert refusal(kept, READER, insert) == "permission denied for table notes"
    assert refusal(kept, READER, "SELECT nextval('shop.notes_id_seq')") is not None
    with psycopg.connect(as_role(kept, READER)) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute(insert.encode())


async def test_a_kind_of_statement_that_is_not_allowed_has_no_right(vault: str) -> None:
    await migrate(
        vault,
        CONSTRAINTS.replace(", delete]", "]").replace("tables:", "tables:\n  - {name: shop.notes, auto: [delete]}"),
    )
    assert refusal(vault, WRITER, "DELETE FROM shop.customers WHERE id = 1") == "permission denied for table customers"
    assert refusal(vault, WRITER, "DELETE FROM shop.notes WHERE id = 1") is None


@pytest.mark.parametrize("role", Role)
def test_every_session_begins_with_the_pinned_settings(kept: str, role: Role) -> None:
    wanted = {
        name: value for name, value in PINNED.items() if name != "tcp_user_timeout"
    }  # 0 on a socket of this machine
    wanted |= {"search_path": "shop, pg_temp", "default_transaction_read_only": "on" if role is READER else "off"}
    with psycopg.connect(as_role(kept, role)) as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", (list(wanted),)
        ).fetchall()
    assert dict(rows) == wanted


async def effect_of(owner: str, role: Role, *statements: str) -> list[Any]:
    plan = Plan(operations=tuple(Operation(sql=statement) for statement in statements))
    async with (
        await open_connection(as_role(owner, role), schemas=("shop",)) as change,
        await open_connection(as_role(owner, role), schemas=("shop",)) as observer,
    ):
        async with twin(change, observer):
            effect = await apply(plan, await Meter.started(change, observer), row_limit=100)
        await change.rollback()
    assert [operation.unmeasured for operation in effect.operations] == [()] * len(statements)
    return [(row.table, row.before, row.after) for operation in effect.operations for row in operation.rows]


@pytest.mark.parametrize("role", [REHEARSER, WRITER])
async def test_images_hold_what_no_statement_may_read(kept: str, role: Role) -> None:
    rows = await effect_of(
        kept,
        role,
        "UPDATE customers SET tax_id = 'T-9' WHERE id = 2",
        "DELETE FROM customers WHERE id = 1",
    )
    assert ("shop.customers", {"tax_id": "T-2"}, {"tax_id": "T-9"}) in rows
    assert ("shop.customers", {"id": 1, "name": "Ana", "email": "ana@example.com", "tax_id": "T-1"}, None) in rows
    assert [after["what"] for table, _, after in rows if table == "shop.audit"] == ["UPDATE", "DELETE"]
    assert [before for table, before, _ in rows if table == "shop.notes"] == [{"id": 1, "customer_id": 1}]


async def test_looking_at_rows_leaves_no_right_behind(kept: str) -> None:
    report = await judged(kept, "UPDATE customers SET name = 'Eva' WHERE id = 1", "SELECT name FROM staff")
    assert report.operations[1].verdict == "block"
    (finding,) = report.operations[1].findings
    assert (finding.rule, finding.message) == (
        "operation.refused",
        "the server refuses it: permission denied for table staff (42501)",
    )


async def test_a_new_value_of_a_secret_column_moves_the_fingerprint(kept: str) -> None:
    first = await judged(kept, "UPDATE customers SET tax_id = 'T-8' WHERE id = 1")
    second = await judged(kept, "UPDATE customers SET tax_id = 'T-9' WHERE id = 1")
    assert [(f.rule, f.verdict) for f in first.all_findings] == [("column.sensitive", "approval")]
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    "verb", ["set_config('role', 'standfast_vault_observer', true)", "query_to_xml('TABLE staff', true, true, '')"]
)
async def test_no_statement_becomes_the_observer(kept: str, verb: str) -> None:
    assert (await judged(kept, f"SELECT {verb}")).verdict == "block"
    assert (await judged(kept, "SET ROLE standfast_vault_observer")).verdict == "block"


def test_nobody_logs_in_as_the_observer(kept: str) -> None:
    with psycopg.connect(kept) as connection:
        found = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'standfast_vault_observer'")
        assert found.fetchall() == [(False,)]


async def test_triggers_with_the_rights_of_their_caller_may_add_to_what_they_are_allowed_to(vault: str) -> None:
    execute(vault, "ALTER FUNCTION shop.note() SECURITY INVOKER")
    assert refusal(vault, WRITER, "UPDATE shop.customers SET name = 'Eva' WHERE id = 1") is not None
    await migrate(vault)
    assert refusal(vault, WRITER, "UPDATE shop.customers SET name = 'Eva' WHERE id = 1") is None
    assert refusal(vault, WRITER, "UPDATE shop.audit SET what = ''") is not None
    assert refusal(vault, READER, "SELECT id FROM shop.audit") is not None
    assert (await judged(vault, "INSERT INTO audit (what) VALUES ('nothing')")).verdict == "block"


async def test_migrate_brings_the_roles_to_what_the_constraints_say_now(vault: str) -> None:
    open_all = "version: 1\ntarget: vault\nschemas: [shop]"
    await migrate(vault, open_all)
    assert refusal(vault, READER, "SELECT * FROM shop.customers, shop.staff, shop.numbers") is None
    assert refusal(vault, WRITER, "INSERT INTO shop.staff (name) VALUES ('Eva')") is None
    execute(vault, "GRANT SELECT (id) ON shop.audit TO standfast_vault_reader")
    await migrate(vault)
    for statement in ("SELECT * FROM shop.customers", "SELECT id FROM shop.staff", "SELECT id FROM shop.audit"):
        assert refusal(vault, READER, statement) is not None, statement
    assert refusal(vault, WRITER, "INSERT INTO shop.staff (name) VALUES ('Eva')") is not None


async def test_without_constraints_everything_can_be_read_and_a_person_decides_on_writes(vault: str) -> None:
    await migrate_target(vault, TARGET, ("shop",))
    assert refusal(vault, READER, "SELECT * FROM shop.customers, shop.staff") is None
    assert refusal(vault, WRITER, "DELETE FROM shop.staff WHERE id = 1") is None
