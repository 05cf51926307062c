"""A statement that may choose other rows each time it runs is not the one that was looked at."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.parsing import names_time
from standfast.safety.rules.case import Case, Rule


class UnstableRows(Rule):
    """A write that depends on LIMIT or the clock, and any statement that locks rows."""

    id = "rows.unstable"

    def before(self, case: Case) -> Iterator[Finding]:
        if case.statement.writes and case.statement.limited:
            yield self.finding(Verdict.APPROVAL, "LIMIT or OFFSET chooses the rows: it may choose others next time")
        if case.statement.writes and (case.statement.clocked or any(map(names_time, case.operation.params))):
            yield self.finding(Verdict.APPROVAL, "the clock chooses the rows: it may choose others next time")
        if case.statement.locks_rows:
            yield self.finding(Verdict.APPROVAL, "locks rows until the end of the plan")
