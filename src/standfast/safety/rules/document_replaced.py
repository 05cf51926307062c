"""Replacing a whole document or list loses what else stood in it."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Rule


class ReplacedDocuments(Rule):
    """An UPDATE of a json, jsonb or array column that doesn't build on the column's present value."""

    id = "document.replaced"

    def before(self, case: Case) -> Iterator[Finding]:
        for write, relation in case.writes:
            if write.command != "update" or write.columns is None:
                continue
            for column in sorted(write.columns - write.rebuilt):
                kind = relation.columns.get(column, "")
                if kind in ("json", "jsonb") or kind.endswith("[]"):
                    name = f"{relation.full_name}.{column}"
                    yield self.finding(Verdict.APPROVAL, f"replaces the whole {kind} value of {name}", column=name)
