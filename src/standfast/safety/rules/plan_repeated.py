"""The rule `plan.repeated`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class RepeatedOperations(Rule):
    id = "plan.repeated"
    verdict = Verdict.APPROVAL
    rationale = "The same change twice in one plan is a mistake more often than not: it refunds twice, credits twice."
    examples = (
        Example(
            sql="UPDATE shop.customers SET credit = credit + 5 WHERE id = 8",
            earlier=("UPDATE shop.customers SET credit = credit + 5 WHERE id = 7",),
            why="another customer",
        ),
        Example(
            sql="SELECT note FROM shop.orders WHERE id = 1042",
            earlier=("SELECT note FROM shop.orders WHERE id = 1042",),
            why="reading twice changes nothing",
        ),
        Example(
            sql="UPDATE shop.customers SET credit = credit + 5 WHERE id = 7",
            earlier=("UPDATE shop.customers SET credit = credit + 5 WHERE id = 7",),
            finds=Verdict.APPROVAL,
            why="10 instead of 5",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        same = [(earlier.sql, earlier.params) for earlier in case.earlier]
        if case.statement.writes and (case.operation.sql, case.operation.params) in same:
            earlier = same.index((case.operation.sql, case.operation.params))
            yield self.finding(Verdict.APPROVAL, f"the same as operation {earlier} of this plan", earlier=earlier)
