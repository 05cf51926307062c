"""The rule `freeze`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
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
            sql="SELECT shop.gift(1042)",
            constraints="freezes: [{from: 2020-01-01, to: 2100-01-01, verdict: block}]",
            setup="CREATE FUNCTION shop.gift(number integer) RETURNS void LANGUAGE sql AS"
            " 'UPDATE shop.orders SET note = ''gift'' WHERE id = number'",
            finds=Verdict.BLOCK,
            why="a function writes",
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
        if case.statement.writes:
            yield from self._judge(case)

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        if effect.counts and not case.statement.writes:  # a function did
            yield from self._judge(case)

    def _judge(self, case: Case) -> Iterator[Finding]:
        for freeze in case.constraints.freezes:
            if freeze.start <= case.now < freeze.end:
                message = f"{freeze.reason or 'freeze'}, until {freeze.end.isoformat()}"
                yield self.finding(freeze.verdict, message, until=freeze.end.isoformat())
