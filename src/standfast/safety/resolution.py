"""What the names in statements mean on the target: relations, the tables behind views, functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from standfast.safety.parsing import Name, Statement
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "resolution.sql")
_VIEWS = frozenset({"v", "m"})
TABLES = frozenset({"r", "p"})


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
    behind: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Tables behind a view, and the columns that it uses."""

    @property
    def tables(self) -> frozenset[str]:
        """The tables that are read or written through this name."""
        return frozenset({self.root, *self.behind})


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function that a name may mean."""

    schema: str
    volatility: str
    """`i` immutable, `s` stable, `v` volatile."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What all names of a plan mean."""

    relations: Mapping[Name, Relation]
    """Names that mean nothing are left out."""
    functions: Mapping[Name, tuple[Function, ...]]


async def resolve(connection: Connection, parsed: Iterable[Statement]) -> Resolution:
    """Look up every name in the catalogs, in the session that the statements will run in."""
    parsed = list(parsed)
    names = {name for s in parsed for name in (*s.reads, *(write.table for write in s.writes))}
    functions = {name for s in parsed for name in s.functions}
    return Resolution(
        relations=await _relations(connection, sorted(names, key=str)),
        functions=await _functions(connection, sorted(functions, key=str)),
    )


async def _relations(connection: Connection, names: list[Name]) -> dict[Name, Relation]:
    written = {_quoted(name): name for name in names}
    cursor = await connection.execute(_SQL["relations"], {"names": list(written)})
    rows = [row for row in await cursor.fetchall() if row["found"]]
    views = [row["written"] for row in rows if row["kind"] in _VIEWS]
    behind = await _behind(connection, views)
    found = {}
    for row in rows:
        full_name = f"{row['schema']}.{row['name']}"
        found[written[row["written"]]] = Relation(
            schema=row["schema"],
            full_name=full_name,
            root=row["root"],
            kind=row["kind"],
            columns=row["columns"],
            keys=frozenset(row["keys"]),
            behind=behind.get(full_name, {}),
        )
    return found


async def _behind(connection: Connection, views: list[str]) -> dict[str, dict[str, frozenset[str]]]:
    if not views:
        return {}
    found: dict[str, dict[str, frozenset[str]]] = {}
    cursor = await connection.execute(_SQL["views"], {"views": views})
    for row in await cursor.fetchall():
        found.setdefault(row["view"], {})[row["table"]] = frozenset(row["columns"])
    return found


async def _functions(connection: Connection, names: list[Name]) -> dict[Name, tuple[Function, ...]]:
    if not names:
        return {}
    parameters = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    cursor = await connection.execute(_SQL["functions"], parameters)
    found: dict[Name, tuple[Function, ...]] = {}
    for row in await cursor.fetchall():
        name = Name(row["written_schema"], row["written_name"])
        found[name] = (*found.get(name, ()), Function(schema=row["schema"], volatility=row["volatility"]))
    return found


def _quoted(name: Name) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (name.schema, name.name) if part is not None)
