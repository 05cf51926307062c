"""The rule `join.missing`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.grammar.sources import Join, Reference, joins
from standfast.safety.resolution import Relation
from standfast.safety.rules.case import Case, Example, Rule


class MissingJoins(Rule):
    id = "join.missing"
    verdict = Verdict.APPROVAL
    rationale = (
        "An UPDATE ... FROM or DELETE ... USING whose conditions compare no column of its table with one of the others "
        "pairs every row with every row. It is fine where a key says which rows are meant."
    )
    examples = (
        Example(
            sql="UPDATE shop.orders o SET note = 'vip' FROM shop.customers c WHERE o.customer_id = c.id AND c.id = 7",
            why="joined by the customer",
        ),
        Example(
            sql="UPDATE shop.orders o SET note = c.name FROM shop.customers c WHERE o.id = 1042 AND c.id = 7",
            why="not joined, but each side says which row",
        ),
        Example(
            sql="UPDATE shop.orders o SET note = 'vip' FROM shop.customers c WHERE o.status = 'paid' AND c.id = 7",
            finds=Verdict.APPROVAL,
            why="all paid orders, whoever's they are",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for join in joins(case.statement):
            relation = case.resolution.relations.get(join.table)
            if relation is not None and not any(_tells(join, relation, condition) for condition in join.conditions):
                message = f"no condition says which rows of {relation.full_name} belong to those of the other relations"
                yield self.finding(Verdict.APPROVAL, message, table=relation.full_name)


def _tells(join: Join, relation: Relation, condition: frozenset[Reference]) -> bool:
    """Tell whether a condition joins the table with another relation, or is about a key of the table."""
    own = {
        reference
        for reference in condition
        if (reference[-2] == join.alias if len(reference) > 1 else reference[-1] in relation.columns)
    }
    keyed = any(reference[-1] in relation.keys for reference in own)
    return keyed or (bool(own) and own != condition)
