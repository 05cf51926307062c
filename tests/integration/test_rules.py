"""Each rule's own examples, on a real database: it finds what its document says, and nothing else."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import make_conninfo

from standfast.local.shop import load_shop
from standfast.plan import Operation, Plan
from standfast.report import Verdict
from standfast.safety.check import check
from standfast.safety.constraints import Constraints, parse_constraints
from standfast.safety.rules import RULES, Example, Rule
from standfast.ticket import Ticket

SHOP = yaml.safe_load(files("standfast.local.shop").joinpath("constraints.yaml").read_text("utf-8"))
EXAMPLES = [(rule, example) for rule in RULES for example in rule.examples]


@contextmanager
def copy_of(server: str, original: str, name: str) -> Iterator[str]:
    """Create a database with all that another one has, and drop it again."""
    with psycopg.connect(server, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(original))
        connection.execute(create)
    yield make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def shop(postgres: str) -> Iterator[str]:
    """URL of the sample shop; the examples change nothing in it."""
    with copy_of(postgres, "template0", "rules") as url:
        asyncio.run(load_shop(url))
        yield url


@pytest.fixture
def place(request: pytest.FixtureRequest, postgres: str, shop: str) -> Iterator[str]:
    """URL of the shop, or of a copy of it with what the example needs."""
    example: Example = request.getfixturevalue("example")
    if not example.setup:
        yield shop
        return
    with copy_of(postgres, "rules", "rules_example") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(example.setup.encode())
        yield url


def laid_over(below: Any, above: Any) -> Any:
    """Return YAML values with others laid over them: mappings key by key, in lists those of the same name."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: laid_over(below[key], value) if key in below else value for key, value in above.items()}
    if not isinstance(below, list) or not isinstance(above, list):
        return above
    merged = laid_over({identity(value): value for value in below}, {identity(value): value for value in above})
    return list(merged.values())


def identity(value: Any) -> str:
    """Return what tells an element of a list from the others."""
    named = isinstance(value, dict) and "name" in value
    return str((value.get("table"), value["name"]) if named else value)


def constraints_of(example: Example) -> Constraints:
    document = laid_over(SHOP, yaml.safe_load(example.constraints) or {})
    return parse_constraints(yaml.safe_dump(document), source="example")


def plan_of(example: Example) -> Plan:
    last = Operation(sql=example.sql, params=example.params, **example.operation)
    return Plan(operations=(*(Operation(sql=text) for text in example.earlier), last), **example.plan)


@pytest.mark.parametrize(
    ("rule", "example"), EXAMPLES, ids=[f"{rule.id} {example.finds}: {example.why}" for rule, example in EXAMPLES]
)
async def test_the_rule_finds_what_its_example_says(rule: Rule, example: Example, place: str) -> None:
    ticket = Ticket(id="T-1", body=example.ticket, requester="ana@example.com", target="shop")
    report = await check(
        plan_of(example),
        url=place,
        target="shop",
        schemas=("shop",),
        constraints=constraints_of(example),
        ticket=ticket if example.ticket else None,
    )
    found = [f for f in report.all_findings if f.rule == rule.id or f.rule.startswith(f"{rule.id}.")]
    worst = Verdict.worst(finding.verdict for finding in found) if found else None
    assert worst == example.finds, [finding.message for finding in report.all_findings]


NOTIFYING = """
    CREATE FUNCTION shop.tell() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_notify('shop', 'changed'); RETURN NULL; END $$;
    CREATE TRIGGER tell AFTER {change} FOR EACH STATEMENT EXECUTE FUNCTION shop.tell()
"""


@pytest.mark.parametrize(
    ("change", "statement", "found"),
    [
        ("DELETE ON shop.addresses", "DELETE FROM shop.customers WHERE id = 7", True),
        ("DELETE ON shop.order_items", "DELETE FROM shop.customers WHERE id = 7", True),
        ("UPDATE ON shop.orders", "DELETE FROM shop.addresses WHERE id = 7", True),  # ON DELETE SET NULL
        ("UPDATE ON shop.payments_2026_h1", "UPDATE shop.payments SET method = 'card' WHERE id = 1003", True),
        ("DELETE ON shop.addresses", "UPDATE shop.customers SET locked = false WHERE id = 7", False),
        ("DELETE ON shop.orders", "DELETE FROM shop.addresses WHERE id = 7", False),
        ("INSERT ON shop.orders", "UPDATE shop.orders SET note = 'gift' WHERE id = 1042", False),
    ],
)
async def test_a_trigger_counts_where_the_statement_may_fire_it(
    postgres: str, shop: str, change: str, statement: str, found: bool
) -> None:
    assert shop
    with copy_of(postgres, "rules", "rules_triggers") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(NOTIFYING.format(change=change).encode())
        plan = Plan(operations=(Operation(sql=statement),))
        constraints = parse_constraints(yaml.safe_dump(SHOP), source="shop")
        report = await check(plan, url=url, target="shop", schemas=("shop",), constraints=constraints, ticket=None)
    assert ("trigger.outside" in {finding.rule for finding in report.all_findings}) is found
