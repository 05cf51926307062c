"""How many rows one operation may change, as measured and not as estimated."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Rule


class RowLimit(Rule):
    """Above the lower limit a person decides, above the upper one nobody can look at the rows any more."""

    id = "rows.limit"

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        rows = sum(counts.total for counts in case.counted(effect).values())
        limits = case.constraints.limits
        if rows > limits.approval_rows_per_operation:
            message = f"changes {rows} rows, at most {limits.approval_rows_per_operation} are allowed"
            yield self.finding(Verdict.BLOCK, message, rows=rows, limit=limits.approval_rows_per_operation)
        elif rows > limits.auto_rows_per_operation:
            message = f"changes {rows} rows, above {limits.auto_rows_per_operation} a person decides"
            yield self.finding(Verdict.APPROVAL, message, rows=rows, limit=limits.auto_rows_per_operation)
