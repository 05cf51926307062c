"""Anchors: the rows that a ticket names, in its subject or in its text. Pure functions; the text is untrusted.

A table's and a column's name come from the catalog only, never from the ticket: what the ticket says is compared with
them, and what it gives as a value stays a value.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from pydantic import JsonValue

from standfast.store.catalog import Catalog, Relation
from standfast.ticket import Ticket

MAX_ANCHORS = 20
"""Of one ticket; a ticket that names more is about many rows, which a plan finds by a condition."""
_MAX_VALUE = 200  # characters; keys are short
_EMAIL_COLUMNS = ("email", "e_mail", "email_address")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_TOKEN = re.compile(rf"{_UUID}\b|[A-Za-z]+(?:_[A-Za-z]+)*|[0-9][\w-]{{0,63}}")
_BETWEEN = frozenset({"number", "numbers", "no", "nr", "id", "ids"})
_JOINING = frozenset({"and", "or"})


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A row that the ticket names: the one whose `column` has `value`."""

    relation: Relation
    column: str
    value: str
    """As text; the server reads it as the column's type."""


def anchors(ticket: Ticket, catalog: Catalog) -> tuple[Anchor, ...]:
    """Return the rows that the ticket names, those of the subject first, each once, at most `MAX_ANCHORS`."""
    text = f"{ticket.title}\n{ticket.body}"
    found = chain(
        _of_subject(ticket.subject, catalog),
        _of_text(text, catalog),
        _of_addresses([*_EMAIL.findall(text), ticket.requester], catalog),
    )
    unique: dict[tuple[str, str, str], Anchor] = {}
    for anchor in found:
        unique.setdefault((anchor.relation.full_name, anchor.column, anchor.value), anchor)
        if len(unique) == MAX_ANCHORS:
            break
    return tuple(unique.values())


def _of_subject(subject: Mapping[str, JsonValue], catalog: Catalog) -> Iterator[Anchor]:
    for key, given in subject.items():
        values = [text for value in (given if isinstance(given, list) else [given]) if (text := _as_text(value))]
        # {"order_ids": [1, 2]} is {"order_id": ...} said of many.
        name = key.removesuffix("s") if isinstance(given, list) else key
        for relation, column in _columns_called(name, catalog) or _columns_called(key, catalog):
            for value in values:
                yield Anchor(relation=relation, column=column, value=value)


def _columns_called(name: str, catalog: Catalog) -> list[tuple[Relation, str]]:
    """Return the columns that a subject's key may mean; the first way of meaning that fits counts."""
    return next(filter(None, (list(way(name, catalog)) for way in _WAYS)), [])


def _spelled_out(name: str, catalog: Catalog) -> Iterator[tuple[Relation, str]]:
    """`orders.id`, `shop.orders.id`."""
    for relation in catalog.relations:
        for column in relation.column_names:
            if name in (f"{relation.name}.{column}", f"{relation.full_name}.{column}"):
                yield relation, column


def _referenced(name: str, catalog: Catalog) -> Iterator[tuple[Relation, str]]:
    """`order_id`, where foreign keys of that name point to."""
    targets = {
        (key.parent.full_name, key.parent_columns[0]): (key.parent, key.parent_columns[0])
        for key in catalog.foreign_keys
        if key.columns == (name,)
    }
    yield from targets.values()


def _table_and_column(name: str, catalog: Catalog) -> Iterator[tuple[Relation, str]]:
    """`order_id` and `order_number` of a table orders with such a column; `order` for its key."""
    for relation in _tables(catalog):
        for singular in _names_of(relation):
            if name == singular and (key := _single_key(relation)):
                yield relation, key
                break
            column = name.removeprefix(f"{singular}_")
            if column != name and column in relation.column_names:
                yield relation, column
                break


def _unique(name: str, catalog: Catalog) -> Iterator[tuple[Relation, str]]:
    """`sku`, where a column of that name identifies a row."""
    for relation in _tables(catalog):
        if name in relation.unique_columns and name in relation.column_names:
            yield relation, name


_WAYS = (_spelled_out, _referenced, _table_and_column, _unique)


def _of_text(text: str, catalog: Catalog) -> Iterator[Anchor]:
    """Find "order 1042", "Order #1042", "order item no. 7", "customers 3, 4 and 5"."""
    named: dict[str, Relation] = {}
    for relation in _tables(catalog):
        if _single_key(relation):
            for name in _names_of(relation):
                named.setdefault(name, relation)
    current: Relation | None = None
    previous = ""
    several = False
    for match in _TOKEN.finditer(text):
        token = match[0].lower()
        if token[0].isdigit() or "-" in token:
            if current is not None and (key := _single_key(current)):
                yield Anchor(relation=current, column=key, value=token)
            current = current if several else None
        elif token not in _BETWEEN and not (several and token in _JOINING):
            current = named.get(f"{previous}_{token}") or named.get(token)
            several = current is not None and token.endswith("s")
            previous = token


def _of_addresses(addresses: Iterable[str], catalog: Catalog) -> Iterator[Anchor]:
    """Find e-mail addresses, as written and in lower case."""
    for address in addresses:
        if _EMAIL.fullmatch(address):
            for relation in _tables(catalog):
                for column in relation.column_names:
                    if column.lower() in _EMAIL_COLUMNS:
                        yield Anchor(relation=relation, column=column, value=address)
                        yield Anchor(relation=relation, column=column, value=address.lower())


def _tables(catalog: Catalog) -> Iterator[Relation]:
    return (relation for relation in catalog.relations if relation.is_table)


def _single_key(relation: Relation) -> str | None:
    key = relation.primary_key
    return key[0] if len(key) == 1 and key[0] in relation.column_names else None


def _names_of(relation: Relation) -> tuple[str, ...]:
    """Return what one row of the table may be called: its name, and its name in the singular."""
    name = relation.name.lower()
    endings = (("ies", "y"), ("es", ""), ("s", ""))
    return (name, *(name.removesuffix(plural) + singular for plural, singular in endings if name.endswith(plural)))


def _as_text(value: JsonValue) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    storable = "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    return text if 0 < len(text) <= _MAX_VALUE and storable else None
