"""The rule `insert.columns`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class InsertColumns(Rule):
    id = "insert.columns"
    verdict = Verdict.AUTO
    rationale = "An INSERT that names no columns means others as soon as the table gets another column."
    examples = (
        Example(
            sql="INSERT INTO shop.refunds (order_id, amount, reason) VALUES (1042, 20, 'late')", why="names its columns"
        ),
        Example(
            sql="INSERT INTO shop.refunds VALUES (DEFAULT, 1042, 20, 'late', now())",
            finds=Verdict.AUTO,
            why="which column gets the 20?",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for write in case.statement.writes:
            if write.by_order:
                message = f"names no columns of {write.table}: its values go by their order in the table"
                yield self.finding(Verdict.AUTO, message, table=str(write.table))
