"""The rule `table.writes`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule

_OURS = "standfast."


class TableWrites(Rule):
    id = "table.writes"
    verdict = Verdict.APPROVAL
    rationale = (
        "Each table has its own verdict on writes; a protected one is never written, whatever the way there. "
        "Judged are the tables that the statement names, then those whose rows really changed."
    )
    examples = (
        Example(sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042", why="orders may be written"),
        Example(
            sql="UPDATE shop.products SET stock = 3 WHERE id = 5",
            finds=Verdict.APPROVAL,
            why="products are not named, and the default is a person",
        ),
        Example(sql="UPDATE shop.staff SET role = 'admin' WHERE id = 2", finds=Verdict.BLOCK, why="staff is protected"),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            setup="""
                CREATE FUNCTION shop.promote() RETURNS trigger LANGUAGE plpgsql
                    AS $$ BEGIN UPDATE shop.staff SET role = 'admin' WHERE id = 2; RETURN NULL; END $$;
                CREATE TRIGGER promote AFTER UPDATE ON shop.orders
                    FOR EACH STATEMENT EXECUTE FUNCTION shop.promote()
            """,
            finds=Verdict.BLOCK,
            why="its trigger writes to the protected table",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for table in sorted(case.named_tables):
            yield from self._judge(case, table)

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for table in sorted(set(case.counted(effect)) - case.named_tables):
            yield from self._judge(case, table)

    def _judge(self, case: Case, table: str) -> Iterator[Finding]:
        verdict = case.constraints.writes(table)
        if table.startswith(_OURS):
            yield self.finding(Verdict.BLOCK, f"{table} is Standfast's own record of what it did", table=table)
        elif verdict is Verdict.BLOCK:
            why = "is protected" if case.constraints.protected(table) else "may not be written"
            yield self.finding(Verdict.BLOCK, f"{table} {why}", table=table)
        elif verdict is Verdict.APPROVAL:
            yield self.finding(Verdict.APPROVAL, f"writes to {table} need a person", table=table)
