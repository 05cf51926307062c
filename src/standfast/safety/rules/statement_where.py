"""An UPDATE or DELETE without WHERE means all rows, which is hardly ever meant."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Rule


class WhereRequired(Rule):
    """Holds for each UPDATE and DELETE of the statement, those in its WITH included."""

    id = "statement.where"

    def before(self, case: Case) -> Iterator[Finding]:
        for write in case.statement.writes:
            if not write.has_where:
                message = f"{write.command} of {write.table} has no WHERE: it means every row"
                yield self.finding(Verdict.BLOCK, message, mendable=True, table=str(write.table))
            elif write.means_all:
                message = f"the condition of the {write.command} of {write.table} holds for every row"
                yield self.finding(Verdict.APPROVAL, message, table=str(write.table))
