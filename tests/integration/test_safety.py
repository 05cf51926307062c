"""The safety rules on a real database: what runs by itself, what a person decides, and what never runs at all."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files
from textwrap import dedent
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from standfast import steps
from standfast.domain import MASK, digest
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.local.shop import load_shop
from standfast.plan import Operation, Plan
from standfast.report import OperationReport, SafetyReport, Verdict
from standfast.safety.check import check
from standfast.safety.conflicts import forget_rows
from standfast.safety.constraints import (
    KNOWN_KINDS,
    Constraints,
    Limits,
    Statements,
    default_constraints,
    parse_constraints,
)
from standfast.safety.schema_check import check_against_schema
from standfast.safety.versions import append, append_first, read_latest, versions
from standfast.store import connections
from standfast.store.connections import open_connection
from standfast.store.databases import Role
from standfast.store.migrate import migrate_control, migrate_target
from standfast.store.roles import CONTROL_ROLE, CONTROL_ROLES, role_name
from standfast.verification import chain
from tests.integration.contents import everything

PASSWORD = "only-for-tests"
SHOP = parse_constraints(files("standfast.local.shop").joinpath("constraints.yaml").read_text("utf-8"), source="shop")
# What a real database has and the sample shop has not: ways to write, and to read, that a statement doesn't show.
CROOKED = """
CREATE TABLE shop.notices (id integer PRIMARY KEY, text text NOT NULL);
CREATE TABLE shop.switches (id integer PRIMARY KEY, position text NOT NULL);
CREATE TABLE shop.tokens (id integer PRIMARY KEY, used boolean NOT NULL);
CREATE TABLE shop.keyless (text text);
CREATE TABLE shop.journal (id integer PRIMARY KEY, customer_id integer REFERENCES shop.customers ON DELETE CASCADE);
CREATE TABLE shop.hidden (id integer PRIMARY KEY, text text NOT NULL);
INSERT INTO shop.notices SELECT n, 'n' FROM generate_series(1, 3) n;
INSERT INTO shop.switches SELECT n, 'off' FROM generate_series(1, 3) n;
INSERT INTO shop.tokens SELECT n, false FROM generate_series(1, 3) n;
INSERT INTO shop.keyless VALUES ('a');
INSERT INTO shop.journal VALUES (1, 1), (2, 1);
INSERT INTO shop.hidden SELECT n, 'h' FROM generate_series(1, 9) n;

CREATE VIEW shop.tax_numbers AS SELECT id, tax_id AS number FROM shop.customers;
CREATE VIEW shop.tax_numbers_again AS SELECT * FROM shop.tax_numbers;
CREATE VIEW shop.cards AS SELECT id, to_jsonb(c) AS card FROM shop.customers c;
CREATE VIEW shop.receipts AS SELECT id, paid_on, amount AS value FROM shop.payments;
CREATE VIEW shop.names AS SELECT id, name FROM shop.customers;
CREATE VIEW shop.slow AS SELECT pg_sleep(0.3)::text AS note;

CREATE FUNCTION shop.note(customer integer) RETURNS void LANGUAGE sql
    AS 'INSERT INTO shop.support_history (customer_id, text) VALUES (customer, ''noted'')';
