"""The rule `column.protected`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.constraints import ColumnConstraint
from standfast.safety.effect import OperationEffect
from standfast.safety.grammar.statement import Write
from standfast.safety.resolution import Relation
from standfast.safety.rules.case import Case, Example, Rule

_PROTECTED = "columns: [{table: shop.orders, name: placed_at, protected: true}]"


class ProtectedColumns(Rule):
    """Judges the columns that the statement sets, then those that really changed, whatever changed them."""

    id = "column.protected"
    verdict = Verdict.BLOCK
    rationale = (
        "Some values are facts, such as when an order was placed or what was counted: a ticket may change the row, but "
        "never them. A cascade or a trigger that would is as bad as a statement."
    )
    examples = (
        Example(
            sql="UPDATE shop.orders SET placed_at = now() WHERE id = 1042",
            finds=Verdict.BLOCK,
            why="it sets the column",
            constraints=_PROTECTED,
        ),
        Example(
            sql="UPDATE shop.orders SET note = $1 WHERE id = 1042",
            params=("x",),
            finds=Verdict.BLOCK,
            why="a trigger sets the column",
            constraints=_PROTECTED,
            setup="""
                CREATE FUNCTION shop.restamp() RETURNS trigger LANGUAGE plpgsql
                    AS 'BEGIN NEW.placed_at = clock_timestamp(); RETURN NEW; END';
                CREATE TRIGGER restamp BEFORE UPDATE ON shop.orders
                    FOR EACH ROW EXECUTE FUNCTION shop.restamp();
            """,
        ),
        Example(
            sql="UPDATE shop.orders SET note = $1 WHERE id = 1042",
            params=("x",),
            why="it changes another column of the row",
            constraints=_PROTECTED,
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        writes = [] if case.takes_back else case.writes  # a row that was deleted gets back what it had
        for column in case.constraints.columns:
            if column.protected and any(_sets(write, relation, column) for write, relation in writes):
                yield self._judge(column, "is written")

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        changed = {
            (change.table, name)
            for change in effect.rows
            if change.before is not None and change.after is not None
            for name in change.after
        }
        for column in case.constraints.columns:
            if column.protected and (column.table, column.name) in changed:
                yield self._judge(column, "changes")

    def _judge(self, column: ColumnConstraint, what: str) -> Finding:
        name = f"{column.table}.{column.name}"
        return self.finding(Verdict.BLOCK, f"{name} {what}, and is protected", column=name)


def _sets(write: Write, relation: Relation, column: ColumnConstraint) -> bool:
    """Tell whether a write may set the column; through a view it may have another name."""
    if column.table not in relation.tables or write.command not in ("insert", "update"):
        return False
    if write.columns is None or column.name in write.columns:
        return True
    return write.command == "insert" and relation.shows(column.table, column.name)
