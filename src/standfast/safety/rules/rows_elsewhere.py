"""The rule `rows.elsewhere`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule


class RowsElsewhere(Rule):
    id = "rows.elsewhere"
    verdict = Verdict.APPROVAL
    rationale = (
        "Rows that change in tables which the statement doesn't name surprise whoever only read the statement. "
        "They change by cascades, triggers, rules and functions; triggers may where the constraints say "
        "`trigger_writes: allowed`, as long as they take nothing away."
    )
    examples = (
        Example(
            sql="UPDATE shop.customers SET locked = false WHERE id = 13",
            why="the trigger's audit row is allowed for",
        ),
        Example(
            sql="DELETE FROM shop.customers WHERE id = 7",
            finds=Verdict.APPROVAL,
            why="takes addresses, orders and payments along",
        ),
    )

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for table, counts in sorted(case.counted(effect).items()):
            if table not in case.named_tables:
                message = f"changes {counts.total} rows in {table}, which the statement doesn't name"
                yield self.finding(Verdict.APPROVAL, message, table=table, rows=counts.total)
