"""Only kinds of statements that the constraints name may run; no other can be rehearsed, shown and taken back."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Rule


class StatementKinds(Rule):
    """A kind under `statements.auto` is automatic, one under `approval` needs a person, any other is blocked."""

    id = "statement.kind"

    def before(self, case: Case) -> Iterator[Finding]:
        allowed = case.constraints.statements
        for kind in sorted(case.kinds):
            if kind in allowed.auto or self._lifted(case, kind):
                continue
            if kind in allowed.approval:
                yield self.finding(Verdict.APPROVAL, f"{kind} needs a person on this target", kind=kind)
            else:
                yield self.finding(Verdict.BLOCK, f"{kind} is not allowed on this target", kind=kind)

    def _lifted(self, case: Case, kind: str) -> bool:
        """Tell whether every table that is written this way lifts the kind to automatic."""
        written = [relation.root for write, relation in case.writes if kind in (write.command, case.statement.kind)]
        return bool(written) and all(kind in case.constraints.table(table).auto for table in written)
