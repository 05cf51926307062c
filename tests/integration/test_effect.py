"""The measured effect is exact: every row that changes, whatever changed it, before and after."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from standfast.plan import Operation, Plan
from standfast.safety.constraints import Limits
from standfast.safety.effect import Effect
from standfast.safety.measurement import Meter, apply, twin
from standfast.safety.protocol import OperationRefused
from standfast.safety.rehearsal import rehearse
from standfast.store.connections import open_connection

SCHEMA = """
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('calm', 'cross');
CREATE TABLE shop.customers (id int PRIMARY KEY, name text, mood shop.mood DEFAULT 'calm', tags text[], extra jsonb,
                             balance numeric(30,10));
CREATE TABLE shop.audit (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text,
                         at timestamptz DEFAULT clock_timestamp());
CREATE TABLE shop.orders (id int PRIMARY KEY, customer_id int REFERENCES shop.customers ON DELETE CASCADE,
                          total numeric(10,2));
CREATE TABLE shop.items (id int PRIMARY KEY, order_id int REFERENCES shop.orders ON DELETE CASCADE);
CREATE TABLE shop.notes (id int PRIMARY KEY, order_id int REFERENCES shop.orders ON DELETE SET NULL);
CREATE TABLE shop.events (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.events_a PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE shop.events_b PARTITION OF shop.events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE shop.keyless (what text);
CREATE VIEW shop.cross_customers AS SELECT id, name, mood FROM shop.customers WHERE mood = 'cross';
CREATE TABLE shop.big (id bigint PRIMARY KEY, amount numeric);
CREATE TABLE shop.unique_late (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION shop.remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN  -- a subtransaction: its rows carry another transaction id
        INSERT INTO shop.audit (what) VALUES (TG_OP);
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
    RETURN NULL;
END $$;
CREATE TRIGGER remember AFTER UPDATE ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.remember();
CREATE FUNCTION shop.cheer(customer int) RETURNS int LANGUAGE sql AS
    'UPDATE shop.customers SET mood = ''calm'' WHERE id = customer RETURNING id';
INSERT INTO shop.customers (id, name, mood, tags, extra, balance)
SELECT n, 'c' || n, 'cross', '{a}', '{"n": 1}', 0.1 FROM generate_series(1, 5) n;
INSERT INTO shop.orders SELECT n, (n + 1) / 2, n FROM generate_series(1, 10) n;
INSERT INTO shop.items SELECT n, (n + 1) / 2 FROM generate_series(1, 20) n;
INSERT INTO shop.notes SELECT n, n FROM generate_series(1, 10) n;
INSERT INTO shop.events SELECT n, date '2026-01-01' + n FROM generate_series(1, 20) n;
INSERT INTO shop.keyless VALUES ('a'), ('b');
INSERT INTO shop.big VALUES (9007199254740993, 0.1000000000000000055511151231257827);
INSERT INTO shop.unique_late SELECT n, n FROM generate_series(1, 3) n;
"""


@pytest.fixture
def shop(any_database: str) -> str:
    with psycopg.connect(any_database) as connection:
        connection.execute(SCHEMA.encode())
    return any_database


def plan(*statements: str | tuple[str, list[Any]]) -> Plan:
    pairs = [(s, []) if isinstance(s, str) else s for s in statements]
    return Plan(operations=tuple(Operation(sql=text, params=tuple(params)) for text, params in pairs))


@asynccontextmanager
async def twins(url: str) -> AsyncIterator[tuple[Any, Any]]:
    async with (
        await open_connection(url, schemas=("shop",)) as change,
        await open_connection(url, schemas=("shop",)) as observer,
    ):
        try:
            yield change, observer
        finally:
            if not change.closed:
                await change.rollback()


async def effect_of(
    url: str, the_plan: Plan, *, targets: list[frozenset[str]] | None = None, row_limit: int = 100
) -> Effect:
    async with twins(url) as (change, observer), twin(change, observer):
        return await apply(the_plan, await Meter.started(change, observer), row_limit=row_limit, targets=targets)


async def rehearsed(url: str, the_plan: Plan) -> Effect:
    async with twins(url) as (change, observer):
        named = [frozenset[str]()] * len(the_plan.operations)
        return (await rehearse(the_plan, change, observer, limits=Limits(), targets=named)).effect


def counts(effect: Effect, operation: int = 0) -> dict[str, tuple[int, int, int]]:
    return {t: (c.inserted, c.updated, c.deleted) for t, c in effect.operations[operation].counts.items()}


async def test_an_update_shows_the_changed_columns_of_each_row(shop: str) -> None:
    effect = await effect_of(shop, plan(("UPDATE orders SET total = $1 WHERE id = $2", ["19.90", 3])))
    (row,) = effect.operations[0].rows
    assert (row.table, row.key, row.before, row.after) == ("shop.orders", {"id": 3}, {"total": 3.0}, {"total": 19.9})
    assert counts(effect) == {"shop.orders": (0, 1, 0)}


async def test_a_delete_shows_cascades_of_three_levels_and_set_null(shop: str) -> None:
    effect = await effect_of(shop, plan("DELETE FROM customers WHERE id = 1"), targets=[frozenset({"shop.customers"})])
    assert counts(effect) == {
        "shop.customers": (0, 0, 1),
        "shop.orders": (0, 0, 2),
        "shop.items": (0, 0, 4),
        "shop.notes": (0, 2, 0),
    }
    via = {row.table: row.via for row in effect.operations[0].rows}
    assert via == {
        "shop.customers": "statement",
        "shop.orders": "cascade",
        "shop.items": "cascade",
        "shop.notes": "cascade",
    }
    note = next(row for row in effect.operations[0].rows if row.table == "shop.notes")
    assert (note.before, note.after) == ({"order_id": 1}, {"order_id": None})


async def test_a_trigger_in_a_subtransaction_is_seen(shop: str) -> None:
    targets = [frozenset({"shop.customers"})]
    effect = await effect_of(shop, plan("UPDATE customers SET name = 'x' WHERE id = 1"), targets=targets)
    assert counts(effect) == {"shop.customers": (0, 1, 0), "shop.audit": (1, 0, 0)}
    assert {row.table: row.via for row in effect.operations[0].rows}["shop.audit"] == "trigger"


async def test_each_row_says_what_changed_it(shop: str) -> None:
    with psycopg.connect(shop) as owner:
        owner.execute("""
            CREATE TABLE shop.badges (id int PRIMARY KEY, customer_id int REFERENCES shop.customers ON DELETE CASCADE);
            INSERT INTO shop.badges VALUES (1, 1), (2, 2), (3, NULL);
            CREATE FUNCTION shop.tidy() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN DELETE FROM shop.badges WHERE id > 1; RETURN NULL; END $$;
            CREATE TRIGGER tidy AFTER DELETE ON shop.customers FOR EACH STATEMENT EXECUTE FUNCTION shop.tidy();
        """)
    effect = await effect_of(shop, plan("DELETE FROM customers WHERE id = 1"), targets=[frozenset({"shop.customers"})])
    badges = {row.key["id"]: row.via for row in effect.operations[0].rows if row.table == "shop.badges"}
    assert badges == {1: "cascade", 2: "trigger", 3: "trigger"}


async def test_the_effect_names_locks_and_used_up_sequences(shop: str) -> None:
    effect = await effect_of(shop, plan("UPDATE customers SET name = 'x' WHERE id = 1", "SELECT * FROM items"))
    first, second = effect.operations
    assert first.locks == {"shop.customers": "RowExclusiveLock", "shop.audit": "RowExclusiveLock"}
    assert first.sequences == ("shop.audit_id_seq",)
    assert second.sequences == ()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT cheer(1)", {"shop.customers": (0, 1, 0), "shop.audit": (1, 0, 0)}),
        ("UPDATE cross_customers SET name = 'y' WHERE id = 2", {"shop.customers": (0, 1, 0), "shop.audit": (1, 0, 0)}),
        ("WITH gone AS (DELETE FROM items WHERE id < 3 RETURNING id) SELECT * FROM gone", {"shop.items": (0, 0, 2)}),
        ("UPDATE events SET at = '2026-02-10' WHERE id = 1", {"shop.events": (0, 1, 0)}),
        ("UPDATE orders SET total = total WHERE id = 1", {"shop.orders": (0, 1, 0)}),
        ("UPDATE items SET id = 99 WHERE id = 1", {"shop.items": (0, 1, 0)}),
        ("SELECT * FROM orders FOR UPDATE", {}),
        ("UPDATE orders SET total = 1 WHERE id = 12345", {}),
        ("INSERT INTO keyless VALUES ('c')", {"shop.keyless": (1, 0, 0)}),
    ],
)
async def test_counts_are_exact(shop: str, statement: str, expected: dict[str, tuple[int, int, int]]) -> None:
    effect = await effect_of(shop, plan(statement))
    # A row that moves to another partition gets the key of its new place: a deletion and an insertion by key.
    measured = counts(effect)
    if measured == {"shop.events": (1, 0, 1)}:
        measured = {"shop.events": (0, 1, 0)}
    assert measured == expected


async def test_each_operation_has_its_own_share(shop: str) -> None:
    effect = await effect_of(
        shop,
        plan(
            "UPDATE orders SET total = 50 WHERE id = 1",
            "UPDATE orders SET total = total + 1 WHERE id <= 2",
            "DELETE FROM orders WHERE id = 1",
            "INSERT INTO orders VALUES (1, NULL, 7)",
        ),
    )
    shares = [
        [
            (r.key["id"], r.before and r.before.get("total"), r.after and r.after.get("total"))
            for r in operation.rows
            if r.table == "shop.orders"
        ]
        for operation in effect.operations
    ]
    assert shares == [[(1, 1.0, 50.0)], [(1, 50.0, 51.0), (2, 2.0, 3.0)], [(1, 51.0, None)], [(1, None, 7.0)]]


async def test_a_row_inserted_and_deleted_again_leaves_nothing(shop: str) -> None:
    effect = await effect_of(shop, plan("INSERT INTO items VALUES (50, 1)", "DELETE FROM items WHERE id = 50"))
    assert [counts(effect, n) for n in (0, 1)] == [{"shop.items": (1, 0, 0)}, {"shop.items": (0, 0, 1)}]


async def test_what_others_change_meanwhile_is_not_part_of_it(shop: str) -> None:
    async with twins(shop) as (change, observer), twin(change, observer):
        with psycopg.connect(shop) as other:
            other.execute("UPDATE shop.orders SET total = 1000 WHERE id = 5")
            other.execute("SELECT * FROM shop.customers WHERE id = 2 FOR KEY SHARE")
            other.execute("INSERT INTO shop.orders VALUES (77, 1, 1)")
            other.commit()
            meter = await Meter.started(change, observer)
            effect = await apply(plan("UPDATE orders SET total = 1 WHERE id = 6"), meter, row_limit=10)
    assert [row.key for row in effect.operations[0].rows] == [{"id": 6}]


async def test_a_row_that_another_transaction_changed_is_a_serialization_failure(shop: str) -> None:
    async with twins(shop) as (change, observer), twin(change, observer):
        with psycopg.connect(shop) as other:
            other.execute("UPDATE shop.orders SET total = 1000 WHERE id = 5")
        meter = await Meter.started(change, observer)
        with pytest.raises(psycopg.errors.SerializationFailure):
            await apply(plan("UPDATE orders SET total = 1 WHERE id = 5"), meter, row_limit=10)


async def test_the_fingerprint_is_stable_and_moves_with_the_rows(shop: str) -> None:
    the_plan = plan("UPDATE customers SET name = 'x' WHERE id <= 2")
    first, second = await rehearsed(shop, the_plan), await rehearsed(shop, the_plan)
    assert first.fingerprint == second.fingerprint  # although the trigger's audit rows have other ids and times
    with psycopg.connect(shop) as other:
        other.execute("UPDATE shop.orders SET total = 0 WHERE id = 1")
    assert (await rehearsed(shop, the_plan)).fingerprint == first.fingerprint
    with psycopg.connect(shop) as other:
        other.execute("UPDATE shop.customers SET balance = balance + 1 WHERE id = 2")
    assert (await rehearsed(shop, the_plan)).fingerprint != first.fingerprint


async def test_the_fingerprint_moves_with_what_would_be_written(shop: str) -> None:
    the_plan = plan("UPDATE customers SET name = (SELECT total::text FROM orders WHERE id = 1) WHERE id = 2")
    first = await rehearsed(shop, the_plan)
    with psycopg.connect(shop) as other:
        other.execute("UPDATE shop.orders SET total = total + 1 WHERE id = 1")
    assert (await rehearsed(shop, the_plan)).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "statements",
    [
        ("INSERT INTO audit (what) VALUES ('x')", "UPDATE audit SET what = 'y'", "DELETE FROM audit WHERE what = 'y'"),
        ("UPDATE customers SET name = clock_timestamp()::text WHERE id = 2", "DELETE FROM customers WHERE id = 2"),
    ],
)
async def test_what_the_plan_itself_has_written_does_not_move_the_fingerprint(
    shop: str, statements: tuple[str, ...]
) -> None:
    the_plan = plan(*statements)  # later operations meet rows whose keys and times are others each time
    assert (await rehearsed(shop, the_plan)).fingerprint == (await rehearsed(shop, the_plan)).fingerprint


async def test_which_row_a_later_operation_deletes_moves_the_fingerprint(shop: str) -> None:
    update, delete = "UPDATE items SET order_id = 1 WHERE id < 3", "DELETE FROM items WHERE id = $1"
    first, second = [await rehearsed(shop, plan(update, (delete, [number]))) for number in (1, 2)]
    assert first.fingerprint != second.fingerprint


async def test_values_of_clocks_and_sequences_are_known_as_volatile(shop: str) -> None:
    effect = await rehearsed(shop, plan("UPDATE customers SET name = clock_timestamp()::text WHERE id = 2"))
    assert "shop.customers.name" in effect.volatile
    assert "shop.customers.balance" not in effect.volatile


async def test_rows_beyond_the_limit_are_counted_and_said_to_be_missing(shop: str) -> None:
    effect = await effect_of(shop, plan("DELETE FROM items WHERE id > 0"), row_limit=3)
    (operation,) = effect.operations
    assert (len(operation.rows), operation.truncated, counts(effect)) == (3, True, {"shop.items": (0, 0, 20)})


async def test_rows_that_others_only_refer_to_are_not_looked_at(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("standfast.safety.images.MAX_ROWS", 4)  # fewer than there are customers with orders
    effect = await rehearsed(shop, plan("UPDATE customers SET name = 'x' WHERE id = 1"))  # twice in one session
    assert counts(effect)["shop.customers"] == (0, 1, 0)
    assert effect.operations[0].unmeasured == ()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE customers SET name = 'x' WHERE id < 3", (0, 2, 0)),  # one of them is locked by somebody else
        ("WITH a AS (SELECT cheer(1)), b AS (SELECT cheer(1)) SELECT * FROM a, b", (0, 1, 0)),  # the same row twice
    ],
)
async def test_rows_are_found_where_recent_marks_do_not_tell(
    shop: str, statement: str, expected: tuple[int, int, int]
) -> None:
    with psycopg.connect(shop) as other:
        other.execute("SELECT FROM shop.customers WHERE id = 1 FOR KEY SHARE")
        effect = await effect_of(shop, plan(statement))
    assert counts(effect)["shop.customers"] == expected
    assert [row.key["id"] for row in effect.operations[0].rows if row.table == "shop.customers"] == [1, 2][
        : expected[1]
    ]


async def test_a_table_without_a_key_is_counted_only(shop: str) -> None:
    effect = await effect_of(shop, plan("DELETE FROM keyless WHERE what = 'a'"))
    assert (effect.operations[0].unmeasured, effect.operations[0].truncated) == (("shop.keyless",), True)


async def test_no_digit_is_lost(shop: str) -> None:
    effect = await effect_of(shop, plan("DELETE FROM big WHERE amount > 0"))
    assert effect.operations[0].rows[0].before == {
        "id": 9007199254740993,
        "amount": "0.1000000000000000055511151231257827",
    }


SET = {
    "name": "UPDATE customers SET name = $1 WHERE id = 1",
    # The name changes, too, so that the row changes whatever the value is.
    "mood": "UPDATE customers SET mood = $1, name = 'x' WHERE id = 1",
    "tags": "UPDATE customers SET tags = $1, name = 'x' WHERE id = 1",
    "extra": "UPDATE customers SET extra = $1, name = 'x' WHERE id = 1",
    "balance": "UPDATE customers SET balance = $1, name = 'x' WHERE id = 1",
}


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("name", "O'Brien; DROP TABLE orders", "O'Brien; DROP TABLE orders"),
        ("name", None, None),
        ("mood", "calm", "calm"),
        ("tags", ["a,b", 'c"d\\', None, "NULL"], ["a,b", 'c"d\\', None, "NULL"]),
        ("extra", {"deep": [1, {"x": None}]}, {"deep": [1, {"x": None}]}),
        ("extra", [1, 2], [1, 2]),
        ("balance", "12345678901234567890.0123456789", "12345678901234567890.0123456789"),
        ("balance", 7, 7.0),
    ],
)
async def test_parameters_take_the_type_that_the_server_infers(shop: str, column: str, value: Any, stored: Any) -> None:
    effect = await effect_of(shop, plan((SET[column], [value])))
    row = next(row for row in effect.operations[0].rows if row.table == "shop.customers")
    assert row.after is not None
    assert row.after[column] == stored


@pytest.mark.parametrize(
    ("statement", "params", "sqlstate"),
    [
        ("SELECT 1; DELETE FROM orders", [], "42601"),
        ("UPDATE nope SET a = 1", [], "42P01"),
        ("UPDATE orders SET total = $1 WHERE id = 1", ["many"], "22P02"),
        ("UPDATE orders SET total = $1 WHERE id = 1", [{"a": 1}], "22023"),
        ("UPDATE orders SET total = $1 WHERE id = 1", [], "08P01"),
        ("SELECT 1\x00; DELETE FROM orders", [], "22021"),
        ("SELECT '\ud800'", [], "22021"),
        ("INSERT INTO orders VALUES (1, 1, 1)", [], "23505"),
        ("UPDATE unique_late SET place = 1 WHERE id = 2", [], "23505"),
    ],
)
async def test_what_the_server_refuses_is_named(shop: str, statement: str, params: list[Any], sqlstate: str) -> None:
    with pytest.raises(OperationRefused) as refused:
        await effect_of(shop, plan("SELECT 1", (statement, params)))
    assert (refused.value.sqlstate, refused.value.index) == (sqlstate, 1)


async def test_a_copy_ends_the_connection_and_nothing_else(shop: str) -> None:
    with pytest.raises(OperationRefused, match="COPY is not an operation"):
        await effect_of(shop, plan("COPY orders FROM STDIN"))
    with psycopg.connect(shop) as connection:
        assert connection.execute("SELECT count(*) FROM shop.orders").fetchall() == [(10,)]


async def test_measuring_changes_nothing(shop: str) -> None:
    await effect_of(shop, plan("DELETE FROM customers WHERE id > 0"))
    with psycopg.connect(shop) as connection:
        assert connection.execute("SELECT count(*) FROM shop.items").fetchall() == [(20,)]