CREATE FUNCTION shop.peek(shop.orders) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION shop.alike(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = $2';
CREATE OPERATOR shop.=== (FUNCTION = shop.alike, LEFTARG = integer, RIGHTARG = integer);
CREATE PROCEDURE shop.make_it_last() LANGUAGE plpgsql AS $$ BEGIN DELETE FROM shop.staff; COMMIT; END $$;
CREATE FUNCTION shop.reverse(text, integer) RETURNS text LANGUAGE sql AS 'SELECT $1';

CREATE FUNCTION shop.empty_notices() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN TRUNCATE shop.notices; RETURN NULL; END $$;
CREATE TRIGGER empty AFTER UPDATE ON shop.switches FOR EACH STATEMENT EXECUTE FUNCTION shop.empty_notices();
CREATE FUNCTION shop.dismiss() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN DELETE FROM shop.staff WHERE id = 3; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON shop.tokens DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION shop.dismiss();
CREATE FUNCTION shop.forge() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO standfast.migration (kind, number, name, checksum) VALUES ('forged', 1, 'x', repeat('0', 64));
    RETURN NULL;
END $$;
CREATE TRIGGER forge AFTER UPDATE ON shop.keyless FOR EACH STATEMENT EXECUTE FUNCTION shop.forge();
CREATE FUNCTION shop.hide() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN UPDATE shop.hidden SET text = 'x'; RETURN NULL; END $$;
CREATE TRIGGER hide AFTER UPDATE ON shop.notices FOR EACH STATEMENT EXECUTE FUNCTION shop.hide();
ALTER TABLE shop.hidden ENABLE ROW LEVEL SECURITY;
"""
# Created after the roles got their rights: out of reach for them, but not for a cascade.
LATE = """
CREATE TABLE shop.late (id integer PRIMARY KEY, address_id integer REFERENCES shop.addresses ON DELETE CASCADE);
INSERT INTO shop.late VALUES (1, 7);
"""
CROOKED_CONSTRAINTS = SHOP.model_copy(
    update={
        "tables": (
            *SHOP.tables,
            *parse_constraints(
                """
                version: 1
                target: shop
                tables:
                  - {name: shop.notices, writes: auto}
                  - {name: shop.switches, writes: auto}
                  - {name: shop.tokens, writes: auto}
                  - {name: shop.hidden, writes: auto}
                  - {name: shop.journal, trigger_writes: allowed}
                """,
                source="test",
            ).tables,
        )
    }
)


@pytest.fixture(scope="module")
def shop(postgres: str) -> Iterator[str]:
    """URL of the sample shop and its crooked parts, as the superuser."""
    name = "test_safety"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = make_conninfo(postgres, dbname=name)
    asyncio.run(load_shop(url))
    with psycopg.connect(url) as connection:
        connection.execute(CROOKED.encode())
    asyncio.run(migrate_target(url, "shop", ("shop",), dict.fromkeys(Role, PASSWORD)))
    with psycopg.connect(url) as connection:
        connection.execute(LATE.encode())
    yield url
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def as_role(url: str, role: Role) -> str:
    return make_conninfo(url, user=role_name("shop", role), password=PASSWORD)


def plan_of(*operations: str | tuple[str, list[Any]]) -> Plan:
    pairs = [(o, []) if isinstance(o, str) else o for o in operations]
    return Plan(operations=tuple(Operation(sql=text, params=tuple(params)) for text, params in pairs))


async def judge(
    url: str, *operations: str | tuple[str, list[Any]], constraints: Constraints = CROOKED_CONSTRAINTS
) -> SafetyReport:
    return await check(
        plan_of(*operations), url=url, target="shop", schemas=("shop",), constraints=constraints, ticket=None
    )


async def judge_one(url: str, statement: str, *params: Any, constraints: Constraints = SHOP) -> OperationReport:
    report = await judge(url, (statement, list(params)), constraints=constraints)
    return report.operations[0]


def rules(report: OperationReport, verdict: Verdict) -> set[str]:
    return {finding.rule for finding in report.findings if finding.verdict is verdict}


@pytest.fixture(scope="module")
def untouched(shop: str) -> dict[str, Any]:
    """What the database holds before any statement was judged."""
    return everything(shop)


BENIGN: list[tuple[str, list[Any]]] = [
    ("SELECT id, name FROM shop.customers WHERE id = $1", [1]),
    ("SELECT o.*, c.name FROM shop.orders o JOIN shop.customers c ON c.id = o.customer_id WHERE o.id = 1001", []),
    ("SELECT id FROM open_orders LIMIT 3", []),
    ("SELECT status, count(*), round(avg(total), 2) FROM orders GROUP BY status HAVING count(*) > 1 ORDER BY 1", []),
    ("SELECT q.total FROM (SELECT sum(total) AS total FROM orders) q", []),
    ("WITH big AS (SELECT id FROM orders WHERE total > 100) SELECT count(*) FROM big", []),
    ("EXPLAIN SELECT * FROM shop.orders", []),
    ("SELECT n, u FROM generate_series(1, 3) n, unnest($1::integer[]) WITH ORDINALITY AS t(u, place)", [[1, 2]]),
    ("UPDATE shop.customers SET locked = false, failed_logins = 0 WHERE id = 13", []),
    ("UPDATE customers SET preferences = preferences || $1 WHERE id = 5", [{"newsletter": False}]),
    ("UPDATE customers SET preferences = jsonb_set(preferences, '{language}', '\"fr\"') WHERE id = 5", []),
    ("UPDATE orders SET note = $1 WHERE id = 1002", ["'; DROP TABLE shop.staff; COMMIT; --"]),
    ("UPDATE orders SET note = 'pg_sleep(1) DELETE FROM shop.staff' WHERE id = 1002", []),
    ("UPDATE orders SET note = 'a' WHERE id = 1002 -- approved by the boss, run it; DROP TABLE shop.staff", []),
    ("UPDATE orders SET note = initcap(trim(note)) || to_char(now(), 'YYYY') WHERE id = ANY($1)", [[1001, 1002]]),
    ("UPDATE orders o SET note = 'vip' FROM customers c WHERE c.id = o.customer_id AND o.id = 1003 AND c.locked", []),
    ("INSERT INTO refunds (order_id, amount, reason) VALUES (1001, 12.50, 'late')", []),
    ("INSERT INTO support_history (customer_id, at, text) VALUES (1, now() - make_interval(hours => 1), 'a')", []),
    ("INSERT INTO support_history (customer_id, text) SELECT id, 'a' FROM customers WHERE id < 4", []),
    ("UPDATE subscriptions SET status = 'paused' WHERE id = 401 RETURNING id, status", []),
]


@pytest.mark.parametrize(("statement", "params"), BENIGN)
async def test_what_is_harmless_runs_by_itself(shop: str, statement: str, params: list[Any]) -> None:
    report = await judge(as_role(shop, Role.REHEARSER), (statement, params), constraints=SHOP)
    assert (report.verdict, [f.message for f in report.all_findings if f.verdict is not Verdict.AUTO]) == ("auto", [])


RISKY: list[tuple[str, str]] = [
    # money, personal data, and secrets that a statement writes by itself
    ("UPDATE payments SET amount = 1 WHERE id = 1001", "column.sensitive"),
    ("UPDATE payments_2026_h1 SET amount = 1 WHERE order_id = 1001", "column.sensitive"),
    ("UPDATE payments_2026_h2 SET amount = 1 WHERE order_id = 1001", "column.sensitive"),
    ("UPDATE receipts SET value = 1 WHERE id IN (SELECT id FROM orders WHERE id IN (1001, 1002))", "column.sensitive"),
    ("SELECT email FROM customers WHERE id = 1", "column.sensitive"),
    ("SELECT id FROM customers WHERE email LIKE 'a%'", "column.sensitive"),
    ("SELECT id FROM customers ORDER BY phone", "column.sensitive"),
    ("SELECT lower(c.email) FROM customers c", "column.sensitive"),
    ("SELECT q.x FROM (SELECT email AS x FROM customers) q", "column.sensitive"),
    ("UPDATE customers SET email = 'new@example.com' WHERE id = 1", "column.sensitive"),
    ("UPDATE customers SET tax_id = 'TAX-1' WHERE id = 1", "column.sensitive"),
    ("UPDATE customers SET locked = false WHERE id = 1 RETURNING *", "column.sensitive"),
    ("UPDATE customers SET locked = false WHERE id = 1 RETURNING old.tax_id", "column.sensitive"),
    ("UPDATE customers SET locked = false WHERE id = 1 RETURNING to_jsonb(new)", "column.sensitive"),
    ("UPDATE customers SET locked = false WHERE id = 1 RETURNING WITH (OLD AS o) o", "column.sensitive"),
    # values
    ("INSERT INTO refunds (order_id, amount, reason) VALUES (1001, 100.01, 'x')", "value.limit"),
    ("INSERT INTO refunds (order_id, amount, reason) VALUES (1001, 'NaN', 'x')", "value.limit"),
    ("UPDATE customers SET credit = 20 + 6 WHERE id = 1", "value.limit"),
    # rows
    ("UPDATE orders SET note = 'x' WHERE id BETWEEN 1001 AND 1006", "rows.limit"),
    ("UPDATE orders SET note = 'x' WHERE id > 2000", "rows.limit"),
    ("UPDATE orders SET note = 'x' FROM customers c WHERE c.id = 1 AND orders.id < 1100", "rows.limit"),
    (
        "UPDATE orders SET note = 'x' WHERE customer_id IN (SELECT customer_id FROM staff) AND orders.id < 1050",
        "rows.limit",
    ),
    ("DELETE FROM support_history WHERE id = 1", "statement.kind"),
    ("WITH gone AS (DELETE FROM support_history WHERE id = 1 RETURNING id) SELECT id FROM gone", "statement.kind"),
    ("DELETE FROM customers WHERE id = 2", "rows.elsewhere"),
    ("DELETE FROM addresses WHERE id = 3", "rows.elsewhere"),
    ("SELECT note(1)", "rows.elsewhere"),
    ("UPDATE journal SET id = id WHERE true AND id = id", "statement.where"),
    ("UPDATE notices SET text = 'x' WHERE id = id OR false", "statement.where"),
    ("UPDATE notices SET text = 'x' WHERE 1 = 1", "statement.where"),
    ("UPDATE orders SET note = 'x' WHERE id IN (SELECT id FROM orders LIMIT 2)", "rows.unstable"),
    ("UPDATE orders SET note = 'x' WHERE id = 1001 AND placed_at < now()", "rows.unstable"),
    ("UPDATE orders SET note = 'x' WHERE id = 1001 AND placed_at < CURRENT_DATE", "rows.unstable"),
    ("UPDATE orders SET note = 'x' WHERE id = 1001 AND placed_at < timestamptz 'yesterday'", "rows.unstable"),
    (
        "WITH t AS (SELECT now() AS at) UPDATE orders SET note = 'x' FROM t WHERE id = 1001 AND placed_at < t.at",
        "rows.unstable",
    ),
    (
        "INSERT INTO refunds SELECT 9, id, 1, 'x', now() FROM orders WHERE id = 1001 AND placed_at < now()",
        "rows.unstable",
    ),
    ("UPDATE orders SET note = 'x' WHERE id = 1001 AND random() < 2", "function"),
    ("SELECT id FROM orders WHERE id = 1001 FOR UPDATE", "rows.unstable"),
    ("INSERT INTO keyless VALUES ('b')", "rows.unmeasured"),
    # keys and documents
    ("UPDATE subscriptions SET id = 9401 WHERE id = 401", "key.changed"),
    ("UPDATE orders SET customer_id = 3 WHERE id = 1001", "key.changed"),
    ("UPDATE customers SET preferences = '{}' WHERE id = 1", "document.replaced"),
    ("UPDATE customers SET preferences = $$\"x\"$$ WHERE id = 1 AND preferences ? 'language'", "document.replaced"),
    (
        "INSERT INTO products VALUES (1, 'x', 1, 1) ON CONFLICT (id) DO UPDATE SET attributes = excluded.attributes",
        "document.replaced",
    ),
    # objects and functions
    ("UPDATE names SET name = 'x' WHERE id = 1", "object.known"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 1, 1)", "table.writes"),
    ("SELECT shop.note(1)", "function"),
    ("SELECT now() FROM shop.note(1)", "function"),
    ("SELECT reverse('an overload of one''s own may be meant')", "function"),
    ("SELECT id FROM orders WHERE id === 1001", "function"),
    ("SELECT id FROM orders WHERE id OPERATOR(shop.===) ANY (ARRAY[1])", "function"),
    ("SELECT 1 OPERATOR(shop.===) ANY (SELECT id FROM orders)", "function"),
    ("SELECT (o).peek FROM orders o WHERE o.id = 1001", "function"),
    ("SELECT peek(o) FROM orders o", "function"),
]


@pytest.mark.parametrize(("statement", "rule"), RISKY)
async def test_what_is_risky_needs_a_person(shop: str, statement: str, rule: str) -> None:
    report = await judge_one(shop, statement, constraints=CROOKED_CONSTRAINTS)
    assert (report.verdict, [f.message for f in report.findings if f.verdict is Verdict.BLOCK]) == ("approval", [])
    assert rule in rules(report, Verdict.APPROVAL)


HOSTILE: list[str] = [
    # more than one statement, and text that is not what it seems
    "SELECT 1; COMMIT; DROP TABLE shop.staff",
    "SELECT '--';\nDELETE FROM shop.staff",
    "SELECT 1\x00; DELETE FROM shop.staff",
    "SELECT 1 /* ; */; DELETE FROM shop.staff /*",
    "SELECT '\\'; DELETE FROM shop.staff; --'",
    "SELECT E'\\'; DELETE FROM shop.staff; --",
    "UPDATE orders SET note = 'x'; DROP TABLE shop.staff; --' WHERE id = 1",
    "",
    "-- DELETE FROM shop.staff",
    "NOT SQL",
    # out of the transaction
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "ABORT",
    "BEGIN",
    "SAVEPOINT a",
    "PREPARE TRANSACTION 'left behind'",
    "DO $$ BEGIN DELETE FROM shop.staff; COMMIT; END $$",
    "DO $a$ BEGIN EXECUTE $b$ DO $c$ BEGIN DELETE FROM shop.staff; COMMIT; END $c$ $b$; END $a$",
    "CALL shop.make_it_last()",
    "SELECT * FROM dblink('dbname=test_safety', 'DELETE FROM shop.staff RETURNING 1') AS t(a int)",
    "SELECT dblink_exec('dbname=test_safety', 'DELETE FROM shop.staff')",
    "COPY (SELECT 1) TO PROGRAM 'touch /tmp/standfast-escaped'",
    "COPY shop.staff FROM PROGRAM 'echo 9'",
    "COPY shop.staff TO '/tmp/standfast-escaped'",
    "COPY shop.staff TO STDOUT",
    "SELECT nextval('shop.orders_id_seq')",
    "SELECT setval('shop.orders_id_seq', 1)",
    "SELECT pg_catalog.setval('shop.orders_id_seq', 1)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_notify('a', 'b')",
    "SELECT pg_logical_emit_message(false, 'a', 'b')",
    "SELECT pg_switch_wal()",
    "SELECT pg_stat_reset()",
    "SELECT lo_import('/etc/hostname')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "NOTIFY a",
    "LISTEN a",
    "UNLISTEN *",
    "CHECKPOINT",
    "VACUUM shop.orders",
    "ANALYZE shop.orders",
    "CREATE INDEX CONCURRENTLY ON shop.orders (note)",
    "ALTER SYSTEM SET log_statement = 'none'",
    "CREATE DATABASE other",
    # other people, other settings
    "SET ROLE postgres",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET LOCAL statement_timeout = 0",
    "SET search_path = public",
    "SET TRANSACTION READ WRITE",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET standard_conforming_strings = off",
    "RESET ALL",
    "DISCARD ALL",
    "SHOW data_directory",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT id FROM orders WHERE set_config('statement_timeout', '0', true) IS NOT NULL",
    "SELECT current_setting('data_directory')",
    "PREPARE a AS DELETE FROM shop.staff",
    "EXECUTE a",
    "EXPLAIN EXECUTE a",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "FETCH ALL FROM c",
    "LOCK TABLE shop.staff",
    "LOAD 'plpgsql'",
    # the server's files, processes and time
    "SELECT pg_sleep(100)",
    'SELECT "pg_sleep"(100)',
    'SELECT U&"pg_sle\\0065p"(100)',
    "SELECT U&\"pg_sle!0065p\"(100) UESCAPE '!'",
    "SELECT pg_catalog.pg_sleep_for('1 minute')",
    "VALUES (pg_sleep(100))",
    "SELECT * FROM pg_sleep(100)",
    "SELECT * FROM ROWS FROM (pg_sleep(100), generate_series(1, 2))",
    "SELECT 1 FROM orders ORDER BY pg_sleep(100)",
    "SELECT 1 LIMIT (SELECT 1 FROM pg_sleep(100))",
    "SELECT count(*) FILTER (WHERE pg_sleep(100) IS NULL) FROM orders",
    "SELECT sum(1) OVER (PARTITION BY pg_sleep(100)::text) FROM orders",
    "SELECT CASE WHEN true THEN pg_sleep(100) END",
    "SELECT ARRAY[pg_sleep(100)::text]",
    "SELECT 1 FROM orders GROUP BY ROLLUP (pg_sleep(100)::text)",
    "UPDATE orders SET note = pg_sleep(100)::text WHERE id = 1001",
    "UPDATE orders SET note = 'x' WHERE id = 1001 RETURNING pg_sleep(100)",
    "INSERT INTO support_history (customer_id, text) VALUES (1, pg_read_file('/etc/hostname'))",
    "INSERT INTO refunds VALUES (1) ON CONFLICT (order_id) DO UPDATE SET reason = pg_read_file('/etc/hostname')",
    "WITH a AS MATERIALIZED (SELECT pg_read_binary_file('/etc/hostname')) SELECT * FROM a",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_terminate_backend(pid) FROM generate_series(1, 99999) pid",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_reload_conf()",
    "SELECT query_to_xml('DELETE FROM shop.staff', true, true, '')",
    "SELECT ts_stat('DELETE FROM shop.staff RETURNING to_tsvector(name)')",
    "SELECT table_to_xml('shop.staff', true, true, '')",
    "SELECT 1 FROM orders o LEFT JOIN LATERAL pg_read_file('/etc/hostname') f ON true",
    "SELECT xmlelement(name a, pg_read_file('/etc/hostname'))",
    "CREATE INDEX ON shop.orders ((xmlelement(name a, pg_sleep(1)::text)::text))",
    "ALTER TABLE shop.orders ADD COLUMN x text DEFAULT xmlserialize(content xmlelement(name a, pg_sleep(1)) AS text)",
    # definitions
    "DROP TABLE shop.staff",
    "TRUNCATE shop.staff",
    "TRUNCATE shop.customers CASCADE",
    "ALTER TABLE shop.staff RENAME TO people",
    "ALTER TABLE shop.orders DISABLE TRIGGER ALL",
    "ALTER TABLE shop.orders DROP COLUMN note",
    "ALTER TABLE shop.orders ADD COLUMN x uuid DEFAULT gen_random_uuid()",
    "ALTER TABLE shop.orders ADD COLUMN x integer NOT NULL",
    "ALTER TABLE shop.orders ADD COLUMN x serial",
    "ALTER TABLE shop.orders ADD COLUMN x integer GENERATED ALWAYS AS (id) STORED",
    "ALTER TYPE shop.order_status RENAME VALUE 'paid' TO 'unpaid'",
    "GRANT ALL ON shop.staff TO PUBLIC",
    "REVOKE ALL ON shop.staff FROM PUBLIC",
    "ALTER ROLE standfast_shop_reader SUPERUSER",
    "CREATE ROLE intruder SUPERUSER LOGIN",
    "CREATE TEMP TABLE orders AS SELECT 1 AS id",
    "CREATE TEMP VIEW staff AS SELECT 1",
    "SELECT * INTO shop.copy FROM shop.orders",
    "SELECT 1 AS a INTO TEMP orders UNION SELECT 2",
    "CREATE TABLE shop.copy AS SELECT 1",
    "CREATE FUNCTION shop.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION shop.note(customer integer) RETURNS void LANGUAGE sql AS ''",
    "CREATE RULE r AS ON UPDATE TO shop.orders DO ALSO DELETE FROM shop.staff",
    "CREATE TRIGGER t AFTER UPDATE ON shop.orders EXECUTE FUNCTION shop.dismiss()",
    "CREATE EXTENSION dblink",
    "COMMENT ON TABLE shop.staff IS 'ignore all rules'",
    "SECURITY LABEL ON TABLE shop.staff IS 'x'",
    "REFRESH MATERIALIZED VIEW shop.cards",
    # where nobody has any business
    "SELECT * FROM pg_temp.orders",
    "INSERT INTO pg_temp.orders VALUES (1)",
    "SELECT pg_temp.now()",
    "SELECT * FROM pg_catalog.pg_authid",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM pg_stats",
    "SELECT * FROM information_schema.tables",
    "UPDATE pg_catalog.pg_class SET relname = 'x' WHERE relname = 'staff'",
    "SELECT * FROM standfast.ledger",
    "INSERT INTO standfast.ledger SELECT * FROM standfast.ledger",
    "DELETE FROM standfast.migration WHERE true",
    "WITH a AS (UPDATE standfast.ledger SET target = 'x' WHERE attempt > 0 RETURNING 1) SELECT 1",
    "SELECT * FROM test_safety.shop.orders",
    "SELECT postgres.pg_catalog.now()",
    "SELECT * FROM shop.nothing",
    "SELECT shop.nothing()",
    "SELECT nothing FROM shop.orders",
    # protected tables, whatever the way there
    "UPDATE staff SET role = 'admin' WHERE id = 2",
    'UPDATE "shop"."staff" SET role = \'admin\' WHERE id = 2',
    'UPDATE U&"sh\\006Fp".U&"st\\0061ff" SET role = \'admin\' WHERE id = 2',
    "INSERT INTO staff (name, role, password_hash) VALUES ('x', 'admin', 'x')",
    "INSERT INTO staff VALUES (2, 'x', 'x', 'x') ON CONFLICT (id) DO UPDATE SET role = 'admin'",
    "WITH a AS (UPDATE staff SET role = 'admin' WHERE id = 2 RETURNING id) SELECT id FROM a",
    "SELECT id FROM orders WHERE id IN (WITH a AS (DELETE FROM staff WHERE id = 3 RETURNING 1) SELECT 1)",
    "MERGE INTO staff s USING orders o ON s.id = o.id WHEN NOT MATCHED THEN DO NOTHING",
    "DELETE FROM customers_audit WHERE id = 1",
    "INSERT INTO customers_audit (customer_id, action, changed) VALUES (1, 'update', '{}')",
    "UPDATE tokens SET used = true WHERE id = 1",
    # everything at once
    "UPDATE orders SET note = 'x'",
    "DELETE FROM support_history",
    "UPDATE ONLY orders SET note = 'x'",
    "WITH a AS (UPDATE orders SET note = 'x' RETURNING id) SELECT count(*) FROM a",
    "EXPLAIN ANALYZE DELETE FROM support_history WHERE id = 1",
    "EXPLAIN (ANALYZE, COSTS off) UPDATE orders SET note = 'x' WHERE id = 1001",
    "UPDATE orders SET note = 'x' WHERE id > 0",
    "MERGE INTO orders o USING customers c ON o.customer_id = c.id WHEN MATCHED THEN DELETE",
    "UPDATE switches SET position = 'on' WHERE id = 1",
    # secrets
    "SELECT password_hash FROM staff",
    "SELECT * FROM staff",
    "TABLE shop.staff",
    "SELECT s FROM staff s",
    "SELECT staff FROM staff",
    "SELECT shop.staff FROM shop.staff",
    "SELECT to_jsonb(s) FROM staff s",
    "SELECT s.to_jsonb FROM staff s",
    "SELECT s.row_to_json FROM shop.staff AS s",
    "SELECT s.text FROM staff s",
    "SELECT password_hash(s) FROM staff s",
    "SELECT (s).password_hash FROM staff s",
    "SELECT x FROM staff AS s(a, b, c, x)",
    "SELECT j.* FROM (staff s JOIN orders o ON true) AS j",
    "SELECT j FROM (staff s JOIN orders o ON true) AS j",
    "SELECT q.h FROM (SELECT password_hash AS h FROM staff) q",
    "WITH q(a) AS (SELECT password_hash FROM staff) SELECT a FROM q",
    "SELECT id FROM staff WHERE password_hash LIKE 'a%'",
    "SELECT id FROM staff ORDER BY password_hash",
    "SELECT 1 FROM staff GROUP BY password_hash",
    "SELECT max(password_hash) FROM staff",
    "SELECT 1 FROM staff a JOIN staff b USING (password_hash)",
    "SELECT count(*) FROM staff a NATURAL JOIN staff b",
    "SELECT id FROM orders WHERE note = (SELECT password_hash FROM staff LIMIT 1)",
    "INSERT INTO support_history (customer_id, text) SELECT 1, password_hash FROM staff",
    "UPDATE orders SET note = s.password_hash FROM staff s WHERE orders.id = 1001",
    "UPDATE orders SET note = 'x' WHERE id = 1001 RETURNING (SELECT max(password_hash) FROM staff)",
    "UPDATE orders SET note = 'x' FROM staff s WHERE orders.id = 1001 RETURNING s.password_hash",
    "UPDATE orders SET note = 'x' FROM staff s WHERE orders.id = 1001 RETURNING *",
    "WITH w AS (UPDATE customers SET locked = false WHERE id = 1 RETURNING tax_id AS t) SELECT t FROM w",
    "SELECT number FROM tax_numbers",
    "SELECT number FROM tax_numbers_again",
    "SELECT card FROM cards",
    "EXPLAIN SELECT id FROM staff WHERE password_hash = 'x'",
    "SELECT c.to_jsonb FROM customers c",
    "SELECT customers.row_to_json FROM shop.customers",
]


@pytest.mark.parametrize("user", ["rehearser", "superuser"])
@pytest.mark.parametrize("statement", HOSTILE)
async def test_what_is_hostile_never_runs(shop: str, untouched: dict[str, Any], statement: str, user: str) -> None:
    url = shop if user == "superuser" else as_role(shop, Role.REHEARSER)
    report = await judge(url, "UPDATE orders SET note = 'first' WHERE id = 1001", statement)
    assert (report.verdict, report.operations[1].verdict) == ("block", "block")
    assert everything(shop) == untouched


async def test_no_judgement_changes_the_database(shop: str, untouched: dict[str, Any]) -> None:
    statements = [statement for statement, _ in RISKY] + [
        "DELETE FROM customers WHERE id > 1",
        "ALTER TABLE orders ADD COLUMN x integer",
        "CREATE INDEX ON orders (note)",
        "ALTER TYPE shop.order_status ADD VALUE 'lost'",
    ]
    everything_allowed = CROOKED_CONSTRAINTS.model_copy(
        update={
            "statements": Statements(approval=KNOWN_KINDS, auto=()),
            "limits": Limits(operations_per_plan=1, approval_rows_per_operation=100_000),
        }
    )
    for statement in statements:
        report = await judge(shop, statement, constraints=everything_allowed)
        assert report.verdict is Verdict.APPROVAL, statement
    assert everything(shop) == untouched


async def test_the_sample_shop_is_the_same_on_every_load(shop: str, database: str) -> None:
    await load_shop(database)
    ours, theirs = (
        {t: state for t, state in everything(url).items() if t.startswith("shop.")} for url in (shop, database)
    )
    assert {t: ours[t] for t in theirs} == theirs
    assert theirs["shop.customers"][0] == 400
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE shop.orders SET note = 'mine'")
        # New rows go on after the loaded ones.
        connection.execute("INSERT INTO shop.staff (name, role, password_hash) VALUES ('x', 'agent', 'x')")
    changed = everything(database)
    await load_shop(database)
    assert everything(database) == changed


async def test_the_sample_constraints_fit_the_sample_shop(shop: str) -> None:
    async with await open_connection(shop) as connection:
        await check_against_schema(connection, SHOP, source="constraints.yaml")


# What only the measured effect gives away


async def test_cascades_count_and_are_shown_as_such(shop: str) -> None:
    report = await judge(shop, "DELETE FROM customers WHERE id = 1", constraints=SHOP)
    operation = report.operations[0]
    assert operation.counts["shop.customers"].deleted == 1
    assert operation.counts["shop.addresses"].deleted == 1
    assert {row.via for row in operation.rows if row.table == "shop.addresses"} == {"cascade"}
    assert report.approvals_required == SHOP.quorum.critical


async def test_an_audit_trigger_that_is_allowed_needs_nobody(shop: str) -> None:
    operation = await judge_one(shop, "UPDATE customers SET locked = true WHERE id = 1")
    assert (operation.verdict, operation.counts["shop.customers_audit"].inserted) == ("auto", 1)
    strict = SHOP.model_copy(
        update={"tables": tuple(t.model_copy(update={"trigger_writes": None}) for t in SHOP.tables)}
    )
    operation = await judge_one(shop, "UPDATE customers SET locked = true WHERE id = 1", constraints=strict)
    assert rules(operation, Verdict.BLOCK) == {"table.writes"}


async def test_allowed_trigger_writes_do_not_excuse_a_cascade(shop: str) -> None:
    operation = await judge_one(shop, "DELETE FROM customers WHERE id = 1", constraints=CROOKED_CONSTRAINTS)
    elsewhere = {f.evidence["table"] for f in operation.findings if f.rule == "rows.elsewhere"}
    assert "shop.journal" in elsewhere
    assert "shop.customers_audit" not in elsewhere


async def test_a_trigger_that_empties_a_table_is_noticed_although_no_counter_moves(shop: str) -> None:
    operation = await judge_one(
        shop, "UPDATE switches SET position = 'on' WHERE id = 1", constraints=CROOKED_CONSTRAINTS
    )
    assert "shop.notices" not in operation.counts
    (finding,) = [f for f in operation.findings if f.verdict is Verdict.BLOCK]
    assert (finding.rule, finding.evidence) == ("rows.unmeasured", {"table": "shop.notices"})


async def test_a_trigger_cannot_write_our_own_records(shop: str) -> None:
    statement = "UPDATE keyless SET text = 'x' WHERE text = 'a'"
    operation = await judge_one(as_role(shop, Role.REHEARSER), statement, constraints=CROOKED_CONSTRAINTS)
    blocking = [(f.rule, f.evidence) for f in operation.findings if f.verdict is Verdict.BLOCK]
    assert blocking == [("table.writes", {"table": "standfast.migration"})]


async def test_a_report_holds_no_secret_and_no_personal_value(shop: str) -> None:
    report = await judge(
        shop, "UPDATE customers SET email = 'new@example.com' WHERE id = 2", "DELETE FROM customers WHERE id = 2"
    )
    changes = [next(row for row in o.rows if row.table == "shop.customers") for o in report.operations]
    assert (changes[0].before, changes[0].after) == ({"email": MASK}, {"email": MASK})
    before = changes[1].before or {}
    assert [before[column] for column in ("tax_id", "email", "phone", "locked")] == [MASK, MASK, MASK, False]
    with psycopg.connect(shop) as connection:
        (row,) = connection.execute("SELECT tax_id, email, phone FROM shop.customers WHERE id = 2").fetchall()
    assert [value for value in row if value in report.model_dump_json()] == []


async def test_a_deferred_trigger_is_measured_before_anybody_commits(shop: str) -> None:
    operation = await judge_one(shop, "UPDATE tokens SET used = true WHERE id = 1", constraints=CROOKED_CONSTRAINTS)
    assert operation.counts["shop.staff"].deleted == 1


async def test_rows_that_the_role_may_not_see_are_counted_all_the_same(shop: str) -> None:
    operation = await judge_one(
        as_role(shop, Role.REHEARSER), "UPDATE notices SET text = 'x' WHERE id = 1", constraints=CROOKED_CONSTRAINTS
    )
    assert operation.counts["shop.hidden"].updated == 9
    assert {"rows.unmeasured", "rows.limit", "rows.elsewhere"} <= rules(operation, Verdict.APPROVAL)


async def test_a_cascade_into_a_table_out_of_reach_is_counted(shop: str) -> None:
    operation = await judge_one(as_role(shop, Role.REHEARSER), "DELETE FROM addresses WHERE id = 7")
    assert operation.counts["shop.late"].deleted == 1
    assert "rows.unmeasured" in rules(operation, Verdict.APPROVAL)


async def test_many_small_operations_are_one_large_one(shop: str) -> None:
    few = [("UPDATE orders SET note = 'x' WHERE id BETWEEN $1 AND $2", [n, n + 4]) for n in (1001, 1006)]
    assert (await judge(shop, *few, constraints=SHOP)).verdict is Verdict.AUTO
    report = await judge(shop, *few, "UPDATE orders SET note = 'x' WHERE id = 1011", constraints=SHOP)
    assert [(f.rule, f.evidence["rows"]) for f in report.findings] == [("rows.plan", 11)]
    assert [o.verdict for o in report.operations] == ["auto", "auto", "auto"]
    assert report.verdict is Verdict.APPROVAL


@pytest.mark.parametrize(("expected", "verdict"), [(1, "auto"), (2, "block")])
async def test_the_rows_that_the_agent_expects_are_the_rows_that_change(shop: str, expected: int, verdict: str) -> None:
    operation = Operation(sql="UPDATE orders SET note = 'x' WHERE id = 1001", expect_rows=expected)
    plan = Plan(operations=(operation,))
    report = await check(plan, url=shop, target="shop", schemas=("shop",), constraints=SHOP, ticket=None)
    assert report.verdict == verdict


async def test_a_statement_that_finds_no_row_says_so(shop: str) -> None:
    operation = await judge_one(shop, "UPDATE orders SET note = 'x' WHERE id = 1")
    assert [(f.rule, f.verdict) for f in operation.findings] == [("rows.expected", "auto")]


async def test_a_plan_is_blocked_whole_if_the_server_refuses_one_operation(shop: str) -> None:
    report = await judge(
        shop, "UPDATE orders SET note = 'x' WHERE id = 1001", "UPDATE orders SET total = -1 WHERE id = 1001"
    )
    assert [o.verdict for o in report.operations] == ["auto", "block"]
    (finding,) = report.operations[1].findings
    assert (finding.rule, finding.mendable, "23514" in finding.message) == ("operation.refused", True, True)


async def test_a_statement_that_takes_too_long_is_blocked(shop: str) -> None:
    hasty = SHOP.model_copy(update={"limits": Limits(statement_timeout_ms=300)})
    operation = await judge_one(shop, "SELECT count(*) FROM generate_series(1, 1000000000)", constraints=hasty)
    assert (operation.verdict, rules(operation, Verdict.BLOCK)) == ("block", {"operation.refused"})


@pytest.mark.parametrize("bound", ["the rehearsal's", "the server's for a session that idles"])
async def test_a_plan_that_takes_too_long_to_rehearse_is_blocked(
    shop: str, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound == "the rehearsal's":
        monkeypatch.setattr(steps, "LONGEST_REHEARSAL", timedelta(seconds=0.5))
    else:
        monkeypatch.setitem(connections.PINNED, "idle_in_transaction_session_timeout", "500ms")
    report = await judge(shop, *["SELECT note FROM slow"] * 2)
    (finding,) = report.findings
    assert (report.verdict, finding.rule, finding.mendable) == ("block", "plan.time", True)


async def test_rows_that_others_hold_are_an_outage_and_no_verdict(shop: str) -> None:
    with psycopg.connect(shop) as other:
        other.execute("SELECT 1 FROM shop.orders WHERE id = 1001 FOR UPDATE")
        with pytest.raises(ServiceUnavailable, match="busy"):
            await judge(shop, "UPDATE orders SET note = 'x' WHERE id = 1001")
        other.rollback()


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        ("CREATE INDEX ON orders (note)", "approval"),
        ("ALTER TABLE orders ADD COLUMN x integer DEFAULT 0 NOT NULL", "approval"),
        ("ALTER TABLE orders ADD COLUMN x timestamptz DEFAULT now()", "approval"),
        ("ALTER TABLE orders ADD COLUMN x float DEFAULT random()", "block"),
        ("ALTER TYPE shop.order_status ADD VALUE 'lost'", "approval"),
        ("ALTER TABLE orders ADD COLUMN x integer, DROP COLUMN note", "block"),
        (
            "MERGE INTO orders o USING (VALUES (1001)) v(id) ON o.id = v.id WHEN MATCHED THEN UPDATE SET note = 'x'",
            "auto",
        ),
        ("MERGE INTO orders o USING (VALUES (1001)) v(id) ON o.id = v.id WHEN MATCHED THEN UPDATE SET id = 5", "block"),
        ("MERGE INTO subscriptions s USING (VALUES (401)) v(id) ON s.id = v.id WHEN MATCHED THEN DELETE", "approval"),
        ("MERGE INTO tokens t USING (VALUES (401)) v(id) ON true WHEN NOT MATCHED THEN DO NOTHING", "auto"),
    ],
)
async def test_definitions_and_merges_where_they_are_allowed(shop: str, statement: str, verdict: str) -> None:
    allowed = Statements(
        auto=("select", "insert", "update", "merge"),
        approval=("delete", "create_index", "add_column", "add_enum_value"),
    )
    constraints = CROOKED_CONSTRAINTS.model_copy(update={"statements": allowed})
    assert (await judge_one(shop, statement, constraints=constraints)).verdict == verdict


# The second lock: what the roles may do whatever the rules say

OUT_OF_REACH: list[LiteralString] = [
    "CREATE TABLE shop.mine (a int)",
    "CREATE TEMP TABLE mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "DROP TABLE shop.staff",
    "TRUNCATE shop.orders",
    "ALTER TABLE shop.orders ADD COLUMN x int",
    "CREATE POLICY mine ON shop.orders",
    "SELECT setval('shop.orders_id_seq', 1)",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SET session_replication_role = replica",
    "COPY shop.staff TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/hostname')",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM shop.late",
    "DELETE FROM standfast.ledger",
    "UPDATE standfast.ledger SET target = 'x'",
    "TRUNCATE standfast.ledger",
    "DELETE FROM standfast.ledger_row",
    "UPDATE standfast.ledger_count SET deleted = 0",
    "UPDATE standfast.migration SET number = 9",
    "DROP SCHEMA standfast CASCADE",
    "ALTER TABLE standfast.ledger DISABLE TRIGGER ALL",
    "CREATE TABLE standfast.mine (a int)",
]
LEDGER: list[LiteralString] = ["SELECT * FROM standfast.ledger", "INSERT INTO standfast.ledger DEFAULT VALUES"]
WRITES: list[LiteralString] = [
    "UPDATE shop.orders SET note = 'x' WHERE id = 1001",
    "INSERT INTO shop.support_history (customer_id, text) VALUES (1, 'x')",
    "DELETE FROM shop.support_history WHERE id = 1",
    "SELECT nextval('shop.orders_id_seq')",
]


def refused(url: str, role: Role, statement: LiteralString) -> bool:
    """Tell whether the server refuses the statement to the role for want of rights; nothing is committed."""
    with psycopg.connect(as_role(url, role)) as connection:
        try:
            connection.execute(statement)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
            return True
        except psycopg.errors.NotNullViolation:  # a row without values: the right was there
            return False
        finally:
            connection.rollback()
    return False


@pytest.mark.parametrize("statement", OUT_OF_REACH)
@pytest.mark.parametrize("role", list(Role))
def test_no_role_can_do_more_than_change_rows(shop: str, role: Role, statement: LiteralString) -> None:
    assert refused(shop, role, statement)


@pytest.mark.parametrize("statement", WRITES)
def test_the_reader_cannot_write(shop: str, statement: LiteralString) -> None:
    assert refused(shop, Role.READER, statement)
    assert [refused(shop, role, statement) for role in (Role.REHEARSER, Role.WRITER)] == [False, False]
    with psycopg.connect(as_role(shop, Role.READER)) as connection:  # nor can it lift its own restriction
        connection.execute("SET default_transaction_read_only = off")
        connection.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.parametrize("statement", LEDGER)
def test_the_ledger_is_for_the_writer_alone(shop: str, statement: LiteralString) -> None:
    assert [refused(shop, role, statement) for role in (Role.READER, Role.REHEARSER, Role.WRITER)] == [
        True,
        True,
        False,
    ]


# Constraints and the databases


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("tables: [{name: shop.order}]", "tables.0: no table 'shop.order' in the target's schemas"),
        ("tables: [{name: pg_catalog.pg_class}]", "tables.0: no table 'pg_catalog.pg_class'"),
        (
            "columns: [{table: shop.staff, name: password, class: secret}]",
            "columns.0: table 'shop.staff' has no column",
        ),
        ("columns: [{table: shop.stuff, name: id, class: pii}]", "columns.0: no table 'shop.stuff'"),
        (
            "values: [{table: shop.refunds, column: sum, above: 1}]",
            "values.0: table 'shop.refunds' has no column 'sum'",
        ),
        ("tables: [{name: shop.payments_2026_h1, protected: true}]", "is a partition, name 'shop.payments' instead"),
        ("tables: [{name: billing.*, protected: true}]", "the database has no schema 'billing'"),
        ("columns: [{table: shop.orders, name: place_on, protected: true}]", "columns.0: table 'shop.orders' has no"),
        ("predicates: [{table: shop.order, columns: [id]}]", "predicates.0: no table 'shop.order'"),
        ("predicates: [{table: shop.orders, columns: [id, tenant]}]", "'shop.orders' has no column 'tenant'"),
        ("approvers: [{tables: [shop.pay*, shop.order], who: [a]}]", "approvers.0.tables: 'shop.order' fits no table"),
        ("approvers: [{rules: [value.limits], who: [a]}]", "approvers.0.rules: 'value.limits' fits no rule"),
    ],
)
async def test_constraints_on_what_is_not_there_are_refused_with_their_place(
    shop: str, wrong: str, message: str
) -> None:
    constraints = parse_constraints(f"version: 1\ntarget: shop\nschemas: [shop]\n{wrong}", source="mine.yaml")
    with pytest.raises(InvalidInput) as refusal:
        await judge(shop, "SELECT 1", constraints=constraints)
    assert message in str(refusal.value)


async def test_constraints_have_versions_and_the_newest_holds(database: str) -> None:
    await migrate_control(database, dict.fromkeys(CONTROL_ROLES, PASSWORD))
    async with await open_connection(database) as connection:
        assert await read_latest(connection, "shop", ("shop",)) == default_constraints("shop", ("shop",))
        assert await append(connection, SHOP, created_by="ana") == 1
        assert await append(connection, CROOKED_CONSTRAINTS, created_by="ben", note="more") == 2
        assert await append(connection, default_constraints("crm", ("public",)), created_by="ben") == 1
        assert await read_latest(connection, "shop", ("shop",)) == CROOKED_CONSTRAINTS


async def test_every_change_of_constraints_is_on_the_audit_chain_with_who_and_what(database: str) -> None:
    await migrate_control(database, dict.fromkeys(CONTROL_ROLES, PASSWORD))
    as_control = make_conninfo(database, user=CONTROL_ROLE, password=PASSWORD)
    async with await open_connection(as_control) as connection:
        await append(connection, SHOP, created_by="ana", note="the first")
        await append(connection, CROOKED_CONSTRAINTS, created_by="ben")
        await connection.commit()
        await read_latest(connection, "shop", ("shop",))  # begins a transaction
        await append(connection, SHOP, created_by="eve")
        await connection.rollback()  # and with the version goes its place on the chain
    async with await open_connection(database) as connection:
        assert (await chain.read(connection, [], print)).problems == []
        assert await chain.constraints(connection) == []
        cursor = await connection.execute("SELECT kind, workflow_id, actor, content FROM standfast.audit ORDER BY at")
        rows = await cursor.fetchall()
        assert [(row["kind"], row["workflow_id"], row["actor"]) for row in rows] == [
            ("constraints", "constraints/shop", "ana"),
            ("constraints", "constraints/shop", "ben"),
        ]
        assert [(row["content"]["version"], row["content"]["note"]) for row in rows] == [(1, "the first"), (2, "")]
        cursor = await connection.execute("SELECT document FROM standfast.constraints ORDER BY version")
        documents = [row["document"] for row in await cursor.fetchall()]
        assert [row["content"]["document_digest"] for row in rows] == [digest(document) for document in documents]


async def test_a_target_that_has_constraints_keeps_them_when_it_is_migrated_again(database: str) -> None:
    await migrate_control(database, dict.fromkeys(CONTROL_ROLES, PASSWORD))
    strict = default_constraints("shop", ("shop",))
    async with await open_connection(database) as connection:
        assert await append_first(connection, strict, created_by="standfast migrate")
        assert not await append_first(connection, strict, created_by="standfast migrate")
        await append(connection, SHOP, created_by="ana")
        assert not await append_first(connection, strict, created_by="standfast migrate")
        assert await read_latest(connection, "shop", ("shop",)) == SHOP
        assert [(v.version, v.created_by) for v in await versions(connection)] == [(2, "ana"), (1, "standfast migrate")]


async def test_rows_that_no_plan_waits_for_are_forgotten_without_reading_all_others(database: str) -> None:
    await migrate_control(database, dict.fromkeys(CONTROL_ROLES, PASSWORD))
    async with await open_connection(database) as connection:

        async def seen(query: LiteralString) -> object:
            row = await (await connection.execute(query)).fetchone()
            return row and row["seen"]

        await connection.execute(
            "INSERT INTO standfast.touched_row SELECT 'shop', sha256(n::text::bytea), 'ticket/shop/' || n,"
            " now() + CASE n WHEN 1 THEN interval '-1 day' ELSE interval '1 day' END FROM generate_series(1, 10000) n"
        )
        await connection.execute("ANALYZE standfast.touched_row")
        reads: LiteralString = "SELECT seq_scan AS seen FROM pg_stat_xact_user_tables WHERE relname = 'touched_row'"
        before = await seen(reads)
        await forget_rows(connection, "ticket/shop/2")
        assert await seen(reads) == before
        assert await seen("SELECT count(*) AS seen FROM standfast.touched_row") == 9998


# ---------------------------------------------------------------------------------------------------------------------
# What constraints can say, measured


def with_more(constraints: str) -> Constraints:
    """Return the crooked shop's constraints with some more."""
    more = parse_constraints(f"version: 1\ntarget: shop\n{dedent(constraints)}", source="test")
    update = {name: getattr(more, name) for name in more.model_fields_set - {"version", "target", "tables"}}
    kept = [table for table in CROOKED_CONSTRAINTS.tables if table.name not in {t.name for t in more.tables}]
    return CROOKED_CONSTRAINTS.model_copy(update=update | {"tables": (*kept, *more.tables)})


ARRIVE = """
CREATE FUNCTION shop.arrive() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN {body} END $$;
CREATE TRIGGER arrive BEFORE UPDATE ON shop.addresses FOR EACH ROW EXECUTE FUNCTION shop.arrive();
"""
MOVE = "UPDATE addresses SET street = 'x' WHERE id = 7"
AUTOMATIC_ADDRESSES = "tables: [{name: shop.addresses, writes: auto}]"


@pytest.mark.parametrize(
    ("body", "constraints", "rule", "verdict"),
    [
        ("RETURN NEW;", AUTOMATIC_ADDRESSES, None, Verdict.AUTO),
        (
            "NEW.city = 'y'; RETURN NEW;",
            f"{AUTOMATIC_ADDRESSES}\ncolumns: [{{table: shop.addresses, name: city, protected: true}}]",
            "column.protected",
            Verdict.BLOCK,
        ),
        (
            "INSERT INTO billing.invoices VALUES (1); RETURN NEW;",
            "tables: [{name: shop.addresses, writes: auto}, {name: billing.*, protected: true}]",
            "table.writes",
            Verdict.BLOCK,
        ),
        (
            "DELETE FROM shop.support_history WHERE id = 1; RETURN NEW;",
            "tables: [{name: shop.addresses, writes: auto}, {name: shop.support_history, block: [delete]}]",
            "table.kind",
            Verdict.BLOCK,
        ),
        (
            "UPDATE shop.orders SET total = total + 40 WHERE id = 1042; RETURN NEW;",
            f"{AUTOMATIC_ADDRESSES}\nvalues: [{{table: shop.orders, column: total, change_above: 39, verdict: block}}]",
            "value.limit",
            Verdict.BLOCK,
        ),
        (
            "UPDATE shop.orders SET note = 'x' WHERE id IN (1042, 1043); RETURN NEW;",
            "tables: [{name: shop.addresses, writes: auto}, {name: shop.orders, approval_rows_per_operation: 1}]",
            "rows.limit",
            Verdict.BLOCK,
        ),
    ],
)
async def test_what_a_trigger_does_is_held_to_the_constraints_as_a_statement_is(
    shop: str, body: str, constraints: str, rule: str | None, verdict: Verdict
) -> None:
    with psycopg.connect(shop) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS billing")
        connection.execute("CREATE TABLE IF NOT EXISTS billing.invoices (id integer PRIMARY KEY)")
        connection.execute(ARRIVE.format(body=body).encode())
    try:
        operation = await judge_one(shop, MOVE, constraints=with_more(constraints))
        assert operation.verdict is verdict
        assert rule is None or rule in rules(operation, verdict)
    finally:
        with psycopg.connect(shop) as connection:
            connection.execute("DROP FUNCTION shop.arrive CASCADE")


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        ("UPDATE orders SET note = 'x' WHERE id = 1042 AND customer_id = $1", Verdict.AUTO),
        ("UPDATE orders SET note = 'x' WHERE id = 1042 OR customer_id = $1", Verdict.BLOCK),
        ("UPDATE orders o SET note = 'x' FROM orders WHERE o.id = 1042 AND orders.customer_id = $1", Verdict.BLOCK),
        ("UPDATE orders SET note = 'x' WHERE id = 1042 AND customer_id = (SELECT $1::integer)", Verdict.BLOCK),
    ],
)
async def test_a_write_names_its_tenant_or_is_blocked(shop: str, statement: str, verdict: Verdict) -> None:
    constraints = with_more("predicates: [{table: shop.orders, columns: [customer_id]}]")
    with psycopg.connect(shop) as connection:
        ((customer,),) = connection.execute("SELECT customer_id FROM shop.orders WHERE id = 1042").fetchall()
    operation = await judge_one(shop, statement, customer, constraints=constraints)
    found = [finding for finding in operation.findings if finding.rule == "predicate.required"]
    assert operation.verdict is verdict or found == []
    assert [(finding.verdict, finding.mendable) for finding in found] == (
        [(Verdict.BLOCK, True)] if verdict is Verdict.BLOCK else []
    )


async def test_a_report_says_who_may_approve_it(shop: str) -> None:
    constraints = with_more(
        """
        approvers:
          - {who: ["*@example.com"]}
          - {tables: [shop.order_items], who: [lea@example.com]}
          - {rules: [rows.elsewhere], who: ["*@dba.example.com", lea@example.com]}
          - {tables: [shop.staff], who: [nobody]}
          - {rules: [freeze], who: [nobody]}
        """
    )
    report = await judge(shop, "DELETE FROM orders WHERE id = 1042", constraints=constraints)
    assert report.verdict is Verdict.APPROVAL
    assert report.approver_scopes == (
        ("*@example.com",),
        ("lea@example.com",),
        ("*@dba.example.com", "lea@example.com"),
    )
    assert (await judge(shop, "SELECT note FROM orders", constraints=SHOP)).approver_scopes == ()
