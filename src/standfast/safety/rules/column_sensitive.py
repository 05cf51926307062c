"""Sensitive columns: secret ones are never read, personal ones and money are a person's business."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.constraints import ColumnClass, ColumnConstraint
from standfast.safety.effect import OperationEffect
from standfast.safety.parsing import Name
from standfast.safety.resolution import Relation
from standfast.safety.rules.case import Case, Rule


class SensitiveColumns(Rule):
    """Goes by names, not by scopes: a name that could mean a sensitive column counts as meaning it."""

    id = "column.sensitive"

    def before(self, case: Case) -> Iterator[Finding]:
        relations = self._named(case)
        for column in case.constraints.columns:
            if column.column_class is None:
                continue
            touching = [relation for relation in relations if relation.holds(column.table, column.name)]
            readable = bool(touching) and column.column_class is not ColumnClass.MONEY
            if readable and self._read(case, column, touching):
                secret = column.column_class is ColumnClass.SECRET
                yield self._judge(Verdict.BLOCK if secret else Verdict.APPROVAL, column, "is read")
            elif readable and self._means(case, case.statement.returned, column, touching):
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

    def _named(self, case: Case) -> list[Relation]:
        names = case.statement.reads | {write.table for write in case.statement.writes}
        return [case.resolution.relations[name] for name in names if name in case.resolution.relations]

    def _read(self, case: Case, column: ColumnConstraint, touching: list[Relation]) -> bool:
        through_view = any(relation.shows(column.table, column.name) for relation in touching)
        as_function = any(function.name == column.name for function in case.statement.functions)
        references = case.statement.columns
        if any(column.table in case.resolution.relations[name].tables for name in self._reads(case)):
            references = references | case.statement.returned  # not only the rows that the statement itself writes
        return through_view or as_function or self._means(case, references, column, touching)

    def _reads(self, case: Case) -> Iterator[Name]:
        return (name for name in case.statement.reads if name in case.resolution.relations)

    def _means(
        self, case: Case, references: set[tuple[str, ...]], column: ColumnConstraint, touching: list[Relation]
    ) -> bool:
        """Tell whether a reference may mean the column: by its name, by `*`, or by the row as a whole."""
        known = case.resolution.relations
        rows = {alias for alias, name in case.statement.named if name in known and known[name] in touching}
        rows |= case.statement.aliases
        for parts in references:
            meant = case.meant_by(parts[-2]) if len(parts) > 1 else None
            if meant is not None:
                if parts[-1] in (column.name, "*") and any(relation in touching for relation in meant):
                    return True
            elif column.name in parts or parts[-1] == "*" or parts[-1] in rows:
                return True
        return False

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
