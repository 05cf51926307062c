"""Context retrieval: what the database knows about a ticket, bounded, in one snapshot, and no SQL of the ticket's."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from standfast.context import Context, Rows
from standfast.domain import MASK
from standfast.errors import NotPermitted
from standfast.retrieval.activity import Retrieval
from standfast.retrieval.rows import MAX_BYTES, MAX_ROWS, MAX_TEXT
from standfast.safety.constraints import parse_constraints
from standfast.safety.versions import append
from standfast.settings import Control, Settings, Target
from standfast.store.connections import open_connection
from standfast.store.databases import Databases
from standfast.store.migrate import migrate_control
from standfast.ticket import Ticket

SCHEMA = """
CREATE SCHEMA shop;
CREATE TYPE shop.status AS ENUM ('open', 'paid', 'refunded');
CREATE TABLE shop.countries (code text PRIMARY KEY);
CREATE TABLE shop.customers (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE,
    country text REFERENCES shop.countries,
    notes text
);
COMMENT ON TABLE shop.customers IS 'Who buys';
COMMENT ON COLUMN shop.customers.email IS 'In lower case';
CREATE TABLE shop.orders (
    id bigint PRIMARY KEY,
    customer_id int NOT NULL REFERENCES shop.customers,
    status shop.status NOT NULL DEFAULT 'open',
    placed_at timestamptz NOT NULL
);
CREATE TABLE shop.products (id int PRIMARY KEY, sku text NOT NULL UNIQUE);
CREATE TABLE shop.order_items (
    order_id bigint REFERENCES shop.orders,
    line int,
    product_id int REFERENCES shop.products,
    price numeric(10,2),
    PRIMARY KEY (order_id, line)
);
CREATE TABLE shop.complaints (
    id int PRIMARY KEY, order_id bigint, line int, FOREIGN KEY (order_id, line) REFERENCES shop.order_items
);
CREATE TABLE shop.events (customer_id int REFERENCES shop.customers, at date, what jsonb) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW shop.open_orders AS SELECT id FROM shop.orders WHERE status = 'open';

