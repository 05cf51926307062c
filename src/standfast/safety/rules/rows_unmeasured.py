"""What could not be looked at row by row can't be approved by itself."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Rule


class UnmeasuredRows(Rule):
    """Tables without a primary key, and tables or changes too large for images: their rows are only counted."""

    id = "rows.unmeasured"

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        del case
        for table in effect.unmeasured:
            message = f"rows of {table} are counted but not shown: it has no primary key, or is too large"
            yield self.finding(Verdict.APPROVAL, message, table=table)
