"""The rule `rows.unstable`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.grammar.clock import names_time
from standfast.safety.grammar.sources import Cut, cuts
from standfast.safety.rules.case import Case, Example, Rule


class UnstableRows(Rule):
    id = "rows.unstable"
    verdict = Verdict.APPROVAL
    rationale = (
        "A statement that may choose other rows each time it runs is not the one that was looked at: it depends on the "
        "clock, or on LIMIT without the order of a primary key. One that locks rows holds others up until the end."
    )
    examples = (
        Example(sql="SELECT note FROM shop.orders LIMIT 3", why="reading any three orders harms nobody"),
        Example(
            sql="UPDATE shop.orders SET placed_at = now() WHERE id = 1042",
            why="the clock is only a value; the row is always the same",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'old' WHERE id IN (SELECT id FROM shop.orders ORDER BY id LIMIT 3)",
            why="the first three orders stay the first three",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'old' WHERE id IN (SELECT id FROM shop.orders LIMIT 3)",
            finds=Verdict.APPROVAL,
            why="three other orders the next time",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'old' WHERE placed_at < $1",
            params=("yesterday",),
            finds=Verdict.APPROVAL,
            why="tomorrow this means other orders",
        ),
        Example(
            sql="SELECT note FROM shop.orders WHERE id = 1042 FOR UPDATE",
            finds=Verdict.APPROVAL,
            why="locks the order",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        if case.statement.writes and any(not _in_order(case, cut) for cut in cuts(case.statement)):
            yield self.finding(Verdict.APPROVAL, "LIMIT or the like chooses the rows: it may choose others next time")
        if case.statement.writes and (case.statement.clocked or any(map(names_time, case.operation.params))):
            yield self.finding(Verdict.APPROVAL, "the clock chooses the rows: it may choose others next time")
        if case.statement.locks_rows:
            yield self.finding(Verdict.APPROVAL, "locks rows until the end of the plan")


def _in_order(case: Case, cut: Cut) -> bool:
    """Tell whether the order leaves no choice: no two rows are equal in it."""
    if cut.relation is None or (cut.relation.schema is None and cut.relation.name in case.statement.with_names):
        return False
    relation = case.resolution.relations.get(cut.relation)
    return relation is not None and bool(relation.primary) and relation.primary <= cut.order
