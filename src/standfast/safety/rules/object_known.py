"""The rule `object.known`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.grammar.statement import Name
from standfast.safety.resolution import IMPLIED, TABLES
from standfast.safety.rules.case import Case, Example, Rule

_FOREIGN_TABLE = "f"


class KnownObjects(Rule):
    id = "object.known"
    verdict = Verdict.BLOCK
    rationale = (
        "Statements may name what exists in the target's own schemas, and nothing of the system, of Standfast or of "
        "other servers. A write through a view needs a person: it changes what stands behind the view."
    )
    examples = (
        Example(sql="SELECT o.status FROM shop.orders o WHERE o.id = 1042", why="all of it exists"),
        Example(sql="SELECT status FROM shop.order", finds=Verdict.BLOCK, why="there is no such table"),
        Example(
            sql="SELECT o.state FROM shop.orders o",
            finds=Verdict.BLOCK,
            why="there is no such column, and PostgreSQL might take it for a function of the row",
        ),
        Example(sql="SELECT rolname FROM pg_roles", finds=Verdict.BLOCK, why="a catalog of the system"),
        Example(
            sql="UPDATE shop.names SET name = 'Ann Elm' WHERE id = 7",
            setup="CREATE VIEW shop.names AS SELECT id, name FROM shop.customers",
            finds=Verdict.APPROVAL,
            why="writes to the customers behind the view",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        statement = case.statement
        written = {write.table for write in statement.writes}
        for name in sorted(statement.reads | written, key=str):
            relation = case.resolution.relations.get(name)
            if relation is None:
                if not self._names_with_query(case, name):
                    yield self.finding(Verdict.BLOCK, f"there is no relation {name}", mendable=True, name=str(name))
            elif relation.schema not in case.constraints.schemas:
                message = f"{relation.full_name} is outside the target's schemas"
                yield self.finding(Verdict.BLOCK, message, name=relation.full_name)
            elif name in written and relation.kind == _FOREIGN_TABLE:
                message = f"{relation.full_name} is on another server, where a rehearsal can't be measured"
                yield self.finding(Verdict.BLOCK, message, name=relation.full_name)
            elif name in written and relation.kind not in TABLES:
                message = f"{relation.full_name} is no table; a write through it changes what stands behind it"
                yield self.finding(Verdict.APPROVAL, message, name=relation.full_name)
        for parts in sorted(statement.columns | statement.returned):
            relations = case.meant_by(parts[-2]) if len(parts) > 1 else None
            if relations and not any(parts[-1] in {*relation.columns, *IMPLIED, "*"} for relation in relations):
                # PostgreSQL would take it for a function of the whole row.
                message = f"there is no column {'.'.join(parts)}"
                yield self.finding(Verdict.BLOCK, message, mendable=True, name=".".join(parts))

    def _names_with_query(self, case: Case, name: Name) -> bool:
        return name.schema is None and name.name in case.statement.with_names
