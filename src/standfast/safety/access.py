"""What the constraints leave open of a target: the rights of its roles, and the values that no model sees.

Rules judge what statements say; rights hold even where a rule is mistaken. Both follow from the same constraints.
"""

from collections.abc import Iterator, Mapping, Sequence

from standfast.report import Verdict
from standfast.safety.constraints import ColumnClass, Constraints
from standfast.safety.grammar.statement import Name
from standfast.safety.resolution import TABLES, Relation, relations_of
from standfast.store.connections import Connection
from standfast.store.migrate import Accesses
from standfast.store.roles import Access, Privilege, open_access
from standfast.store.sql import statements

_SQL = statements(__package__, "access.sql")
_KINDS = {
    Privilege.INSERT: ("insert", "merge"),
    Privilege.UPDATE: ("update", "merge"),
    Privilege.DELETE: ("delete", "merge"),
}


def constrained(constraints: Constraints) -> Accesses:
    """Return how to find out what `constraints` leave open of some schemas."""

    async def accesses(connection: Connection, schemas: Sequence[str]) -> list[Access]:
        found = await open_access(connection, schemas)
        relations = await _relations(connection, found)
        inserting = await _own_triggers(connection, schemas)
        return [
            _narrowed(access, relations[access.full_name], constraints, inserting=inserting)
            for access in found
            if access.full_name in relations
        ]

    return accesses


async def masked_columns(
    connection: Connection, constraints: Constraints, schemas: Sequence[str]
) -> Mapping[str, frozenset[str]]:
    """Return the columns, by `schema.table`, whose values no model sees: personal data.

    Which columns of a view show a table's personal data is not known; if one does, all of the view's are masked.
    """
    personal = [c for c in constraints.columns if c.column_class is ColumnClass.PII]
    if not personal:
        return {}
    found = await open_access(connection, schemas)
    relations = await _relations(connection, found)
    masked: dict[str, frozenset[str]] = {}
    for name, relation in relations.items():
        if any(relation.shows(column.table, column.name) for column in personal):
            masked[name] = frozenset(relation.columns)
        elif columns := frozenset(column.name for column in personal if column.table == relation.root):
            masked[name] = columns
    return masked


async def _relations(connection: Connection, accesses: Sequence[Access]) -> dict[str, Relation]:
    names = {Name(access.schema, access.name) for access in accesses}
    return {relation.full_name: relation for relation in (await relations_of(connection, names)).values()}


async def _own_triggers(connection: Connection, schemas: Sequence[str]) -> bool:
    """Tell whether triggers write with the rights of whoever fires them."""
    cursor = await connection.execute(_SQL["own_triggers"], {"schemas": list(schemas)})
    row = await cursor.fetchone()
    return row is not None and bool(row["found"])


def _narrowed(access: Access, relation: Relation, constraints: Constraints, *, inserting: bool) -> Access:
    secret = [column for column in constraints.columns if column.column_class is ColumnClass.SECRET]
    closed = any(map(constraints.protected, relation.tables))
    shows_secret = any(relation.shows(column.table, column.name) for column in secret)
    hidden = {column.name for column in secret if column.table == relation.root}
    columns = tuple(column for column in access.columns if column not in hidden)
    by_trigger = constraints.table(relation.root).trigger_writes is not None
    writes = () if shows_secret else tuple(_writes(access, relation, constraints))
    if by_trigger and inserting and Privilege.INSERT not in writes:
        writes = (Privilege.INSERT,)
    return Access(
        schema=access.schema,
        name=access.name,
        columns=() if closed or shows_secret else columns,
        whole=not hidden,
        writes=writes,
        observed=access.observed and (by_trigger or not closed),
    )


def _writes(access: Access, relation: Relation, constraints: Constraints) -> Iterator[Privilege]:
    if relation.schema not in constraints.schemas:
        return
    tables = [table for table in relation.tables if relation.kind in TABLES or table != relation.full_name]
    if any(constraints.writes(table) is Verdict.BLOCK for table in tables):
        return
    named = {*constraints.statements.auto, *constraints.statements.approval}
    for privilege in access.writes:
        if all(not {*named, *constraints.table(table).auto}.isdisjoint(_KINDS[privilege]) for table in tables):
            yield privilege
