"""The activity `gather`: one snapshot of the target, one document."""

from collections.abc import Sequence

from temporalio import activity

from standfast import audit
from standfast.context import Context, Rows, Table
from standfast.retrieval.anchors import anchors
from standfast.retrieval.rows import MAX_COLUMNS, read_rows
from standfast.safety.access import masked_columns
from standfast.safety.versions import read_latest
from standfast.steps import GATHER
from standfast.store.catalog import Catalog, read_catalog
from standfast.store.databases import Databases, Role
from standfast.store.sql import statements
from standfast.ticket import Ticket

MAX_TABLES = 100
"""Of one context; those with rows in it come first, and the planner's tools describe the others."""
MAX_COMMENT = 500
"""Characters of a comment or a default."""
MAX_BYTES = 256 * 1024
"""Of all descriptions as JSON."""
_SQL = statements(__package__, "rows.sql")


class Retrieval:
    """Reads as the reader role; what the constraints call personal is masked."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    @activity.defn(name=GATHER.name)
    async def gather(self, ticket: Ticket) -> Context:
        """Put the submission on record, and return what `read` does.

        Raises: as `read` does.
        """
        async with self._databases.control(autocommit=True) as connection:
            submission = {"ticket_digest": ticket.digest, "undo_of": ticket.undo_of}
            await audit.append_step(connection, audit.Kind.SUBMISSION, actor=ticket.requester, content=submission)
        return await self.read(ticket)

    async def read(self, ticket: Ticket) -> Context:
        """Return the ticket, its target's schema and the rows around what it names.

        Raises:
            UnknownTarget: the settings don't name the ticket's target.
            NotPermitted: this process has no reader URL for it, or none of the control database.
            ServiceUnavailable: a database can't be reached.
        """
        schemas = self._databases.schemas(ticket.target)
        async with self._databases.control(autocommit=True) as connection:
            constraints = await read_latest(connection, ticket.target, schemas)
        async with self._databases.target(ticket.target, Role.READER) as connection:
            await connection.execute(_SQL["pin"])
            moment = await (await connection.execute(_SQL["moment"])).fetchone() or {}
            catalog = await read_catalog(connection, schemas)
            masked = await masked_columns(connection, constraints, schemas)
            facts = await read_rows(connection, catalog, anchors(ticket, catalog), masked)
        return Context(
            ticket=ticket,
            retrieved_at=moment["moment"],
            tables=_tables(catalog, facts),
            facts=facts,
            masked=tuple(sorted(f"{table}.{column}" for table, columns in masked.items() for column in columns)),
        )


def _tables(catalog: Catalog, facts: Sequence[Rows]) -> tuple[Table, ...]:
    """Return the descriptions of the relations, in the catalog's order."""
    with_rows = {rows.table for rows in facts}
    by_use = sorted(catalog.relations, key=lambda relation: relation.full_name not in with_rows)
    kept: dict[str, Table] = {}
    left = MAX_BYTES
    for relation in by_use[:MAX_TABLES]:
        table = _bounded(catalog.table(relation))
        left -= len(table.model_dump_json())
        if left < 0:
            break
        kept[table.name] = table
    return tuple(kept[relation.full_name] for relation in catalog.relations if relation.full_name in kept)


def _bounded(table: Table) -> Table:
    columns = tuple(
        column.model_copy(
            update={
                "comment": column.comment[:MAX_COMMENT],
                "default": column.default and column.default[:MAX_COMMENT],
                "values": column.values[:MAX_COLUMNS],
            }
        )
        for column in table.columns[:MAX_COLUMNS]
    )
    return table.model_copy(update={"comment": table.comment[:MAX_COMMENT], "columns": columns})
