"""The rule `freeze`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class Freezes(Rule):
    """The time is that of the validation."""

    id = "freeze"
    verdict = Verdict.APPROVAL
    rationale = "In a freeze changes wait for people, or are not made at all, as `freezes` of the constraints say."
    examples = (
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            constraints="freezes: [{from: 2020-01-01, to: 2100-01-01, reason: stocktaking}]",
            finds=Verdict.APPROVAL,
            why="writes while the freeze lasts",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            constraints="freezes: [{from: 2020-01-01, to: 2100-01-01, verdict: block}]",
            finds=Verdict.BLOCK,
            why="this freeze knows no exceptions",
        ),
        Example(
            sql="SELECT note FROM shop.orders WHERE id = 1042",
            constraints="freezes: [{from: 2020-01-01, to: 2100-01-01}]",
            why="reading is no change",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            constraints="freezes: [{from: 2020-01-01, to: 2020-01-08}]",
            why="the freeze is over",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        if not case.statement.writes:
            return
        for freeze in case.constraints.freezes:
            if freeze.start <= case.now < freeze.end:
                message = f"{freeze.reason or 'freeze'}, until {freeze.end.isoformat()}"
                yield self.finding(freeze.verdict, message, until=freeze.end.isoformat())
