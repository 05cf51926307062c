"""The rule `document.replaced`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class ReplacedDocuments(Rule):
    id = "document.replaced"
    verdict = Verdict.APPROVAL
    rationale = (
        "Replacing a whole document or list loses what else stands in it. "
        "An UPDATE of a json, jsonb or array column that builds on the present value only changes a part."
    )
    examples = (
        Example(
            sql="""UPDATE shop.customers SET preferences = preferences || '{"newsletter": false}' WHERE id = 7""",
            why="changes one part of the document",
        ),
        Example(
            sql="""UPDATE shop.customers SET preferences = '{"newsletter": false}' WHERE id = 7""",
            finds=Verdict.APPROVAL,
            why="the customer's language is lost",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for write, relation in case.writes:
            if write.command != "update" or write.columns is None:
                continue
            for column in sorted(write.columns - write.rebuilt):
                kind = relation.columns.get(column, "")
                if kind in ("json", "jsonb") or kind.endswith("[]"):
                    name = f"{relation.full_name}.{column}"
                    yield self.finding(Verdict.APPROVAL, f"replaces the whole {kind} value of {name}", column=name)
