"""Each table has its own verdict on writes; a protected one is never written, whatever the way there."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Rule

_OURS = "standfast."


class TableWrites(Rule):
    """Judges the tables that the statement names, then those whose rows really changed."""

    id = "table.writes"

    def before(self, case: Case) -> Iterator[Finding]:
        for table in sorted(case.named_tables):
            yield from self._judge(case, table)

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for table in sorted(set(case.counted(effect)) - case.named_tables):
            yield from self._judge(case, table)

    def _judge(self, case: Case, table: str) -> Iterator[Finding]:
        verdict = case.constraints.writes(table)
        if table.startswith(_OURS):
            yield self.finding(Verdict.BLOCK, f"{table} is Standfast's own record of what it did", table=table)
        elif verdict is Verdict.BLOCK:
            why = "is protected" if case.constraints.protected(table) else "may not be written"
            yield self.finding(Verdict.BLOCK, f"{table} {why}", table=table)
        elif verdict is Verdict.APPROVAL:
            yield self.finding(Verdict.APPROVAL, f"writes to {table} need a person", table=table)
