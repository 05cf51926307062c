"""The rule `statement.where`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class WhereRequired(Rule):
    id = "statement.where"
    verdict = Verdict.BLOCK
    rationale = (
        "An UPDATE or DELETE without WHERE means all rows, which is hardly ever meant. "
        "One whose condition holds for every row is looked at by a person."
    )
    examples = (
        Example(sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042", why="says which row"),
        Example(sql="UPDATE shop.orders SET note = 'gift'", finds=Verdict.BLOCK, why="would change every order"),
        Example(
            sql="WITH gone AS (DELETE FROM shop.refunds) SELECT 1",
            finds=Verdict.BLOCK,
            why="the same, hidden in a WITH",
        ),
        Example(
            sql="DELETE FROM shop.refunds WHERE id = id",
            finds=Verdict.APPROVAL,
            why="a condition that is always true is none",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for write in case.statement.writes:
            if not write.has_where:
                message = f"{write.command} of {write.table} has no WHERE: it means every row"
                yield self.finding(Verdict.BLOCK, message, mendable=True, table=str(write.table))
            elif write.means_all:
                message = f"the condition of the {write.command} of {write.table} holds for every row"
                yield self.finding(Verdict.APPROVAL, message, table=str(write.table))
