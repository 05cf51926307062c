"""The rule `statement.kind`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class StatementKinds(Rule):
    id = "statement.kind"
    verdict = Verdict.BLOCK
    rationale = (
        "Only kinds of statements that the constraints name may run; no other can be rehearsed, shown and taken back. "
        "A kind under `statements.auto` is automatic, one under `approval` needs a person, any other is blocked."
    )
    examples = (
        Example(sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042", why="the sample shop allows UPDATE"),
        Example(
            sql="DELETE FROM shop.orders WHERE id = 1042", finds=Verdict.APPROVAL, why="it wants a person for DELETE"
        ),
        Example(
            sql="DELETE FROM shop.addresses WHERE id = 7",
            constraints="tables: [{name: shop.addresses, auto: [delete]}]",
            why="lifted to automatic for this table",
        ),
        Example(
            sql="WITH gone AS (DELETE FROM shop.refunds WHERE id = 1 RETURNING id) SELECT id FROM gone",
            finds=Verdict.APPROVAL,
            why="a SELECT that deletes is a DELETE",
        ),
        Example(sql="DROP TABLE shop.orders", finds=Verdict.BLOCK, why="not named, so not allowed"),
        Example(sql="COMMIT", finds=Verdict.BLOCK, why="would escape the transaction"),
    )

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
