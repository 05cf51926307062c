"""The rule `rows.limit`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule


class RowLimit(Rule):
    id = "rows.limit"
    verdict = Verdict.APPROVAL
    rationale = (
        "How many rows one operation may change, as measured and not as estimated. Above the lower limit a person "
        "decides, above the upper one nobody can look at the rows any more."
    )
    examples = (
        Example(
            sql="UPDATE shop.orders SET note = 'checked' WHERE id BETWEEN 1041 AND 1045",
            why="five rows are few enough in the sample shop",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'checked' WHERE id BETWEEN 1041 AND 1046",
            finds=Verdict.APPROVAL,
            why="six are not",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'checked' WHERE id > 1000",
            finds=Verdict.BLOCK,
            why="1200 are more than anybody looks at",
        ),
    )

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        limits = case.constraints.limits
        total = common = 0
        for table, counts in sorted(case.counted(effect).items()):
            own = case.constraints.table(table)
            yield from self._judge(
                counts.total, own.auto_rows_per_operation, own.approval_rows_per_operation, f" in {table}"
            )
            total += counts.total
            common += counts.total if own.auto_rows_per_operation is None else 0
        if total > limits.approval_rows_per_operation:
            yield from self._judge(total, None, limits.approval_rows_per_operation)
        else:
            yield from self._judge(common, limits.auto_rows_per_operation, None)

    def _judge(self, rows: int, auto: int | None, approval: int | None, where: str = "") -> Iterator[Finding]:
        if approval is not None and rows > approval:
            message = f"changes {rows} rows{where}, at most {approval} are allowed"
            yield self.finding(Verdict.BLOCK, message, rows=rows, limit=approval)
        elif auto is not None and rows > auto:
            message = f"changes {rows} rows{where}, above {auto} a person decides"
            yield self.finding(Verdict.APPROVAL, message, rows=rows, limit=auto)
