"""What rules find beyond their own examples, without a database; and what holds for all of them."""

import inspect
import re
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from standfast.plan import Operation
from standfast.report import Finding, RowChange, RowCounts, Verdict
from standfast.safety import rules
from standfast.safety.constraints import Constraints, parse_constraints
from standfast.safety.effect import OperationEffect
from standfast.safety.grammar.parsing import parse_statement
from standfast.safety.grammar.statement import Name
from standfast.safety.resolution import Function, Relation, Resolution, Trigger
from standfast.safety.rules import RULES, Case
from standfast.ticket import Ticket

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONSTRAINTS = parse_constraints(
    """
    version: 1
    target: shop
    limits: {auto_rows_per_operation: 2, approval_rows_per_operation: 10}
    statements: {auto: [select, insert, update], approval: [delete, add_column]}
    tables:
      - {name: public.orders, writes: auto}
      - {name: public.carts, writes: auto, auto: [delete]}
      - {name: public.log, protected: true, trigger_writes: allowed}
      - {name: public.staff, protected: true}
      - {name: public.history, writes: auto, approval: [insert, select, explain], block: [update, delete]}
      - {name: public.bulk, writes: auto, auto_rows_per_operation: 4, approval_rows_per_operation: 8}
      - {name: billing.*, protected: true}
    columns:
      - {table: public.orders, name: email, class: pii}
      - {table: public.orders, name: total, class: money}
      - {table: public.staff, name: hash, class: secret}
      - {table: public.orders, name: placed_at, protected: true}
    values:
      - {table: public.orders, column: discount, above: 10, verdict: block}
      - {table: public.bulk, column: amount, below: 0, change_above: 5}
    predicates: [{table: public.tenants, columns: [tenant_id, region]}]
    windows:
      - {days: [fri], from: "11:00", to: "13:00"}
      - {days: [thu], from: "01:00", to: "04:00", verdict: block}
    conditions:
      - {labels: [vip]}
      - {requesters: ["*@example.org"], verdict: block}
    functions:
      auto: [public.safe, pg_catalog.random, pg_catalog.pg_sleep]
      approval: [pg_catalog.lower]
      block: [public.evil]
    freezes: [{from: 2026-12-24, to: 2026-12-27, reason: holidays}]
    """,
    source="test",
)


def table(name: str, *columns: str, kind: str = "r", schema: str = "public", **more: Any) -> Relation:
    types = dict.fromkeys(("id", *columns), "integer") | {"extra": "jsonb", "tags": "text[]"}
    full_name = f"{schema}.{name}"
    key = frozenset() if kind == "v" else frozenset({"id"})
    fields: dict[str, Any] = {"root": full_name, "keys": frozenset({"id"}), "primary": key} | more
    return Relation(schema=schema, full_name=full_name, kind=kind, columns=types, **fields)


RELATIONS = {
    Name(None, relation.full_name.rpartition(".")[2]): relation
    for relation in (
        table("orders", "email", "total", "note", "discount", "order_id", "placed_at"),
        table("history", "note"),
        table("bulk", "amount"),
        table("tenants", "tenant_id", "region", "note"),
        table("tenants_a", "tenant_id", "region", "note", root="public.tenants"),
        table("tenant_notes", "tenant_id", "region", "note", kind="v", behind={"public.tenants": frozenset({"note"})}),
        table("past", "note", kind="v", behind={"public.history": frozenset({"note"})}),
        table("placed", "at", kind="v", behind={"public.orders": frozenset({"placed_at"})}),
        table("orders_2026", "email", "total", "note", root="public.orders"),
        table("carts"),
        table("log"),
        table("staff", "hash"),
        table("hashes", "h", kind="v", behind={"public.staff": frozenset({"hash"})}),
        table("people", "card", kind="v", behind={"public.staff": None}),
        table("names", "name", kind="v", behind={"public.orders": frozenset({"note"})}),
        table("remote", kind="f"),
        table("pg_class", schema="pg_catalog"),
    )
}
FUNCTIONS = {
    Name(None, name): tuple(Function(schema=schema, volatility=volatility) for schema in schemas)
    for name, volatility, *schemas in (
        ("lower", "i", "pg_catalog"),
        ("upper", "i", "pg_catalog"),
        ("now", "s", "pg_catalog"),
        ("gen_random_uuid", "v", "pg_catalog"),
        ("random", "v", "pg_catalog"),
        ("random_normal", "v", "pg_catalog"),
        ("pg_sleep", "v", "pg_catalog"),
        ("nextval", "v", "pg_catalog"),
        ("query_to_xml", "s", "pg_catalog"),
        ("ts_rewrite", "s", "pg_catalog"),
        ("current_setting", "s", "pg_catalog"),
        ("round", "i", "pg_catalog", "public"),
        ("safe", "v", "public"),
        ("evil", "i", "public"),
        ("own", "i", "public"),
    )
}
RESOLUTION = Resolution(relations=RELATIONS, functions=FUNCTIONS, own_operators=frozenset({Name(None, "===")}))


