"""In a freeze, changes wait for people."""

from collections.abc import Iterator

from standfast.report import Finding
from standfast.safety.rules.case import Case, Rule


class Freezes(Rule):
    """Holds for statements that write; the time is that of the validation."""

    id = "freeze"

    def before(self, case: Case) -> Iterator[Finding]:
        if not case.statement.writes:
            return
        for freeze in case.constraints.freezes:
            if freeze.start <= case.now < freeze.end:
                message = f"{freeze.reason or 'freeze'}, until {freeze.end.isoformat()}"
                yield self.finding(freeze.verdict, message, until=freeze.end.isoformat())
