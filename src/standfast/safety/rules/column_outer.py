"""The rule `column.outer`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.grammar.sources import lookups
from standfast.safety.resolution import IMPLIED
from standfast.safety.rules.case import Case, Example, Rule


class OuterColumns(Rule):
    id = "column.outer"
    verdict = Verdict.APPROVAL
    rationale = (
        "A column that a subquery selects, and that its relations don't have, is silently taken from the statement "
        "around it: then `IN (SELECT column FROM other)` holds for every row."
    )
    examples = (
        Example(
            sql="UPDATE shop.orders SET note = 'vip' WHERE customer_id IN (SELECT id FROM shop.customers WHERE id = 7)",
            why="customers have an id",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'vip' WHERE customer_id IN (SELECT customer_id FROM shop.customers)",
            finds=Verdict.APPROVAL,
            why="customers have no customer_id: each order is compared with itself",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        if not case.statement.writes:
            return
        for lookup in lookups(case.statement):
            relations = [case.resolution.relations.get(name) for name in lookup.relations]
            named = not any(name.schema is None and name.name in case.statement.with_names for name in lookup.relations)
            if named and all(r is not None and lookup.column not in {*r.columns, *IMPLIED} for r in relations):
                names = ", ".join(sorted(map(str, lookup.relations)))
                message = f"{names} has no column {lookup.column}: the subquery takes it from the statement around it"
                yield self.finding(Verdict.APPROVAL, message, column=lookup.column)