def updated(table_name: str, *, via: str = "statement", **after: Any) -> RowChange:
    return RowChange(table=table_name, key={"id": 1}, before=dict.fromkeys(after), after=after, via=via)


def changed(table_name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> RowChange:
    return RowChange(table=table_name, key={"id": 1}, before=before, after=after, via="trigger")


def ticket(**changes: Any) -> Ticket:
    fields: dict[str, Any] = {"id": "T-1", "body": "please", "requester": "ana@example.com", "target": "shop"}
    return Ticket(**(fields | changes))


@dataclass(frozen=True)
class Example:
    rule: str
    sql: str
    verdict: str | None
    """The worst finding of the rule; None for no finding at all."""
    counts: dict[str, RowCounts] = field(default_factory=dict)
    rows: tuple[RowChange, ...] = ()
    effect: dict[str, Any] = field(default_factory=dict)
    expect_rows: int | None = None
    now: datetime = NOW
    params: tuple[Any, ...] = ()
    ticket: Ticket | None = None
    takes_back: bool = False


ONE = {"public.orders": RowCounts(updated=1)}
UPDATE = "UPDATE orders SET note = 'x' WHERE id = 1"
EXAMPLES = [
    Example("statement.kind", UPDATE, None),
    Example("statement.kind", "WITH d AS (DELETE FROM carts WHERE id = 1) DELETE FROM orders WHERE id = 1", "approval"),
    Example("statement.kind", "EXPLAIN SELECT 1", "block"),
    Example("statement.kind", "DO ''", "block"),
    Example("statement.kind", "MERGE INTO orders USING carts c ON orders.id = c.id WHEN MATCHED THEN DELETE", "block"),
    Example("statement.where", "UPDATE orders SET note = 'x' WHERE 1 = 1", "approval"),
    Example("statement.where", "UPDATE orders SET note = 'x' WHERE note ILIKE '%%'", "approval"),
    Example("statement.where", "UPDATE orders SET note = 'x' WHERE note NOT LIKE '%'", None),
    Example("statement.where", "UPDATE orders SET note = 'x' WHERE note LIKE 'a%'", None),
    Example("object.known", "SELECT relname FROM pg_class", "block"),
    Example("object.known", "WITH nothing AS (SELECT 1) SELECT * FROM nothing", None),
    Example("object.known", "SELECT o.ctid, o.note FROM orders o", None),
    Example("object.known", "UPDATE remote SET tags = NULL WHERE id = 1", "block"),
    Example("table.writes", "UPDATE orders_2026 SET note = 'x' WHERE id = 1", None),
    Example("table.writes", UPDATE, "block", {**ONE, "public.staff": RowCounts(deleted=1)}),
    Example("table.writes", UPDATE, "approval", {**ONE, "public.unlisted": RowCounts(inserted=1)}),
    Example("table.writes", UPDATE, None, {**ONE, "public.log": RowCounts(inserted=1)}),
    Example("table.writes", UPDATE, "block", {**ONE, "standfast.ledger": RowCounts(inserted=1)}),
    Example("rows.elsewhere", UPDATE, "approval", {**ONE, "public.carts": RowCounts(deleted=1)}),
    Example("rows.elsewhere", UPDATE, None, {**ONE, "public.log": RowCounts(inserted=3)}),
    Example("rows.elsewhere", UPDATE, "approval", {**ONE, "public.log": RowCounts(deleted=1)}),
    Example(
        "rows.elsewhere",
        UPDATE,
        "approval",
        {**ONE, "public.log": RowCounts(updated=1)},
        rows=(updated("public.log", via="cascade", order_id=None),),
    ),
    Example("rows.limit", UPDATE, "approval", {**ONE, "public.carts": RowCounts(inserted=1, deleted=1)}),
    Example("rows.limit", UPDATE, None, {**ONE, "public.log": RowCounts(inserted=50)}),
    Example("rows.limit", UPDATE, "approval", {"public.orders": RowCounts(updated=10)}),
    Example("rows.limit", UPDATE, "block", {"public.orders": RowCounts(updated=11)}),
    Example("rows.expected", UPDATE, None, {**ONE, "public.carts": RowCounts(deleted=4)}, expect_rows=1),
    Example("rows.expected", UPDATE, None, {}, expect_rows=0),
    Example("rows.expected", "SELECT note FROM orders", None),
    Example("rows.expected", "ALTER TABLE orders ADD COLUMN a integer", None),
    Example("rows.unmeasured", "ALTER TABLE orders ADD COLUMN a integer", None, effect={"locked": ("public.orders",)}),
    Example(
        "rows.unmeasured", "ALTER TABLE carts ADD COLUMN a integer", "block", effect={"locked": ("public.orders",)}
    ),
    Example("rows.unstable", "SELECT note FROM orders WHERE id < 5 LIMIT 1", None),
    Example("rows.unstable", "DELETE FROM carts WHERE id = (SELECT id FROM carts ORDER BY extra LIMIT 1)", "approval"),
    Example(
        "rows.unstable", "DELETE FROM carts WHERE id = (SELECT max(id) FROM carts ORDER BY 1 OFFSET 1)", "approval"
    ),
    Example(
        "rows.unstable", "DELETE FROM carts WHERE id = (SELECT id FROM staff, carts ORDER BY id LIMIT 1)", "approval"
    ),
    Example("rows.unstable", "DELETE FROM carts WHERE id = (SELECT id FROM hashes ORDER BY id LIMIT 1)", "approval"),
    Example(
        "rows.unstable",
        "WITH carts AS (SELECT 1 AS id) DELETE FROM orders WHERE id = (SELECT id FROM carts ORDER BY id LIMIT 1)",
        "approval",
    ),
    Example("rows.unstable", "DELETE FROM carts WHERE id = (SELECT id FROM carts c ORDER BY c.id DESC LIMIT 1)", None),
    Example("rows.unstable", "DELETE FROM carts WHERE id IN (SELECT DISTINCT ON (extra) id FROM carts)", "approval"),
    Example("rows.unstable", "DELETE FROM carts WHERE id IN (SELECT DISTINCT id FROM carts)", None),
    Example("rows.unstable", "DELETE FROM carts WHERE id IN (SELECT row_number() OVER () FROM carts)", "approval"),
    Example("rows.unstable", "SELECT note FROM orders FOR SHARE", "approval"),
    Example("rows.unstable", "UPDATE orders SET note = 'x' WHERE note < now()", "approval"),
    Example("rows.unstable", "SELECT note FROM orders WHERE note < now()", None),
    Example("rows.unstable", "DELETE FROM carts WHERE id < $1", "approval", params=(" TODAY 10:00 UTC",)),
    Example("rows.unstable", "DELETE FROM carts WHERE id < $1", None, params=("called today about it",)),
    Example("column.sensitive", "SELECT total FROM orders", None),
    Example("column.sensitive", "SELECT count(*) FROM orders", None),
    Example("column.sensitive", "SELECT id FROM staff", None),
    Example("column.sensitive", "SELECT hash FROM staff", "block"),
    Example("column.sensitive", "SELECT * FROM staff", "block"),
    Example("column.sensitive", "SELECT s FROM staff s", "block"),
    Example("column.sensitive", "SELECT o.* FROM orders o JOIN staff s ON s.id = o.id", "approval"),
    Example("column.sensitive", "SELECT c.*, c.hash FROM carts c JOIN staff s ON s.id = c.id", None),
    Example("column.sensitive", "SELECT h FROM hashes", "block"),
    Example("column.sensitive", "SELECT card FROM people", "block"),
    Example("column.sensitive", "SELECT name FROM names", None),
    Example("column.sensitive", "UPDATE staff SET hash = 'x' WHERE id = 1", "approval"),
    Example("column.sensitive", "UPDATE staff SET id = 2 WHERE id = 1 RETURNING hash", "approval"),
    Example("column.sensitive", "UPDATE staff s SET id = 2 FROM staff t WHERE s.id = 1 RETURNING t.hash", "block"),
    Example("column.sensitive", "UPDATE carts SET id = 1 WHERE id = 2 RETURNING (SELECT hash FROM staff)", "block"),
    Example("column.sensitive", "UPDATE orders SET total = 1 WHERE id = 1", "approval"),
    Example("column.sensitive", "INSERT INTO orders VALUES (1)", "approval"),
    Example("column.sensitive", UPDATE, "approval", ONE, rows=(updated("public.orders", total=1),)),
    Example("column.sensitive", UPDATE, None, ONE, rows=(updated("public.orders", note="x"),)),
    Example("key.changed", "UPDATE orders SET id = 2 WHERE id = 1", "approval"),
    Example("key.changed", "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 3", "approval"),
    Example("document.replaced", "UPDATE orders SET tags = '{}' WHERE id = 1 AND tags IS NULL", "approval"),
    Example("document.replaced", "INSERT INTO orders (extra) VALUES ('{}')", None),
    Example("value.limit", UPDATE, None, ONE, rows=(updated("public.orders", discount=10),)),
    Example("value.limit", UPDATE, "block", ONE, rows=(updated("public.orders", discount="10.000000000000000001"),)),
    Example("value.limit", UPDATE, "block", ONE, rows=(updated("public.orders", discount="NaN"),)),
    Example("value.limit", UPDATE, None, ONE, rows=(updated("public.orders", discount=None),)),
    Example("value.limit", UPDATE, None, ONE, rows=(updated("public.carts", discount=99),)),
    Example("function", "SELECT upper(note), now(), gen_random_uuid() FROM orders", None),
    Example("function", "SELECT lower(note) FROM orders", "approval"),
    Example("function", "SELECT evil(note) FROM orders", "block"),
    Example("function", "SELECT round(1)", "approval"),
    Example("function", "SELECT random_normal()", "approval"),
    Example("function", "SELECT random()", None),
    Example("function", "SELECT nothing()", "block"),
    Example("function", "SELECT pg_sleep(1)", "block"),
    Example("function", "SELECT ts_rewrite('a', 'b')", "block"),
    Example("function", "SELECT current_setting('a')", "block"),
    Example("function", "SELECT id = 1 FROM orders", None),
    Example("function", "SELECT id === 1 FROM orders", "approval"),
    Example("function", "SELECT (o).note FROM orders o", None),
    Example("function", "SELECT (o).own FROM orders o", "approval"),
    Example("function", "ALTER TABLE orders ADD COLUMN a timestamptz DEFAULT now()", None),
    Example("rows.limit", UPDATE, None, {"public.bulk": RowCounts(updated=4), "public.orders": RowCounts(updated=2)}),
    Example("rows.limit", UPDATE, "approval", {"public.bulk": RowCounts(updated=5)}),
    Example(
        "rows.limit", UPDATE, "approval", {"public.bulk": RowCounts(updated=4), "public.carts": RowCounts(updated=3)}
    ),
    Example("rows.limit", UPDATE, "block", {"public.bulk": RowCounts(updated=9)}),
    Example("rows.limit", UPDATE, "block", {"public.bulk": RowCounts(updated=8), "public.carts": RowCounts(updated=3)}),
    Example("table.writes", UPDATE, "block", {**ONE, "billing.invoices": RowCounts(inserted=1)}),
    Example("value.limit", UPDATE, None, rows=(updated("public.bulk", amount=0),)),
    Example("value.limit", UPDATE, "approval", rows=(updated("public.bulk", amount=-0.01),)),
    Example("value.limit", UPDATE, None, rows=(changed("public.bulk", {"amount": 95}, {"amount": 100}),)),
    Example("value.limit", UPDATE, "approval", rows=(changed("public.bulk", {"amount": 95}, {"amount": 100.01}),)),
    Example("value.limit", UPDATE, "approval", rows=(changed("public.bulk", {"amount": 100}, {"amount": 94}),)),
    Example("value.limit", UPDATE, "approval", rows=(changed("public.bulk", {"amount": 100}, {"amount": None}),)),
    Example("value.limit", UPDATE, "approval", rows=(changed("public.bulk", {"amount": "NaN"}, {"amount": 1}),)),
    Example("value.limit", UPDATE, "approval", rows=(changed("public.bulk", None, {"amount": 6}),)),
    Example("value.limit", UPDATE, None, rows=(changed("public.bulk", None, {"amount": 5}),)),
    Example("value.limit", UPDATE, "approval", rows=(changed("public.bulk", {"amount": 6}, None),)),
    Example("value.limit", UPDATE, None, rows=(changed("public.bulk", {"id": 60}, {"id": 1}),)),
    Example("column.protected", UPDATE, None, ONE, rows=(updated("public.orders", note="x"),)),
    Example("column.protected", "UPDATE orders SET placed_at = 1 WHERE id = 1", "block"),
    Example("column.protected", "UPDATE orders_2026 SET placed_at = placed_at WHERE id = 1", "block"),
    Example("column.protected", "INSERT INTO orders (id, note) VALUES (1, 'x')", None),
    Example("column.protected", "INSERT INTO orders (id, placed_at) VALUES (1, 2)", "block"),
    Example("column.protected", "INSERT INTO orders VALUES (1)", "block"),
    Example("column.protected", "INSERT INTO placed (at) VALUES (1)", "block"),
    Example("column.protected", "DELETE FROM orders WHERE id = 1", None),
    Example("column.protected", "SELECT placed_at FROM orders", None),
    Example("column.protected", UPDATE, "block", ONE, rows=(updated("public.orders", placed_at=1),)),
    Example("column.protected", UPDATE, None, rows=(changed("public.orders", None, {"placed_at": 1}),)),
    Example("column.protected", UPDATE, None, rows=(changed("public.orders", {"placed_at": 1}, None),)),
    Example("column.sensitive", "UPDATE orders SET placed_at = 1 WHERE id = 1 RETURNING placed_at", None),
    Example("table.kind", UPDATE, None, ONE),
    Example("table.kind", "INSERT INTO history (note) VALUES ('x')", "approval"),
    Example("table.kind", "UPDATE history SET note = 'x' WHERE id = 1", "block"),
    Example("table.kind", "UPDATE past SET note = 'x' WHERE id = 1", "block"),
    Example("table.kind", "INSERT INTO history (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET note = 'x'", "block"),
    Example("table.kind", "MERGE INTO history h USING carts c ON h.id = c.id WHEN MATCHED THEN DELETE", "block"),
    Example("table.kind", "WITH d AS (DELETE FROM history WHERE id = 1) SELECT 1", "block"),
    Example("table.kind", "SELECT note FROM history", "approval"),
    Example("table.kind", "SELECT note FROM past", "approval"),
    Example("table.kind", "EXPLAIN SELECT note FROM history", "approval"),
    Example("table.kind", "UPDATE orders SET note = 'x' WHERE id IN (SELECT id FROM history)", "approval"),
    Example("table.kind", UPDATE, "block", {**ONE, "public.history": RowCounts(deleted=1)}),
    Example("table.kind", UPDATE, "approval", {**ONE, "public.history": RowCounts(inserted=1)}),
    Example("predicate.required", UPDATE, None),
    Example("predicate.required", "UPDATE tenants SET note = 'x' WHERE id = 1", "block"),
    Example("predicate.required", "UPDATE tenants SET note = 'x' WHERE tenant_id = 1", "block"),
    Example(
        "predicate.required", "UPDATE tenants SET note = 'x' WHERE id = 1 AND tenant_id = 2 AND region = 'eu'", None
    ),
    Example(
        "predicate.required", "DELETE FROM tenants_a t WHERE $1 = t.tenant_id AND (t.region = 'eu' AND id = 1)", None
    ),
    Example("predicate.required", "DELETE FROM tenants WHERE tenant_id = 1 AND region = 'eu' OR id = 1", "block"),
    Example("predicate.required", "UPDATE tenant_notes SET note = 'x' WHERE tenant_id = 1 AND region = 'eu'", "block"),
    Example("predicate.required", "INSERT INTO tenants (tenant_id, region) VALUES (1, $1)", None),
    Example("predicate.required", "INSERT INTO tenants (tenant_id) VALUES (1)", "block"),
    Example("predicate.required", "INSERT INTO tenants VALUES (1, 1, 1)", "block"),
    Example("predicate.required", "SELECT note FROM tenants", None),
    Example("predicate.required", "DELETE FROM tenants WHERE id = 1", None, takes_back=True),
    Example("column.protected", "INSERT INTO orders VALUES (1)", None, takes_back=True),
    Example(
        "column.protected",
        UPDATE,
        "block",
        rows=(updated("public.orders", placed_at=1),),
        takes_back=True,
    ),
    Example("window", UPDATE, None),
    Example("window", UPDATE, "block", now=datetime(2026, 11, 20, 13, tzinfo=UTC)),
    Example("window", UPDATE, None, now=datetime(2026, 11, 26, 3, 59, tzinfo=UTC)),
    Example("window", "SELECT note FROM orders", None, now=datetime(2026, 11, 20, 13, tzinfo=UTC)),
    Example("window", "SELECT safe(note) FROM orders", "block", ONE, now=datetime(2026, 11, 20, 13, tzinfo=UTC)),
    Example("ticket.condition", UPDATE, None),
    Example("ticket.condition", UPDATE, None, ticket=ticket()),
    Example("ticket.condition", UPDATE, "approval", ticket=ticket(labels=("VIP",))),
    Example("ticket.condition", "SELECT note FROM orders", "approval", ticket=ticket(labels=("a", "vip"))),
    Example("ticket.condition", UPDATE, "block", ticket=ticket(requester="ben@example.org", labels=("vip",))),
    Example("freeze", UPDATE, None),
    Example("column.copied", "UPDATE orders SET note = email WHERE id = 1", "block"),
    Example("column.copied", "UPDATE orders SET note = upper(o.email::text) FROM orders o WHERE o.id = 1", "block"),
    Example("column.copied", "UPDATE orders SET note = 'x' WHERE email = 'a'", None),
    Example("column.copied", "UPDATE orders SET discount = length(email) WHERE id = 1", None),
    Example("column.copied", "UPDATE orders SET note = CASE WHEN email = 'a' THEN note END WHERE id = 1", None),
    Example("column.copied", "UPDATE orders SET note = CASE WHEN id = 1 THEN email END WHERE id = 1", "block"),
    Example("column.copied", "UPDATE orders SET note = (SELECT note FROM orders WHERE email = 'a') WHERE id = 1", None),
    Example("column.copied", "UPDATE orders SET (email, note) = (email, note) WHERE id = 1", None),
    Example("column.copied", "UPDATE orders SET (note, email) = (email, note) WHERE id = 1", "block"),
    Example("column.copied", "UPDATE orders SET (email, note) = (SELECT email, note FROM orders) WHERE id = 1", None),
    Example("column.copied", "UPDATE orders SET (note, id) = (SELECT email, id FROM orders) WHERE id = 1", "block"),
    Example("column.copied", "INSERT INTO carts SELECT id, email FROM orders", "block"),
    Example("column.copied", "INSERT INTO carts SELECT * FROM orders", "block"),
    Example("column.copied", "INSERT INTO orders SELECT * FROM orders", None),
    Example("column.copied", "INSERT INTO orders (id, email) SELECT id, email FROM orders", None),
    Example(
        "column.copied",
        "INSERT INTO carts (id, tags) SELECT 1, tags FROM carts UNION SELECT 2, email FROM orders",
        "block",
    ),
    Example("column.copied", "INSERT INTO carts (extra) VALUES ((SELECT to_jsonb(o) FROM orders o))", "block"),
    Example(
        "column.copied",
        "INSERT INTO orders (email) VALUES ('a') ON CONFLICT (id) DO UPDATE SET note = excluded.email",
        "block",
    ),
    Example(
        "column.copied",
        "MERGE INTO carts c USING orders o ON o.id = c.id WHEN MATCHED THEN UPDATE SET tags = ARRAY[o.email]",
        "block",
    ),
    Example(
        "column.copied",
        "MERGE INTO carts c USING orders o ON true WHEN NOT MATCHED THEN INSERT (id, tags) VALUES (o.id, o.email)",
        "block",
    ),
    Example("column.copied", "WITH x AS (INSERT INTO carts (tags) SELECT email FROM orders) SELECT 1", "block"),
    Example("column.outer", "DELETE FROM orders WHERE id IN (SELECT order_id FROM carts)", "approval"),
    Example(
        "column.outer", "DELETE FROM orders WHERE id = ANY (SELECT order_id FROM carts JOIN staff ON true)", "approval"
    ),
    Example("column.outer", "UPDATE orders SET note = (SELECT discount FROM carts LIMIT 1) WHERE id = 1", "approval"),
    Example("column.outer", "DELETE FROM orders WHERE id IN (SELECT carts.id FROM carts)", None),
    Example("column.outer", "DELETE FROM orders o WHERE EXISTS (SELECT order_id FROM carts)", None),
    Example("column.outer", "DELETE FROM orders o WHERE id IN (SELECT o.order_id FROM carts)", None),
    Example("column.outer", "DELETE FROM orders WHERE id IN (SELECT i FROM (SELECT 1 AS i) s)", None),
    Example("column.outer", "DELETE FROM orders WHERE id IN (SELECT i FROM carts AS c (i))", None),
    Example("column.outer", "DELETE FROM orders WHERE ctid IN (SELECT ctid FROM carts)", None),
    Example("column.outer", "SELECT note FROM orders WHERE id IN (SELECT order_id FROM carts)", None),
    Example(
        "column.outer",
        "WITH carts AS (SELECT 1 AS order_id) DELETE FROM orders WHERE id IN (SELECT order_id FROM carts)",
        None,
    ),
    Example("join.missing", "DELETE FROM carts USING orders o WHERE o.id = 1", "approval"),
    Example("join.missing", "DELETE FROM carts USING orders o WHERE carts.id = o.id", None),
    Example("join.missing", "DELETE FROM carts USING orders WHERE extra = note AND order_id = 1", None),
    Example("join.missing", "UPDATE orders SET note = 'x' FROM orders p WHERE p.id = 1", "approval"),
    Example("join.missing", "UPDATE orders o SET note = 'x' FROM orders p WHERE o.note = p.note", None),
    Example(
        "join.missing", "UPDATE orders o SET note = 'x' FROM carts c WHERE o.note = 'a' OR o.discount = c.id", None
    ),
    Example("join.missing", "UPDATE orders SET note = n FROM (VALUES (1, 'x')) v (i, n) WHERE orders.id = v.i", None),
    Example("join.missing", "WITH d AS (DELETE FROM carts USING orders o WHERE o.id = 1) SELECT 1", "approval"),
    Example("insert.columns", "INSERT INTO carts DEFAULT VALUES", None),
    Example("insert.columns", "INSERT INTO carts SELECT id FROM orders", "auto"),
    Example("object.lookalike", "SELECT note AS \"not\u0435\" FROM orders WHERE note = '\u0435'", None),
    Example("object.lookalike", "UPDATE orders o\u00a0 SET note = 'x' WHERE id = 1", "auto"),
    Example("statement.comment", "UPDATE orders SET note = '/* \u00e9 */' /* \u00e9 */ WHERE id = 1", "auto"),
    Example("freeze", UPDATE, "approval", now=datetime(2026, 12, 24, tzinfo=UTC)),
    Example("freeze", UPDATE, None, now=datetime(2026, 12, 27, tzinfo=UTC)),
]


def findings(
    example: Example, constraints: Constraints = CONSTRAINTS, resolution: Resolution = RESOLUTION
) -> list[Finding]:
    rule = next(rule for rule in RULES if rule.id == example.rule)
    case = Case(
        operation=Operation(sql=example.sql, params=example.params, expect_rows=example.expect_rows),
        statement=parse_statement(example.sql),
        resolution=resolution,
        constraints=constraints,
        now=example.now,
        ticket=example.ticket,
        takes_back=example.takes_back,
    )
    effect = OperationEffect(rows=example.rows, counts=example.counts, **example.effect)
    return [*rule.before(case), *rule.after(case, effect)]


def worst(found: list[Finding]) -> str | None:
    return Verdict.worst(finding.verdict for finding in found) if found else None


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{n} {e.rule} {e.verdict}" for n, e in enumerate(EXAMPLES)])
def test_the_rule_finds_what_it_should_and_nothing_else(example: Example) -> None:
    found = findings(example)
    assert worst(found) == example.verdict
    assert {f.rule for f in found} <= {example.rule}


WITHOUT_EXAMPLES = {"undo.asked", "undo.moved", "plan.time"}  # tested with the undo and with slow triggers


def test_every_rule_says_what_it_is_for_and_shows_it() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in RULES:
        assert isinstance(rule.verdict, Verdict)
        assert re.fullmatch(r"[a-z]+(\.[a-z]+)?", rule.id)
        assert rule.rationale.endswith(".")
        if rule.id not in WITHOUT_EXAMPLES:
            assert {example.finds is None for example in rule.examples} == {True, False}, rule.id
        assert all(example.why for example in rule.examples)


def test_rules_are_found_by_their_files_alone() -> None:
    folder = Path(rules.__file__).parent
    made_by = {Path(inspect.getfile(type(rule))).name for rule in RULES}
    assert made_by == {file.name for file in folder.glob("*.py")} - {"__init__.py", "case.py"}


@pytest.mark.parametrize(
    ("source", "trusted", "verdict"),
    [
        ("INSERT INTO log VALUES (NEW.id)", True, None),
        ("INSERT INTO log VALUES ('please notify them')", True, None),
        ("INSERT INTO log VALUES (NEW.id)", False, "block"),
        ("PERFORM dblink_exec('a', 'b')", True, "block"),
        ("PERFORM ext.HTTP_POST('a')", True, "block"),
        ("COPY log TO\n PROGRAM 'mail'", True, "block"),
        ("PERFORM pg_notify('a', 'b')", True, "approval"),
        ("NOTIFY orders;", True, "approval"),
        ("PERFORM net.http_post('a')", True, "approval"),  # pg_net sends after COMMIT
    ],
)
def test_a_trigger_that_reaches_out_of_the_transaction_is_found(
    source: str, trusted: bool, verdict: str | None
) -> None:
    trigger = Trigger(function="public.t", events=frozenset({"update"}), source=source, trusted=trusted)
    resolution = replace(RESOLUTION, triggers={"public.orders": (trigger,)})
    assert worst(findings(Example("trigger.outside", UPDATE, verdict), resolution=resolution)) == verdict
    deleting = Example("trigger.outside", "DELETE FROM orders WHERE id = 1", None)
    assert findings(deleting, resolution=resolution) == []


DDL = "CREATE INDEX ON orders (note)"


def test_a_missing_squawk_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # no installed package is found any more
    (finding,) = findings(Example("squawk", DDL, None))
    assert (finding.rule, finding.verdict) == ("squawk", "approval")
    assert "squawk-cli" in finding.message


def test_squawk_is_not_asked_about_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert findings(Example("squawk", UPDATE, None)) == []


def test_squawk_heeds_no_configuration_of_the_folder_it_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".squawk.toml").write_text('excluded_rules = ["require-concurrent-index-creation"]')
    monkeypatch.chdir(tmp_path)
    assert "squawk.require-concurrent-index-creation" in {f.rule for f in findings(Example("squawk", DDL, None))}
