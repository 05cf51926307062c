"""The rows of the sample shop: made up, but the same ones on every machine."""

import json
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

Row = tuple[Any, ...]

CUSTOMERS = 400
ORDERS = 1200
_SEED = 20260131
_TODAY = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
_FIRST = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim", "Lea", "Max", "Nia", "Oli")
_LAST = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel", "Ivy", "Juniper", "Larch", "Maple")
_CITIES = (("Lyon", "69001", "FR"), ("Graz", "8010", "AT"), ("Ghent", "9000", "BE"), ("Porto", "4000", "PT"))
_THINGS = ("Lamp", "Kettle", "Rug", "Chair", "Clock", "Vase", "Shelf", "Mirror", "Blanket", "Basket")
_COLOURS = ("red", "blue", "green", "grey")
_STATUSES = ("pending", "paid", "shipped", "delivered", "delivered", "delivered", "cancelled")
_NOTES = ("Asked when the parcel arrives.", "Wanted an invoice copy.", "Praised the packaging.", "Could not sign in.")


def columns() -> Mapping[str, tuple[str, ...]]:
    """Return the columns that are filled, by table, in an order that satisfies the foreign keys."""
    return {
        "customers": (
            "id",
            "name",
            "email",
            "phone",
            "tax_id",
            "locked",
            "failed_logins",
            "credit",
            "preferences",
            "created_at",
        ),
        "addresses": ("id", "customer_id", "street", "city", "postcode", "country"),
        "products": ("id", "name", "price", "stock", "attributes"),
        "orders": ("id", "customer_id", "address_id", "status", "total", "note", "placed_at"),
        "order_items": ("order_id", "line", "product_id", "quantity", "price"),
        "payments": ("id", "paid_on", "order_id", "method", "amount"),
        "refunds": ("id", "order_id", "amount", "reason", "created_at"),
        "subscriptions": ("id", "customer_id", "product_id", "status", "renews_on"),
        "support_history": ("id", "customer_id", "at", "text"),
        "staff": ("id", "name", "role", "password_hash"),
    }


def rows() -> dict[str, list[Row]]:
    """Return all rows by table: the same ones at every call."""
    chance = random.Random(_SEED)  # noqa: S311 - sample data, no secrets
    shop: dict[str, list[Row]] = {table: [] for table in columns()}
    shop["customers"] = list(_customers(chance))
    shop["addresses"] = list(_addresses(chance))
    shop["products"] = list(_products(chance))
    for order in range(1001, 1001 + ORDERS):
        _order(chance, order, shop)
    shop["subscriptions"] = [
        (
            n,
            1 + (n * 7) % CUSTOMERS,
            1 + n % 60,
            chance.choice(("active", "active", "paused")),
            date(2026, 12, 1 + n % 28),
        )
        for n in range(401, 601)
    ]
    shop["support_history"] = [
        (n, chance.randint(1, CUSTOMERS), _TODAY - timedelta(hours=chance.randint(1, 5000)), chance.choice(_NOTES))
        for n in range(1, 601)
    ]
    shop["staff"] = [
        (n, f"{_FIRST[n]} {_LAST[n]}", "admin" if n == 1 else "agent", "not a real hash") for n in (1, 2, 3)
    ]
    return shop


def _customers(chance: random.Random) -> Iterator[Row]:
    for n in range(1, CUSTOMERS + 1):
        name = f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"
        email = f"{name.lower().replace(' ', '.')}.{n}@example.com"
        locked = n % 25 == 13  # noqa: PLR2004 - customers 13, 38, 63, 88 ... can't sign in
        preferences = json.dumps({"newsletter": chance.random() < 0.5, "language": chance.choice(("en", "fr", "de"))})  # noqa: PLR2004
        created = _TODAY - timedelta(days=chance.randint(30, 1500))
        phone, tax_id = f"+33 555 {n:04}", f"TAX-{chance.randint(10**7, 10**8 - 1)}"
        yield n, name, email, phone, tax_id, locked, 5 if locked else 0, Decimal(0), preferences, created


def _addresses(chance: random.Random) -> Iterator[Row]:
    for n in range(1, CUSTOMERS + 1):
        city, postcode, country = chance.choice(_CITIES)
        yield n, n, f"{chance.randint(1, 200)} {chance.choice(_LAST)} Street", city, postcode, country


def _products(chance: random.Random) -> Iterator[Row]:
    for n in range(1, 61):
        colour, thing = chance.choice(_COLOURS), _THINGS[n % len(_THINGS)]
        price = Decimal(chance.randint(500, 19900)) / 100
        attributes = json.dumps({"colour": colour, "weight_kg": chance.randint(1, 20)})
        yield n, f"{colour.title()} {thing}", price, chance.randint(0, 500), attributes


def _order(chance: random.Random, order: int, shop: dict[str, list[Row]]) -> None:
    customer = chance.randint(1, CUSTOMERS)
    status = _STATUSES[order % len(_STATUSES)]
    placed = _TODAY - timedelta(hours=chance.randint(24, 5000))
    total = Decimal(0)
    for line in range(1, chance.randint(1, 4) + 1):
        product = chance.choice(shop["products"])
        quantity = chance.randint(1, 3)
        total += quantity * product[2]
        shop["order_items"].append((order, line, product[0], quantity, product[2]))
    shop["orders"].append((order, customer, customer, status, total, "", placed))
    if status in ("paid", "shipped", "delivered"):
        paid_on = max(placed.date(), date(2026, 1, 1))
        shop["payments"].append((order, paid_on, order, chance.choice(("card", "transfer")), total))