INSERT INTO shop.countries VALUES ('PT');
INSERT INTO shop.customers (email, country, notes)
SELECT 'customer' || n || '@example.com', 'PT', CASE n WHEN 2 THEN repeat('long ', 10000) END
FROM generate_series(1, 30) n;
INSERT INTO shop.orders SELECT 1000 + n, 1 + n % 30, 'paid', timestamptz '2026-01-01 00:00Z' + n * interval '1 day'
FROM generate_series(1, 60) n;
INSERT INTO shop.orders SELECT 9000 + n, 5, 'paid', timestamptz '2026-06-01 00:00Z' + n * interval '1 hour'
FROM generate_series(1, 50) n;
INSERT INTO shop.products VALUES (1, 'AB-1'), (2, 'AB-2');
INSERT INTO shop.order_items SELECT id, line, line, 9.50 FROM shop.orders, generate_series(1, 2) line;
INSERT INTO shop.complaints VALUES (1, 1042, 2);
INSERT INTO shop.events SELECT 13, date '2026-02-01' + n, '{"n": 1}' FROM generate_series(1, 3) n;
"""


@pytest.fixture
async def retrieval(database: str) -> AsyncIterator[Retrieval]:
    with psycopg.connect(database) as connection:
        connection.execute(SCHEMA.encode())
    async with Databases(await settings_for(database, reader=database), application="standfast-test") as databases:
        yield Retrieval(databases)


async def settings_for(database: str, *, reader: str) -> Settings:
    """Let one database be the target, and the control database, too."""
    await migrate_control(database)
    target = Target(reader=SecretStr(reader), schemas=("shop",))
    return Settings(targets={"shop": target}, control=Control(url=SecretStr(database)))


async def gather(
    retrieval: Retrieval, body: str = "please help", subject: Mapping[str, Any] | None = None, **fields: Any
) -> Context:
    known = {"id": "T-1", "requester": "support@example.com", "target": "shop"}
    return await retrieval.read(Ticket.model_validate(known | {"body": body, "subject": subject or {}} | fields))


def rows(context: Context, table: str) -> list[dict[str, Any]]:
    return [row for fact in context.facts if fact.table == table for row in fact.rows]


def fact(context: Context, table: str) -> Rows:
    (found,) = [fact for fact in context.facts if fact.table == table]
    return found


async def test_the_schema_is_described(retrieval: Retrieval) -> None:
    tables = {table.name: table for table in (await gather(retrieval)).tables}
    assert list(tables) == sorted(tables)
    assert "shop.events_2026" not in tables  # a partition is its table
    assert "shop.open_orders" in tables
    assert tables["shop.customers"].comment == "Who buys"
    assert tables["shop.order_items"].primary_key == ("order_id", "line")
    columns = {column.name: column for column in tables["shop.orders"].columns}
    assert columns["status"].values == ("open", "paid", "refunded")
    assert columns["status"].default == "'open'::status"
    assert columns["customer_id"].references == "shop.customers.id"
    assert columns["placed_at"].type == "timestamp with time zone"
    customer = {column.name: column for column in tables["shop.customers"].columns}
    assert (customer["email"].nullable, customer["notes"].nullable) == (False, True)
    assert customer["email"].comment == "In lower case"
    assert customer["id"].default == "GENERATED ALWAYS AS IDENTITY"


async def test_the_row_of_the_subject_and_its_surroundings_are_read(retrieval: Retrieval) -> None:
    context = await gather(retrieval, subject={"order_id": 1042})
    assert context.facts[0].table == "shop.orders"
    assert context.facts[0].rows[0]["id"] == 1042
    assert [row["id"] for row in rows(context, "shop.customers")] == [13]  # up
    assert [row["line"] for row in rows(context, "shop.order_items")] == [2, 1]  # down, newest first
    assert [row["sku"] for row in rows(context, "shop.products")] == ["AB-2", "AB-1"]  # down, then up
    assert [row["id"] for row in rows(context, "shop.complaints")] == [1]  # down twice, by a key of two columns
    assert {row["id"] for row in rows(context, "shop.orders")} == {1042, 1012}  # the customer's history
    assert [row["at"] for row in rows(context, "shop.events")] == ["2026-02-04", "2026-02-03", "2026-02-02"]
    assert rows(context, "shop.countries") == [{"code": "PT"}]


async def test_each_row_is_read_once_and_says_by_which_query(retrieval: Retrieval, database: str) -> None:
    context = await gather(retrieval, "order 1042 of customer13@example.com", {"order_id": 1042, "customer_id": 13})
    seen = [(f.table, repr(row)) for f in context.facts for row in f.rows]
    assert len(seen) == len(set(seen))
    with psycopg.connect(database) as connection:
        answer = connection.execute(context.facts[0].query.encode()).fetchall()
    assert answer[0][0] == 1042


async def test_the_same_ticket_gets_the_same_context(retrieval: Retrieval) -> None:
    first = await gather(retrieval, subject={"customer_id": 5})
    again = await gather(retrieval, subject={"customer_id": 5})
    assert again.model_dump(exclude={"retrieved_at"}) == first.model_dump(exclude={"retrieved_at"})


@pytest.mark.parametrize(
    ("body", "subject", "table", "key"),
    [
        ("", {"orders.id": 1042}, "shop.orders", 1042),
        ("", {"shop.orders.id": "1042"}, "shop.orders", 1042),
        ("", {"order": 1042}, "shop.orders", 1042),
        ("", {"order_ids": [1042]}, "shop.orders", 1042),
        ("", {"country_code": "PT"}, "shop.countries", "PT"),
        ("", {"country": "PT"}, "shop.countries", "PT"),
        ("", {"customer_email": "customer7@example.com"}, "shop.customers", 7),
        ("", {"sku": "AB-2"}, "shop.products", 2),
        ("Please refund order 1042.", {}, "shop.orders", 1042),
        ("Order #1042: refund", {}, "shop.orders", 1042),
        ("ORDER NO. 1042", {}, "shop.orders", 1042),
        ("the order number is wrong for order id: 1042", {}, "shop.orders", 1042),
        ("I am Customer7@Example.com", {}, "shop.customers", 7),
        ("complaint 1", {}, "shop.complaints", 1),
    ],
)
async def test_a_ticket_may_name_a_row_in_many_ways(
    retrieval: Retrieval, body: str, subject: dict[str, Any], table: str, key: object
) -> None:
    context = await gather(retrieval, body, subject)
    first = context.facts[0]
    assert first.table == table
    assert key in first.rows[0].values()


async def test_several_rows_may_be_named(retrieval: Retrieval) -> None:
    context = await gather(retrieval, "merge customers 3, 4 and 5")
    assert [f.rows[0]["id"] for f in context.facts[:3]] == [3, 4, 5]


async def test_the_requester_may_be_the_customer(retrieval: Retrieval) -> None:
    context = await gather(retrieval, requester="customer9@example.com")
    assert [row["id"] for row in rows(context, "shop.customers")] == [9]


@pytest.mark.parametrize(
    ("body", "subject"),
    [
        ("just a question", {}),
        ("order 77 and customer nobody@example.com", {"order_id": 77}),
        ("", {"order_id": None, "nothing": 1, "order": True, "customer_id": {"a": 1}}),
        ("", {"order_id": 10**30}),
        ("", {"order_id": "abc", "customers.country": "Atlantis"}),
        ("", {"order_id": "a\x00b"}),
    ],
)
async def test_what_is_not_found_is_no_error(retrieval: Retrieval, body: str, subject: dict[str, Any]) -> None:
    if "order_id" in subject and subject["order_id"] == 10**30:
        subject = {"order_id": str(10**30)}  # the ticket itself takes no larger numbers
    assert (await gather(retrieval, body, subject)).facts == ()


@pytest.mark.parametrize(
    "hostile",
    [
        "1042; DROP TABLE shop.complaints",
        "1042' OR '1'='1",
        "1042) OR (1=1",
        '1042"; DELETE FROM shop.complaints; --',
        "%s",
        "{}",
        "$1",
        "E'\\''",
    ],
)
async def test_a_hostile_subject_never_becomes_sql(retrieval: Retrieval, database: str, hostile: str) -> None:
    subject = {"order_id": hostile, "customers.email": hostile, hostile: 1042, f"orders.{hostile}": 1, "sku": hostile}
    context = await gather(retrieval, hostile, subject)
    assert context.facts == ()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM shop.complaints").fetchone() == (1,)


async def test_many_rows_are_cut_and_it_is_said(retrieval: Retrieval) -> None:
    context = await gather(retrieval, subject={"customer_id": 5})
    orders = fact(context, "shop.orders")
    assert (len(orders.rows), orders.truncated) == (MAX_ROWS, True)
    assert [row["id"] for row in orders.rows] == list(range(9050, 9030, -1))


async def test_strangers_who_share_a_parent_are_left_out(retrieval: Retrieval) -> None:
    context = await gather(retrieval, subject={"customer_id": 7})
    assert [row["id"] for row in rows(context, "shop.customers")] == [7]  # not all who live in the same country


async def test_long_values_are_cut_with_a_mark(retrieval: Retrieval) -> None:
    context = await gather(retrieval, subject={"customer_id": 2})
    (customer,) = rows(context, "shop.customers")
    assert customer["notes"].endswith("... (50000 characters)")
    assert len(customer["notes"]) < MAX_TEXT + 30


async def test_a_context_stays_small_however_much_the_ticket_names(retrieval: Retrieval, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE shop.customers SET notes = repeat('x', 100000)")
        connection.execute("ALTER TABLE shop.customers ADD a text DEFAULT repeat('y', 3000), ADD b text, ADD c text")
        connection.execute("UPDATE shop.customers SET b = a, c = a")
        connection.execute(
            "ALTER TABLE shop.orders " + ", ".join(f"ADD x{n} text DEFAULT repeat('z', 3000)" for n in range(9))
        )
    context = await gather(retrieval, "customers " + ", ".join(str(n) for n in range(1, 31)))
    assert sum(len(f.model_dump_json()) for f in context.facts) < MAX_BYTES * 1.2
    assert context.facts[-1].truncated


async def test_large_integers_survive_as_text(retrieval: Retrieval, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO shop.orders VALUES (9007199254740993, 1, 'paid', now())")
    context = await gather(retrieval, subject={"order_id": "9007199254740993"})
    assert context.facts[0].rows[0]["id"] == "9007199254740993"


async def test_columns_out_of_the_readers_reach_are_left_out(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute("CREATE ROLE some_reader LOGIN PASSWORD 'x'")
        connection.execute("GRANT USAGE ON SCHEMA shop TO some_reader")
        connection.execute("GRANT SELECT (id, country) ON shop.customers TO some_reader")
    reader = psycopg.conninfo.make_conninfo(database, user="some_reader", password="x")
    try:
        async with Databases(await settings_for(database, reader=reader), application="standfast-test") as databases:
            context = await gather(Retrieval(databases), "customer7@example.com", {"customer_id": 7})
    finally:
        with psycopg.connect(database) as connection:
            connection.execute("DROP OWNED BY some_reader; DROP ROLE some_reader")
    assert [table.name for table in context.tables] == ["shop.customers"]
    assert rows(context, "shop.customers") == [{"id": 7, "country": "PT"}]


async def test_all_is_read_from_one_snapshot_and_nothing_can_be_written(retrieval: Retrieval, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("""
            CREATE TABLE shop.reads (n int);
            CREATE FUNCTION shop.note() RETURNS text LANGUAGE sql VOLATILE
                AS 'INSERT INTO shop.reads VALUES (1) RETURNING n::text';
            CREATE VIEW shop.trap AS SELECT 1 AS id, shop.note() AS note;
        """)
    context = await gather(retrieval, subject={"trap.id": 1})
    assert rows(context, "shop.trap") == []
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM shop.reads").fetchone() == (0,)


async def test_personal_data_is_used_to_find_rows_and_not_shown(retrieval: Retrieval, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE VIEW shop.addresses AS SELECT id, lower(email) AS address FROM shop.customers")
        connection.execute("UPDATE shop.customers SET country = NULL WHERE id = 8")
    text = """
        version: 1
        target: shop
        schemas: [shop]
        columns:
          - {table: shop.customers, name: email, class: pii}
          - {table: shop.customers, name: country, class: pii}
    """
    async with await open_connection(database, schemas=("standfast",)) as connection:
        await append(connection, parse_constraints(text, source="test"), created_by="test")
    context = await gather(
        retrieval, "I am customer7@example.com", {"addresses.id": 8, "customers.id": 8}, requester="ana@example.com"
    )
    assert rows(context, "shop.customers") == [
        {"id": 8, "email": MASK, "country": None, "notes": None},
        {"id": 7, "email": MASK, "country": MASK, "notes": None},
    ]
    assert rows(context, "shop.addresses") == [{"id": MASK, "address": MASK}]
    assert len(rows(context, "shop.orders")) > 0  # what hangs together with them is found all the same
    assert "customer7@example.com" not in "".join(f.model_dump_json() for f in context.facts)
    assert context.masked == (
        "shop.addresses.address",
        "shop.addresses.id",
        "shop.customers.country",
        "shop.customers.email",
    )


async def test_without_the_control_database_nothing_is_read(database: str) -> None:
    settings = Settings(targets={"shop": Target(reader=SecretStr(database), schemas=("shop",))})
    async with Databases(settings, application="standfast-test") as databases:
        with pytest.raises(NotPermitted, match=r"set control\.url"):
            await gather(Retrieval(databases), "order 1042")
