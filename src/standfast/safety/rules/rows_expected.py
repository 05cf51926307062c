"""An operation that changes other rows than its author expected was misunderstood by its author."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Rule

_ROWS = frozenset({"insert", "update", "delete", "merge"})


class ExpectedRows(Rule):
    """Compares `expect_rows` with the measured rows of the named tables; says so if nothing changes at all."""

    id = "rows.expected"

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
