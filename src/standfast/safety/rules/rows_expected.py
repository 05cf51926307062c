"""The rule `rows.expected`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule

_ROWS = frozenset({"insert", "update", "delete", "merge"})


class ExpectedRows(Rule):
    id = "rows.expected"
    verdict = Verdict.BLOCK
    rationale = (
        "An operation that changes other rows than its author expected was misunderstood by its author: the measured "
        "rows of the named tables have to be `expect_rows`. Without it, no row at all is worth a remark."
    )
    examples = (
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            operation={"expect_rows": 1},
            why="one row was expected, and one it is",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id IN (1042, 1043)",
            operation={"expect_rows": 1},
            finds=Verdict.BLOCK,
            why="two rows instead of one; the agent may plan again",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 9",
            finds=Verdict.AUTO,
            why="there is no order 9: the ticket may have been misunderstood",
        ),
    )

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        if not _ROWS & case.kinds:
            return
        rows = sum(counts.total for table, counts in effect.counts.items() if table in case.named_tables)
        expected = case.operation.expect_rows
        if expected is not None and rows != expected:
            message = f"changes {rows} rows of the named table, the plan expects {expected}"
            yield self.finding(Verdict.BLOCK, message, mendable=True, rows=rows, expected=expected)
        elif rows == 0 and expected is None:
            yield self.finding(Verdict.AUTO, "changes no row: the ticket may have been misunderstood", rows=0)
