"""Rows that change in tables which the statement doesn't name surprise whoever only read the statement."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Rule


class RowsElsewhere(Rule):
    """Cascades, triggers, rules and functions, unless the constraints allow triggers to write there."""

    id = "rows.elsewhere"

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for table, counts in sorted(case.counted(effect).items()):
            if table not in case.named_tables:
                message = f"changes {counts.total} rows in {table}, which the statement doesn't name"
                yield self.finding(Verdict.APPROVAL, message, table=table, rows=counts.total)
