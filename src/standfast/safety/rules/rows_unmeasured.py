"""What could not be looked at row by row can't be approved by itself."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Rule

_LOCKING = frozenset({"add_column", "create_index"})


class UnmeasuredRows(Rule):
    """Tables without a primary key or too large for images: rows are only counted. Emptied tables: not even that."""

    id = "rows.unmeasured"

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for table in sorted(set(effect.locked) - (case.named_tables if case.statement.kind in _LOCKING else set())):
            message = (
                f"locks {table} against everybody, as TRUNCATE and ALTER TABLE do: what becomes of it is not counted"
            )
            yield self.finding(Verdict.BLOCK, message, table=table)
        for table in sorted(case.counted(effect).keys() & set(effect.unmeasured)):
            message = (
                f"rows of {table} are counted but not shown: it has no primary key, is too large, or may not be read"
            )
            yield self.finding(Verdict.APPROVAL, message, table=table)
