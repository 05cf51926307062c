"""What the names in statements mean on the target: relations, the tables behind views, functions."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from psycopg.rows import DictRow

from standfast.safety.grammar.parsing import parse_statement
from standfast.safety.grammar.statement import Name, Statement, StatementRefused
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "resolution.sql")
_VIEWS = frozenset({"v", "m"})
TABLES = frozenset({"r", "p"})
IMPLIED = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})
"""Columns that every table has."""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A relation of the target."""

    schema: str
    full_name: str
    root: str
    """The partitioned table that it is a part of, else itself."""
    kind: str
    """As pg_class.relkind: `r` and `p` are tables, `v` and `m` views."""
    columns: Mapping[str, str]
    """Name -> type."""
    keys: frozenset[str]
    """Columns of primary, unique and foreign keys."""
    ancestors: frozenset[str] = frozenset()
    """Tables that it inherits from, and that show its rows as theirs."""
    primary: frozenset[str] = frozenset()
    """Columns of the primary key."""
    identities: frozenset[str] = frozenset()
    """Columns whose values the server always makes itself."""
    behind: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    """Tables behind a view, and the columns that it uses; None for all of them."""
    runs: frozenset[str] = frozenset()
    """Functions of the target's own that a view calls."""

    @property
    def tables(self) -> frozenset[str]:
        """The tables that are read or written through this name."""
        return frozenset({self.root, *self.ancestors, *self.behind})

    def holds(self, table: str, column: str) -> bool:
        """Tell whether the column of the table can be read through this name."""
        return table in self.tables and (table not in self.behind or self.shows(table, column))

    def shows(self, table: str, column: str) -> bool:
        """Tell whether this is a view that uses the column of the table."""
        if table not in self.behind:
            return False
        columns = self.behind[table]
        return columns is None or column in columns


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function that a name may mean."""

    schema: str
    volatility: str
    """`i` immutable, `s` stable, `v` volatile."""
    takes_one: bool = True
    """It can be called with one argument, as in `(argument).name`."""


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A function that the server runs by itself when rows of a table change."""

    function: str
    """`schema.name`"""
    events: frozenset[str]
    """`insert`, `update` and `delete` of the table that make it run, by cascading elsewhere, too."""
    source: str
    trusted: bool
    """False if its language lets it do what the server's account may."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What all names of a plan mean."""

    relations: Mapping[Name, Relation]
    """Names that mean nothing are left out."""
    functions: Mapping[Name, tuple[Function, ...]]
    own_operators: frozenset[Name]
    """Operators that may run a function of the target's own."""
    types: Mapping[Name, frozenset[str]] = field(default_factory=dict)
    """Types whose values are made or checked by functions of the target's own, and those functions."""
    triggers: Mapping[str, tuple[Trigger, ...]] = field(default_factory=dict)
    """By `schema.table` that a statement writes; those of tables that cascades reach from there, too."""


async def resolve(connection: Connection, parsed: Iterable[Statement]) -> Resolution:
    """Look up every name in the catalogs, in the session that the statements will run in."""
    parsed = list(parsed)
    names = {name for s in parsed for name in (*s.reads, *(write.table for write in s.writes))}
    functions = {name for s in parsed for name in (*s.functions, *s.fields)}
    operators = {name for s in parsed for name in s.operators}
    types = {name for s in parsed for name in s.types}
    relations = await relations_of(connection, names)
    written = {write.table for s in parsed for write in s.writes}
    return Resolution(
        relations=relations,
        functions=await _functions(connection, sorted(functions, key=str)),
        own_operators=frozenset(map(_written, await _rows(connection, "operators", operators))),
        types={_written(row): frozenset(row["runs"]) for row in await _rows(connection, "types", types)},
        triggers=await _triggers(
            connection, {t for name in written & relations.keys() for t in relations[name].tables}
        ),
    )


async def _rows(connection: Connection, statement: str, names: Collection[Name]) -> list[DictRow]:
    """Return what `statement` says about the names."""
    if not names:
        return []
    parameters = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    return await (await connection.execute(_SQL[statement], parameters)).fetchall()


def _written(row: DictRow) -> Name:
    return Name(row["written_schema"], row["written_name"])


async def relations_of(connection: Connection, names: Iterable[Name]) -> dict[Name, Relation]:
    """Return what names of relations mean in this session; those that mean nothing are left out."""
    names = sorted(names, key=str)
    rows = await _rows(connection, "relations", names)
    views = {row["oid"]: row["definition"] for row in rows if row["kind"] in _VIEWS}
    behind, runs = await _behind(connection, views), await _run_by(connection, views)
    return {
        _written(row): Relation(
            schema=row["schema"],
            full_name=f"{row['schema']}.{row['name']}",
            root=row["root"],
            kind=row["kind"],
            columns=row["columns"],
            keys=frozenset(row["keys"]),
            ancestors=frozenset(row["ancestors"]),
            primary=frozenset(row["primary_key"]),
            identities=frozenset(row["identities"]),
            behind=behind.get(row["oid"], {}),
            runs=runs.get(row["oid"], frozenset()),
        )
        for row in rows
    }


async def _behind(connection: Connection, views: Mapping[int, str]) -> dict[int, dict[str, frozenset[str] | None]]:
    if not views:
        return {}
    found: dict[int, dict[str, frozenset[str] | None]] = {}
    opaque = {view for view, definition in views.items() if _shows_rows(definition)}
    cursor = await connection.execute(_SQL["views"], {"views": list(views)})
    for row in await cursor.fetchall():
        found.setdefault(row["view"], {})[row["table"]] = frozenset(row["columns"])
        if row["definition"] is not None and _shows_rows(row["definition"]):
            opaque.add(row["view"])
    return {view: dict.fromkeys(tables) if view in opaque else tables for view, tables in found.items()}


async def _run_by(connection: Connection, views: Mapping[int, str]) -> dict[int, frozenset[str]]:
    if not views:
        return {}
    cursor = await connection.execute(_SQL["view_functions"], {"views": list(views)})
    return {row["view"]: frozenset(row["runs"]) for row in await cursor.fetchall()}


@lru_cache(maxsize=1000)  # the views are the same for every ticket
def _shows_rows(definition: str) -> bool:
    """Tell whether a view uses rows as a whole, where the catalog names no columns, or can't be understood."""
    try:
        statement = parse_statement(definition)
    except StatementRefused:
        return True
    rows = statement.aliases | {alias for alias, _ in statement.named}
    return any(parts[-1] == "*" or parts[-1] in rows for parts in statement.columns)


async def _functions(connection: Connection, names: list[Name]) -> dict[Name, tuple[Function, ...]]:
    found: dict[Name, tuple[Function, ...]] = {}
    for row in await _rows(connection, "functions", names):
        name = _written(row)
        function = Function(schema=row["schema"], volatility=row["volatility"], takes_one=row["takes_one"])
        found[name] = (*found.get(name, ()), function)
    return found


async def _triggers(connection: Connection, tables: Collection[str]) -> dict[str, tuple[Trigger, ...]]:
    if not tables:
        return {}
    found: dict[str, tuple[Trigger, ...]] = {}
    for row in await (await connection.execute(_SQL["triggers"], {"tables": sorted(tables)})).fetchall():
        trigger = Trigger(
            function=row["function"], events=frozenset(row["events"]), source=row["source"], trusted=row["trusted"]
        )
        found[row["table"]] = (*found.get(row["table"], ()), trigger)
    return found
