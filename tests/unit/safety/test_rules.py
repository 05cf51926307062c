"""Each rule with an example that it lets pass and one that it doesn't, without a database."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from standfast.plan import Operation
from standfast.report import Finding, RowChange, RowCounts
from standfast.safety.constraints import Constraints, parse_constraints
from standfast.safety.effect import OperationEffect
from standfast.safety.parsing import Name, parse_statement
from standfast.safety.resolution import Function, Relation, Resolution
from standfast.safety.rules import RULES, Case

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
    columns:
      - {table: public.orders, name: email, class: pii}
      - {table: public.orders, name: total, class: money}
      - {table: public.staff, name: hash, class: secret}
    values: [{table: public.orders, column: discount, above: 10, verdict: block}]
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
    fields: dict[str, Any] = {"root": full_name, "keys": frozenset({"id"})} | more
    return Relation(schema=schema, full_name=full_name, kind=kind, columns=types, **fields)


RELATIONS = {
    Name(None, relation.full_name.rpartition(".")[2]): relation
    for relation in (
        table("orders", "email", "total", "note", "discount", "order_id"),
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


ONE = {"public.orders": RowCounts(updated=1)}
UPDATE = "UPDATE orders SET note = 'x' WHERE id = 1"
EXAMPLES = [
    Example("statement.kind", UPDATE, None),
    Example("statement.kind", "DELETE FROM orders WHERE id = 1", "approval"),
    Example("statement.kind", "WITH d AS (DELETE FROM orders WHERE id = 1 RETURNING id) SELECT id FROM d", "approval"),
    Example("statement.kind", "DELETE FROM carts WHERE id = 1", None),
    Example("statement.kind", "WITH d AS (DELETE FROM carts WHERE id = 1) DELETE FROM orders WHERE id = 1", "approval"),
    Example("statement.kind", "EXPLAIN SELECT 1", "block"),
    Example("statement.kind", "DO ''", "block"),
    Example("statement.kind", "COMMIT", "block"),
    Example("statement.kind", "MERGE INTO orders USING carts c ON orders.id = c.id WHEN MATCHED THEN DELETE", "block"),
    Example("statement.where", UPDATE, None),
    Example("statement.where", "UPDATE orders SET note = 'x'", "block"),
    Example("statement.where", "WITH d AS (DELETE FROM carts) SELECT 1", "block"),
    Example("statement.where", "UPDATE orders SET note = 'x' WHERE 1 = 1", "approval"),
    Example("object.known", UPDATE, None),
    Example("object.known", "SELECT note FROM nothing", "block"),
    Example("object.known", "SELECT relname FROM pg_class", "block"),
    Example("object.known", "WITH nothing AS (SELECT 1) SELECT * FROM nothing", None),
    Example("object.known", "SELECT o.to_jsonb FROM orders o", "block"),
    Example("object.known", "SELECT o.ctid, o.note FROM orders o", None),
    Example("object.known", "UPDATE names SET name = 'x' WHERE id = 1", "approval"),
    Example("object.known", "UPDATE remote SET tags = NULL WHERE id = 1", "block"),
    Example("table.writes", UPDATE, None),
    Example("table.writes", "UPDATE orders_2026 SET note = 'x' WHERE id = 1", None),
    Example("table.writes", "INSERT INTO staff (id) VALUES (1)", "block"),
    Example("table.writes", UPDATE, "block", {**ONE, "public.staff": RowCounts(deleted=1)}),
    Example("table.writes", UPDATE, "approval", {**ONE, "public.unlisted": RowCounts(inserted=1)}),
    Example("table.writes", UPDATE, None, {**ONE, "public.log": RowCounts(inserted=1)}),
    Example("table.writes", UPDATE, "block", {**ONE, "standfast.ledger": RowCounts(inserted=1)}),
    Example("rows.elsewhere", UPDATE, None, ONE),
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
    Example("rows.limit", UPDATE, None, {"public.orders": RowCounts(updated=2)}),
    Example("rows.limit", UPDATE, "approval", {"public.orders": RowCounts(updated=3)}),
    Example("rows.limit", UPDATE, "approval", {**ONE, "public.carts": RowCounts(inserted=1, deleted=1)}),
    Example("rows.limit", UPDATE, None, {**ONE, "public.log": RowCounts(inserted=50)}),
    Example("rows.limit", UPDATE, "approval", {"public.orders": RowCounts(updated=10)}),
    Example("rows.limit", UPDATE, "block", {"public.orders": RowCounts(updated=11)}),
    Example("rows.expected", UPDATE, None, ONE, expect_rows=1),
    Example("rows.expected", UPDATE, "block", ONE, expect_rows=2),
    Example("rows.expected", UPDATE, None, {**ONE, "public.carts": RowCounts(deleted=4)}, expect_rows=1),
    Example("rows.expected", UPDATE, None, {}, expect_rows=0),
    Example("rows.expected", UPDATE, "auto", {}),
    Example("rows.expected", "SELECT note FROM orders", None),
    Example("rows.expected", "ALTER TABLE orders ADD COLUMN a integer", None),
    Example("rows.unmeasured", UPDATE, None, ONE),
    Example("rows.unmeasured", UPDATE, "approval", ONE, effect={"unmeasured": ("public.orders",)}),
    Example("rows.unmeasured", UPDATE, "block", effect={"locked": ("public.orders",)}),
    Example("rows.unmeasured", "ALTER TABLE orders ADD COLUMN a integer", None, effect={"locked": ("public.orders",)}),
    Example(
        "rows.unmeasured", "ALTER TABLE carts ADD COLUMN a integer", "block", effect={"locked": ("public.orders",)}
    ),
    Example("rows.unstable", "SELECT note FROM orders WHERE id < 5 LIMIT 1", None),
    Example("rows.unstable", "DELETE FROM carts WHERE id IN (SELECT id FROM carts LIMIT 1)", "approval"),
    Example("rows.unstable", "SELECT note FROM orders FOR SHARE", "approval"),
    Example("rows.unstable", "UPDATE orders SET note = now() WHERE id = 1", None),
    Example("rows.unstable", "UPDATE orders SET note = 'x' WHERE note < now()", "approval"),
    Example("rows.unstable", "SELECT note FROM orders WHERE note < now()", None),
    Example("rows.unstable", "DELETE FROM carts WHERE id < $1", "approval", params=("yesterday",)),
    Example("rows.unstable", "DELETE FROM carts WHERE id < $1", "approval", params=(" TODAY 10:00 UTC",)),
    Example("rows.unstable", "DELETE FROM carts WHERE id < $1", None, params=("called today about it",)),
    Example("column.sensitive", "SELECT note FROM orders", None),
    Example("column.sensitive", "SELECT total FROM orders", None),
    Example("column.sensitive", "SELECT email FROM orders", "approval"),
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
    Example("column.sensitive", "UPDATE orders_2026 SET total = 1 WHERE id = 1", "approval"),
    Example("column.sensitive", "INSERT INTO orders VALUES (1)", "approval"),
    Example("column.sensitive", UPDATE, "approval", ONE, rows=(updated("public.orders", total=1),)),
    Example("column.sensitive", UPDATE, None, ONE, rows=(updated("public.orders", note="x"),)),
    Example("key.changed", UPDATE, None),
    Example("key.changed", "UPDATE orders SET id = 2 WHERE id = 1", "approval"),
    Example("key.changed", "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 3", "approval"),
    Example("document.replaced", "UPDATE orders SET extra = extra || '{}' WHERE id = 1", None),
    Example("document.replaced", "UPDATE orders SET extra = '{}' WHERE id = 1", "approval"),
    Example("document.replaced", "UPDATE orders SET tags = '{}' WHERE id = 1 AND tags IS NULL", "approval"),
    Example("document.replaced", "INSERT INTO orders (extra) VALUES ('{}')", None),
    Example("value.limit", UPDATE, None, ONE, rows=(updated("public.orders", discount=10),)),
    Example("value.limit", UPDATE, "block", ONE, rows=(updated("public.orders", discount="10.000000000000000001"),)),
    Example("value.limit", UPDATE, "block", ONE, rows=(updated("public.orders", discount="NaN"),)),
    Example("value.limit", UPDATE, None, ONE, rows=(updated("public.orders", discount=None),)),
    Example("value.limit", UPDATE, None, ONE, rows=(updated("public.carts", discount=99),)),
    Example("function", "SELECT upper(note), now(), gen_random_uuid() FROM orders", None),
    Example("function", "SELECT lower(note) FROM orders", "approval"),
    Example("function", "SELECT safe(note) FROM orders", None),
    Example("function", "SELECT own(note) FROM orders", "approval"),
    Example("function", "SELECT evil(note) FROM orders", "block"),
    Example("function", "SELECT round(1)", "approval"),
    Example("function", "SELECT random_normal()", "approval"),
    Example("function", "SELECT random()", None),
    Example("function", "SELECT nothing()", "block"),
    Example("function", "SELECT pg_sleep(1)", "block"),
    Example("function", "SELECT nextval('a')", "block"),
    Example("function", "SELECT query_to_xml('a', true, true, '')", "block"),
    Example("function", "SELECT ts_rewrite('a', 'b')", "block"),
    Example("function", "SELECT current_setting('a')", "block"),
    Example("function", "SELECT id = 1 FROM orders", None),
    Example("function", "SELECT id === 1 FROM orders", "approval"),
    Example("function", "SELECT (o).note FROM orders o", None),
    Example("function", "SELECT (o).own FROM orders o", "approval"),
    Example("function", "ALTER TABLE orders ADD COLUMN a uuid DEFAULT gen_random_uuid()", "block"),
    Example("function", "ALTER TABLE orders ADD COLUMN a timestamptz DEFAULT now()", None),
    Example("freeze", UPDATE, None),
    Example("freeze", UPDATE, "approval", now=datetime(2026, 12, 24, tzinfo=UTC)),
    Example("freeze", UPDATE, None, now=datetime(2026, 12, 27, tzinfo=UTC)),
    Example("freeze", "SELECT note FROM orders", None, now=datetime(2026, 12, 25, tzinfo=UTC)),
]


def findings(example: Example, constraints: Constraints = CONSTRAINTS) -> list[Finding]:
    rule = next(rule for rule in RULES if rule.id == example.rule)
    case = Case(
        operation=Operation(sql=example.sql, params=example.params, expect_rows=example.expect_rows),
        statement=parse_statement(example.sql),
        resolution=RESOLUTION,
        constraints=constraints,
        now=example.now,
    )
    effect = OperationEffect(rows=example.rows, counts=example.counts, **example.effect)
    return [*rule.before(case), *rule.after(case, effect)]


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{n} {e.rule} {e.verdict}" for n, e in enumerate(EXAMPLES)])
def test_the_rule_finds_what_it_should_and_nothing_else(example: Example) -> None:
    found = findings(example)
    order = ["auto", "approval", "block"]
    assert max((f.verdict.value for f in found), key=order.index, default=None) == example.verdict
    assert {f.rule for f in found} <= {example.rule}


def test_every_rule_has_an_example_of_either_kind() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert {e.rule for e in EXAMPLES if e.verdict is None} == set(ids)
    assert {e.rule for e in EXAMPLES if e.verdict in ("approval", "block")} == set(ids)
