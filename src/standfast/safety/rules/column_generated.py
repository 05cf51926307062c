"""The rule `column.generated`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class GeneratedColumns(Rule):
    id = "column.generated"
    verdict = Verdict.APPROVAL
    rationale = (
        "Values that the server makes itself, such as ids, are not made up by others: a given one collides with a "
        "later one, or passes for it. The server refuses them unless the statement insists."
    )
    examples = (
        Example(
            sql="INSERT INTO shop.coupons (code) VALUES ('HELLO')",
            setup="CREATE TABLE shop.coupons (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text)",
            why="the server makes the id",
        ),
        Example(
            sql="INSERT INTO shop.coupons (id, code) OVERRIDING SYSTEM VALUE VALUES (2, 'HELLO')",
            setup="CREATE TABLE shop.coupons (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text)",
            finds=Verdict.APPROVAL,
            why="insists on an id that the server will make once more",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for write, relation in case.writes:
            given = relation.identities if write.columns is None else relation.identities & write.columns
            for column in sorted(given) if write.overriding else ():
                name = f"{relation.full_name}.{column}"
                yield self.finding(Verdict.APPROVAL, f"gives {name} a value that the server makes itself", column=name)
