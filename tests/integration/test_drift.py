"""Drift: what others do between rehearsal and execution. The plan has the effect that was seen, or none."""

import asyncio

import psycopg
import pytest
from temporalio.exceptions import ApplicationError

from standfast import steps
from standfast.plan import Operation, Plan
from tests.integration.bank import Bank

SCHEMA = """
CREATE TABLE shop.cards (id int PRIMARY KEY, account_id int REFERENCES shop.accounts ON DELETE CASCADE);
CREATE TABLE shop.rates (name text PRIMARY KEY, rate int NOT NULL);
CREATE TABLE shop.notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text DEFAULT 'plain', at timestamptz
    DEFAULT clock_timestamp());
INSERT INTO shop.cards VALUES (1, 4);
INSERT INTO shop.rates VALUES ('usd', 2);
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.cards, shop.rates, shop.notes TO standfast_bank_writer;
GRANT SELECT ON shop.cards, shop.rates, shop.notes TO standfast_bank_observer;
CREATE FUNCTION shop.also() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN INSERT INTO shop.notes (text) VALUES (NEW.owner); RETURN NULL; END $$;
"""
RAISE = "UPDATE accounts SET balance = balance + 1 WHERE owner = 'ana'"
CONVERT = "UPDATE accounts SET balance = (SELECT rate FROM rates WHERE name = 'usd') WHERE id = 3"
DELETE = "DELETE FROM accounts WHERE id = 4"
NOTE = "INSERT INTO notes DEFAULT VALUES"


@pytest.fixture
async def shop(bank: Bank) -> Bank:
    with psycopg.connect(bank.owner_url) as owner:
        owner.execute(SCHEMA.encode())
    return bank


def plan(*statements: str) -> Plan:
    return Plan(operations=tuple(Operation(sql=text) for text in statements))


DRIFTS = {
    "a row that is chosen now": (RAISE, "INSERT INTO shop.accounts VALUES (6, 100, 'ana')"),
    "a row that is not chosen any more": (RAISE, "UPDATE shop.accounts SET owner = 'eve' WHERE id = 2"),
    "a row that is gone": (RAISE, "DELETE FROM shop.accounts WHERE id = 5"),
    "another column of a row": (CONVERT, "UPDATE shop.accounts SET owner = 'eve' WHERE id = 3"),
    "a key that changed": (RAISE, "UPDATE shop.accounts SET id = 50 WHERE id = 5"),
    "a value that is copied": (CONVERT, "UPDATE shop.rates SET rate = 3"),
    "one more row by cascade": (DELETE, "INSERT INTO shop.cards VALUES (2, 4)"),
    "a row less by cascade": (DELETE, "DELETE FROM shop.cards"),
    "a row of a cascade": (DELETE, "UPDATE shop.cards SET id = 9"),
    "a default": (NOTE, "ALTER TABLE shop.notes ALTER text SET DEFAULT 'other'"),
    "a trigger": (
        CONVERT,
        "CREATE TRIGGER also AFTER UPDATE ON shop.accounts FOR EACH ROW EXECUTE FUNCTION shop.also()",
    ),
    "a column": (CONVERT, "ALTER TABLE shop.accounts ADD COLUMN closed boolean"),
}


@pytest.mark.parametrize(("statement", "meanwhile"), DRIFTS.values(), ids=DRIFTS.keys())
async def test_another_effect_than_the_one_that_was_seen_is_refused(shop: Bank, statement: str, meanwhile: str) -> None:
    request = await shop.request(plan(statement))
    with psycopg.connect(shop.owner_url) as other:
        other.execute(meanwhile.encode())
    before = shop.query("SELECT * FROM shop.accounts ORDER BY id")
    with pytest.raises(ApplicationError) as caught:
        await shop.execute(request)
    assert caught.value.type == steps.DRIFTED
    assert (shop.query("SELECT * FROM shop.accounts ORDER BY id"), shop.ledger(request)) == (before, [])


SAME = {
    "rows that the plan doesn't touch": (CONVERT, "UPDATE shop.accounts SET balance = 7 WHERE id = 1"),
    "a value that was changed and changed back": (
        RAISE,
        "UPDATE shop.accounts SET owner = 'eve' WHERE id = 2; UPDATE shop.accounts SET owner = 'ana' WHERE id = 2",
    ),
    "a row that was replaced by an equal one": (
        RAISE,
        "DELETE FROM shop.accounts WHERE id = 5; INSERT INTO shop.accounts VALUES (5, 100, 'ana')",
    ),
    "a row that is written anew with the same values": (RAISE, "UPDATE shop.accounts SET owner = owner"),
    "a lock that was held": (RAISE, "SELECT * FROM shop.accounts FOR UPDATE"),
    "values of a sequence": (NOTE, "INSERT INTO shop.notes (text) VALUES ('somebody else''s')"),
    "a table that was rewritten": (RAISE, "ALTER TABLE shop.accounts SET (fillfactor = 50); VACUUM FULL shop.accounts"),
}


@pytest.mark.parametrize(("statement", "meanwhile"), SAME.values(), ids=SAME.keys())
async def test_the_same_effect_is_executed_whatever_happened_meanwhile(
    shop: Bank, statement: str, meanwhile: str
) -> None:
    request = await shop.request(plan(statement))
    with psycopg.connect(shop.owner_url, autocommit=True) as other:
        for part in meanwhile.split("; "):
            other.execute(part.encode())
    assert (await shop.execute(request)).fingerprint == request.fingerprint
    assert len(shop.ledger(request)) == 1


WRITERS = {
    "the same row": "UPDATE shop.accounts SET balance = 500 WHERE id = 1",
    "a row that is deleted": "DELETE FROM shop.accounts WHERE id = 1",
    "a row that is chosen then": "UPDATE shop.accounts SET owner = 'eve' WHERE id = 1",
}


@pytest.mark.parametrize("writing", WRITERS.values(), ids=WRITERS.keys())
@pytest.mark.parametrize("commits", [True, False])
async def test_a_writer_in_the_middle_is_waited_for_and_then_told_apart(
    shop: Bank, writing: str, *, commits: bool
) -> None:
    request = await shop.request(plan("UPDATE accounts SET balance = balance + 1 WHERE owner = 'ana' AND id = 1"))
    async with shop.locked(writing) as other:
        running = asyncio.create_task(shop.execute(request))
        await shop.until_blocked()
        await (other.commit() if commits else other.rollback())
        if not commits:
            assert (await running).plan_digest == request.plan_digest
            return
        with pytest.raises(ApplicationError) as caught:
            await running
    assert caught.value.type == steps.DRIFTED
    assert shop.ledger(request) == []


async def test_a_writer_who_comes_after_the_snapshot_but_before_the_statement_is_no_part_of_it(shop: Bank) -> None:
    """The transaction has one snapshot: rows that are committed later are neither chosen nor measured."""
    request = await shop.request(plan("SELECT pg_sleep(0)", RAISE))
    async with shop.locked("LOCK TABLE shop.accounts IN ACCESS EXCLUSIVE MODE") as other:
        running = asyncio.create_task(shop.execute(request))
        await shop.until_blocked()
        await other.execute("INSERT INTO shop.accounts VALUES (6, 100, 'ana')")
        await other.commit()
        await running
    assert shop.query("SELECT balance FROM shop.accounts WHERE owner = 'ana' ORDER BY id") == [(101,)] * 5 + [(100,)]
