"""What a target's catalogs say about its tables, as far as the connection's role may read them."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from standfast.context import Column, Table
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "catalog.sql")
_MAX_RELATIONS = 2_000  # a bound for catalogs that were generated


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A table or view."""

    schema: str
    name: str
    is_table: bool
    """True for tables, partitioned ones included; False for views and foreign tables."""
    comment: str
    primary_key: tuple[str, ...]
    unique_columns: tuple[str, ...]
    """Columns that identify a row by themselves."""
    time_columns: tuple[str, ...]
    """Columns that hold a date or a time, in the table's order."""
    columns: tuple[Column, ...]
    """The readable ones, in the table's order."""

    @property
    def full_name(self) -> str:
        """`schema.name`, as the domain objects say it."""
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name for a query."""
        return sql.Identifier(self.schema, self.name)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the readable columns."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True, kw_only=True)
class ForeignKey:
    """Columns of one table (the child) that point to columns of another one (the parent)."""

    child: Relation
    columns: tuple[str, ...]
    parent: Relation
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All readable relations of a target's schemas and the foreign keys between them."""

    relations: tuple[Relation, ...]
    foreign_keys: tuple[ForeignKey, ...]

    def table(self, relation: Relation) -> Table:
        """Return the relation as the context describes it."""
        references: dict[str, str] = {}
        for key in self.foreign_keys:
            if key.child is relation:
                for column, parent_column in zip(key.columns, key.parent_columns, strict=True):
                    references.setdefault(column, f"{key.parent.full_name}.{parent_column}")
        return Table(
            name=relation.full_name,
            comment=relation.comment,
            primary_key=relation.primary_key,
            columns=tuple(c.model_copy(update={"references": references.get(c.name)}) for c in relation.columns),
        )


async def read_catalog(connection: Connection, schemas: Sequence[str]) -> Catalog:
    """Read the relations of `schemas`, in the schemas' order and then by name."""
    cursor = await connection.execute(_SQL["relations"], {"schemas": list(schemas), "limit": _MAX_RELATIONS})
    relations = {
        (row["schema"], row["name"]): Relation(
            schema=row["schema"],
            name=row["name"],
            is_table=row["is_table"],
            comment=row["comment"],
            primary_key=tuple(row["primary_key"]),
            unique_columns=tuple(row["unique_columns"]),
            time_columns=tuple(row["time_columns"]),
            columns=tuple(Column.model_validate(column) for column in row["columns"]),
        )
        for row in await cursor.fetchall()
    }
    cursor = await connection.execute(_SQL["foreign_keys"], {"schemas": list(schemas)})
    foreign_keys = [
        ForeignKey(
            child=relations[row["schema"], row["name"]],
            columns=tuple(row["columns"]),
            parent=relations[row["parent_schema"], row["parent_name"]],
            parent_columns=tuple(row["parent_columns"]),
        )
        for row in await cursor.fetchall()
        if (row["schema"], row["name"]) in relations and (row["parent_schema"], row["parent_name"]) in relations
    ]
    readable = (
        key
        for key in foreign_keys
        if set(key.columns) <= set(key.child.column_names) and set(key.parent_columns) <= set(key.parent.column_names)
    )
    return Catalog(relations=tuple(relations.values()), foreign_keys=tuple(readable))
