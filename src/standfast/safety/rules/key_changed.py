"""The rule `key.changed`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class ChangedKeys(Rule):
    id = "key.changed"
    verdict = Verdict.APPROVAL
    rationale = (
        "A row whose key changes is another row to everything that points to it: this holds for columns of primary, "
        "unique and foreign keys."
    )
    examples = (
        Example(sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042", why="no key changes"),
        Example(
            sql="UPDATE shop.orders SET customer_id = 8 WHERE id = 1042",
            finds=Verdict.APPROVAL,
            why="the order goes to another customer",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for write, relation in case.writes:
            if write.command != "update" or write.columns is None:
                continue
            for column in sorted(write.columns & relation.keys):
                name = f"{relation.full_name}.{column}"
                yield self.finding(Verdict.APPROVAL, f"changes the key column {name}", column=name)
