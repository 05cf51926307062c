"""A row whose key changes is another row to everything that points to it."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Rule


class ChangedKeys(Rule):
    """An UPDATE that sets a column of a primary, unique or foreign key."""

    id = "key.changed"

    def before(self, case: Case) -> Iterator[Finding]:
        for write, relation in case.writes:
            if write.command != "update" or write.columns is None:
                continue
            for column in sorted(write.columns & relation.keys):
                name = f"{relation.full_name}.{column}"
                yield self.finding(Verdict.APPROVAL, f"changes the key column {name}", column=name)
