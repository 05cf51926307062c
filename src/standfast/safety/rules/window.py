"""The rule `window`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule


class Windows(Rule):
    """Holds for what writes, by whatever way, if there are windows at all; the time is that of the validation."""

    id = "window"
    verdict = Verdict.APPROVAL
    rationale = (
        "Some databases are changed at quiet hours only, when somebody is there to look after them. A write at another "
        "time needs a person who says that it can't wait."
    )
    examples = (
        Example(
            sql="UPDATE shop.orders SET note = $1 WHERE id = 1042",
            params=("x",),
            finds=Verdict.BLOCK,
            why="the only window lasts a minute a week, in a time zone without people",
            constraints='windows: [{days: [mon], from: "03:00", to: "03:01", timezone: Etc/GMT+12, verdict: block}]',
        ),
        Example(
            sql="UPDATE shop.orders SET note = $1 WHERE id = 1042",
            params=("x",),
            why="the window is always open",
            constraints='windows: [{from: "00:00", to: "00:00"}]',
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        if case.statement.writes:
            yield from self._judge(case)

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        if effect.counts and not case.statement.writes:  # a function did
            yield from self._judge(case)

    def _judge(self, case: Case) -> Iterator[Finding]:
        windows = case.constraints.windows
        if not windows or any(window.is_open(case.now) for window in windows):
            return
        message = f"{case.now:%a %H:%M} UTC is outside of the windows in which this target is changed"
        yield self.finding(Verdict.worst(window.verdict for window in windows), message, at=case.now.isoformat())
