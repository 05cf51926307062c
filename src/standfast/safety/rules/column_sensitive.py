"""The rule `column.sensitive`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.constraints import ColumnClass, ColumnConstraint
from standfast.safety.effect import OperationEffect
from standfast.safety.grammar.statement import Name
from standfast.safety.rules.case import Case, Example, Rule


class SensitiveColumns(Rule):
    """Goes by names, not by scopes: a name that could mean a sensitive column counts as meaning it."""

    id = "column.sensitive"
    verdict = Verdict.APPROVAL
    rationale = (
        "Secret columns are never read, in whatever disguise: `*`, a whole row, a view, a condition. "
        "Personal data and money are a person's business."
    )
    examples = (
        Example(sql="SELECT name, locked FROM shop.customers WHERE id = 7", why="names no sensitive column"),
        Example(
            sql="SELECT email FROM shop.customers WHERE id = 7", finds=Verdict.APPROVAL, why="personal data is read"
        ),
        Example(
            sql="SELECT id FROM shop.customers WHERE tax_id LIKE 'TAX-1%'",
            finds=Verdict.BLOCK,
            why="a condition on a secret tells what it is, guess by guess",
        ),
        Example(sql="SELECT to_jsonb(c) FROM shop.customers c", finds=Verdict.BLOCK, why="the row holds a secret"),
        Example(
            sql="UPDATE shop.customers SET locked = false WHERE id = 13 RETURNING *",
            finds=Verdict.APPROVAL,
            why="returns the secret of a row that it writes itself",
        ),
        Example(
            sql="UPDATE shop.payments_2026_h1 SET amount = 10 WHERE id = 1003",
            finds=Verdict.APPROVAL,
            why="a partition's money is the table's money",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for column in case.constraints.columns:
            if column.column_class is None:
                continue
            touched = any(relation.holds(column.table, column.name) for relation in case.relations)
            readable = touched and column.column_class is not ColumnClass.MONEY
            if readable and self._read(case, column):
                secret = column.column_class is ColumnClass.SECRET
                yield self._judge(Verdict.BLOCK if secret else Verdict.APPROVAL, column, "is read")
            elif readable and case.may_mean(case.statement.returned, column):
                yield self._judge(Verdict.APPROVAL, column, "is returned")
            if self._written(case, column):
                yield self._judge(Verdict.APPROVAL, column, "is written")

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for column in case.constraints.columns:
            changed = any(
                change.table == column.table and column.name in change.after
                for change in effect.rows
                if change.after is not None
            )
            if changed and column.column_class is not None and not self._written(case, column):
                yield self._judge(Verdict.APPROVAL, column, "is written")

    def _read(self, case: Case, column: ColumnConstraint) -> bool:
        through_view = any(relation.shows(column.table, column.name) for relation in case.relations)
        as_function = any(function.name == column.name for function in case.statement.functions)
        references = case.statement.columns
        if any(column.table in case.resolution.relations[name].tables for name in self._reads(case)):
            references = references | case.statement.returned  # not only the rows that the statement itself writes
        return through_view or as_function or case.may_mean(references, column)

    def _reads(self, case: Case) -> Iterator[Name]:
        return (name for name in case.statement.reads if name in case.resolution.relations)

    def _written(self, case: Case, column: ColumnConstraint) -> bool:
        return any(
            column.table in relation.tables
            and write.command in ("insert", "update")
            and (write.columns is None or column.name in write.columns)
            for write, relation in case.writes
        )

    def _judge(self, verdict: Verdict, column: ColumnConstraint, what: str) -> Finding:
        name = f"{column.table}.{column.name}"
        message = f"{column.column_class} column {name} {what}"
        return self.finding(verdict, message, column=name, column_class=column.column_class)
