"""The rule `column.copied`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.constraints import ColumnClass
from standfast.safety.grammar.sources import Copy, copies
from standfast.safety.rules.case import Case, Example, Rule

_GUARDED = frozenset({ColumnClass.SECRET, ColumnClass.PII})


class CopiedColumns(Rule):
    id = "column.copied"
    verdict = Verdict.BLOCK
    rationale = (
        "Personal data that is copied into a column of no such class is seen from then on by everyone who may read "
        "that column: masks and rules no longer know it."
    )
    examples = (
        Example(
            sql="UPDATE shop.customers SET email = lower(email) WHERE id = 7",
            why="stays where it is; that it is personal says `column.sensitive`",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'vip' FROM shop.customers c WHERE c.id = customer_id AND c.email = $1",
            params=("kim.cedar.7@example.com",),
            why="finds the customer by it, and stores another text",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'to ' || c.email FROM shop.customers c WHERE c.id = customer_id",
            finds=Verdict.BLOCK,
            why="everyone who reads orders sees the address",
        ),
        Example(
            sql="INSERT INTO shop.support_history (customer_id, text) SELECT id, phone FROM shop.customers",
            finds=Verdict.BLOCK,
            why="so does everyone who reads the history",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        personal = [column for column in case.constraints.columns if column.column_class in _GUARDED]
        for copy in copies(case.statement):
            if not _open(case, copy):
                continue
            for column in personal:
                if any(r.holds(column.table, column.name) for r in case.relations) and case.may_mean(
                    [copy.reference], column
                ):
                    name = f"{column.table}.{column.name}"
                    message = (
                        f"copies {name} into {copy.table}.{copy.column or '*'}, which is not {column.column_class}"
                    )
                    yield self.finding(Verdict.BLOCK, message, column=name, into=f"{copy.table}.{copy.column or '*'}")


def _open(case: Case, copy: Copy) -> bool:
    """Tell whether nothing guards what is stored there."""
    relation = case.resolution.relations.get(copy.table)
    guarded = {
        column.name
        for column in case.constraints.columns
        if relation is not None and column.table in relation.tables and column.column_class in _GUARDED
    }
    return copy.column not in guarded if copy.column is not None else not guarded
