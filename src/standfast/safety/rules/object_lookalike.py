"""The rule `object.lookalike`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class Lookalikes(Rule):
    id = "object.lookalike"
    verdict = Verdict.AUTO
    rationale = (
        "Letters and spaces outside of ASCII may look like others: a name with one is spelt out, so that nobody takes "
        "it for the name that it resembles."
    )
    examples = (
        Example(sql="SELECT o.note AS remark FROM shop.orders o WHERE o.id = 1042", why="plain letters"),
        Example(
            sql="SELECT n\u043ete FROM shop.notes",
            setup="CREATE TABLE shop.notes (note text, n\u043ete text)",
            finds=Verdict.AUTO,
            why="not `note`: its second letter is Cyrillic",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for name in sorted(name for name in _names(case) if not name.isascii()):
            yield self.finding(Verdict.AUTO, f"the name {name} is spelt {name!a}", name=name)


def _names(case: Case) -> set[str]:
    statement = case.statement
    objects = statement.reads | statement.functions | {write.table for write in statement.writes}
    names = {part for name in objects for part in (name.schema, name.name) if part is not None}
    names |= {part for reference in statement.columns | statement.returned for part in reference}
    names |= {column for write in statement.writes for column in write.columns or ()}
    return names | statement.with_names | statement.aliases | {alias for alias, _ in statement.named}
