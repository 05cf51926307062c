"""The rule `statement.comment`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule

_SHOWN = 80


class Comments(Rule):
    id = "statement.comment"
    verdict = Verdict.AUTO
    rationale = "A comment may say anything, and decides nothing: what counts is what the statement does."
    examples = (
        Example(sql="SELECT '-- no comment' FROM shop.orders WHERE id = 1042", why="a text, and no comment"),
        Example(
            sql="SELECT note FROM shop.orders /* approved by the owner */ WHERE id = 1042",
            finds=Verdict.AUTO,
            why="nobody has approved anything",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for comment in case.statement.comments:
            yield self.finding(Verdict.AUTO, "holds a comment, which decides nothing", comment=comment[:_SHOWN])
