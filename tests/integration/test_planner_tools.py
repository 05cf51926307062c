"""The agent's tools read what the reader may read, a little at a time, and explain what they can't do."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage

from standfast.context import Column
from standfast.domain import MASK
from standfast.errors import UnknownTarget
from standfast.planner.tools import MAX_BYTES, MAX_ROWS, DatabaseTools, ToolDeps
from standfast.settings import Settings
from standfast.store.databases import Databases
from tests.integration.installation import prepare

SCHEMA = """
CREATE TYPE shop.mood AS ENUM ('calm', 'angry');
CREATE TABLE shop.customers (
    id integer PRIMARY KEY, name text NOT NULL, tax_id text, mood shop.mood DEFAULT 'calm', vip boolean, since date
);
COMMENT ON TABLE shop.customers IS 'Who buys.';
INSERT INTO shop.customers VALUES
    (1, 'Ana', 'DE-1', 'calm', true, '2020-01-31'), (2, 'Ben 100%', NULL, 'angry', false, NULL);
CREATE TABLE shop.history (
    id bigint PRIMARY KEY, customer_id integer REFERENCES shop.customers, body text, answer varchar(5000)
);
INSERT INTO shop.history
    SELECT n, 1, 'Parcel ' || n || ' was late', repeat('x', 4000) FROM generate_series(1, 200) n;
INSERT INTO shop.history VALUES (9007199254740993);
CREATE TABLE shop."Odd ""name" (id integer PRIMARY KEY, "a b" text);
INSERT INTO shop."Odd ""name" VALUES (1, 'found');
CREATE VIEW shop.slow AS SELECT g AS id, pg_sleep(1)::text AS note FROM generate_series(1, 60) g;
GRANT SELECT ON shop.history, shop."Odd ""name", shop.slow TO standfast_shop_reader;
GRANT SELECT (id, name, mood, vip, since) ON shop.customers TO standfast_shop_reader;
"""
CONTEXT = RunContext(deps=ToolDeps(target="shop"), model=TestModel(), usage=RunUsage())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: str, temporal_server: str) -> Settings:
    settings, owner = await prepare(postgres, temporal_server, f"tools_{uuid4().hex[:8]}")
    with psycopg.connect(owner) as connection:
        connection.execute(SCHEMA.encode())
    return settings


@pytest_asyncio.fixture
async def tools(shop: Settings) -> AsyncIterator[DatabaseTools]:
    async with Databases(shop, application="standfast-test") as databases:
        yield DatabaseTools(databases)


async def test_a_table_is_described_as_the_catalog_has_it(tools: DatabaseTools) -> None:
    table = await tools.describe_table(CONTEXT, "history")

    assert (table.name, table.primary_key) == ("shop.history", ("id",))
    assert table.columns == (
        Column(name="id", type="bigint", nullable=False),
        Column(name="customer_id", type="integer", nullable=True, references="shop.customers.id"),
        Column(name="body", type="text", nullable=True),
        Column(name="answer", type="character varying(5000)", nullable=True),
    )


async def test_columns_that_the_reader_may_not_read_do_not_exist_for_the_model(tools: DatabaseTools) -> None:
    table = await tools.describe_table(CONTEXT, "shop.customers")

    assert table.comment == "Who buys."
    assert [column.name for column in table.columns] == ["id", "name", "mood", "vip", "since"]
    assert table.columns[2].values == ("calm", "angry")
    with pytest.raises(ModelRetry, match="has no column 'tax_id'; it has: id, name, mood, vip, since"):
        await tools.look_up_rows(CONTEXT, "customers", {"tax_id": "DE-1"})
    assert (await tools.search_rows(CONTEXT, "customers", "DE-1")).rows == ()


@pytest.mark.parametrize(
    ("equals", "ids"),
    [
        ({"id": 1}, [1]),
        ({"id": "1"}, [1]),
        ({"mood": "angry"}, [2]),
        ({"vip": True}, [1]),
        ({"since": "2020-01-31"}, [1]),
        ({"since": None}, [2]),
        ({"name": "Ana", "vip": False}, []),
        ({}, [1, 2]),
    ],
)
async def test_rows_are_looked_up_by_values_of_any_type(
    tools: DatabaseTools, equals: dict[str, Any], ids: list[int]
) -> None:
    found = await tools.look_up_rows(CONTEXT, "customers", equals)

    assert sorted(row["id"] for row in found.rows) == ids  # type: ignore[type-var]
    assert not found.more


async def test_a_search_looks_into_all_texts_and_takes_them_literally(tools: DatabaseTools) -> None:
    assert [row["id"] for row in (await tools.search_rows(CONTEXT, "history", "PARCEL 77 WAS")).rows] == [77]
    assert [row["id"] for row in (await tools.search_rows(CONTEXT, "customers", "100%")).rows] == [2]
    assert (await tools.search_rows(CONTEXT, "customers", "%")).rows[0]["name"] == "Ben 100%"


async def test_numbers_that_json_would_round_come_as_text(tools: DatabaseTools) -> None:
    found = await tools.look_up_rows(CONTEXT, "history", {"id": 9007199254740993})

    assert found.rows[0]["id"] == "9007199254740993"


async def test_names_are_quoted(tools: DatabaseTools) -> None:
    found = await tools.look_up_rows(CONTEXT, 'Odd "name', {"a b": "found"})

    assert found.rows == ({"id": 1, "a b": "found"},)


async def test_an_answer_is_bounded_in_rows_and_bytes(tools: DatabaseTools) -> None:
    found = await tools.look_up_rows(CONTEXT, "history", {"customer_id": 1})

    assert found.more
    assert 0 < len(found.rows) <= MAX_ROWS
    assert len(found.model_dump_json()) < MAX_BYTES + 100
    assert str(found.rows[0]["answer"]).endswith("x... (4000 characters)")


@pytest.mark.parametrize(
    ("table", "equals", "words"),
    [
        ("orderz", {}, "there is no table 'orderz'; there are: shop.Odd"),
        ("pg_catalog.pg_authid", {}, "there is no table"),
        ("orders; DROP TABLE shop.orders", {}, "there is no table"),
        ("customers", {"id; --": 1}, "has no column 'id; --'"),
        ("customers", {"id": "one"}, "the database refused: invalid input syntax for type integer"),
        ("customers", {"mood": "gone"}, "the database refused: invalid input value for enum"),
        ("customers", {"name": "\x00"}, "the database refused"),
    ],
)
async def test_what_is_wrong_goes_back_to_the_model_in_words(
    tools: DatabaseTools, table: str, equals: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelRetry) as caught:
        await tools.look_up_rows(CONTEXT, table, equals)

    assert words in str(caught.value)


async def test_a_search_that_takes_too_long_is_cut_off(tools: DatabaseTools) -> None:
    with pytest.raises(ModelRetry, match="took too long"):
        await tools.search_rows(CONTEXT, "slow", "needle")


async def test_an_empty_search_finds_no_table_whole(tools: DatabaseTools) -> None:
    with pytest.raises(ModelRetry, match="text is empty"):
        await tools.search_rows(CONTEXT, "history", " ")


async def test_a_table_without_texts_says_so(tools: DatabaseTools) -> None:
    with pytest.raises(ModelRetry, match="no text columns; use look_up_rows"):
        await tools.search_rows(CONTEXT, "refunds", "x")


async def test_an_unknown_target_is_no_mistake_of_the_model(tools: DatabaseTools) -> None:
    elsewhere = RunContext(deps=ToolDeps(target="crm"), model=TestModel(), usage=RunUsage())
    with pytest.raises(UnknownTarget):
        await tools.describe_table(elsewhere, "orders")


MASKING = RunContext(
    deps=ToolDeps(target="shop", masked=("shop.customers.name", "shop.customers.since")),
    model=TestModel(),
    usage=RunUsage(),
)


async def test_masked_values_find_rows_and_are_not_shown(tools: DatabaseTools) -> None:
    (row,) = (await tools.look_up_rows(MASKING, "customers", {"name": "Ana"})).rows
    assert row == {"id": 1, "name": MASK, "mood": "calm", "vip": True, "since": MASK}
    (row,) = (await tools.look_up_rows(MASKING, "customers", {"id": 2})).rows
    assert (row["name"], row["since"]) == (MASK, None)


async def test_a_search_does_not_tell_masked_values_letter_by_letter(tools: DatabaseTools) -> None:
    with pytest.raises(ModelRetry, match=r"shop\.customers has no text columns"):
        await tools.search_rows(MASKING, "customers", "An")
