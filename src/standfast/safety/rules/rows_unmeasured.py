"""The rule `rows.unmeasured`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule

_LOCKING = frozenset({"add_column", "create_index"})


class UnmeasuredRows(Rule):
    id = "rows.unmeasured"
    verdict = Verdict.APPROVAL
    rationale = (
        "What could not be looked at row by row is not approved by itself: tables without a primary key, too large or "
        "not readable are only counted. What becomes of emptied tables is not even counted, so they are blocked."
    )
    examples = (
        Example(sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042", why="each row is shown"),
        Example(
            sql="UPDATE shop.flags SET name = 'closed' WHERE name = 'open'",
            setup="CREATE TABLE shop.flags (name text); INSERT INTO shop.flags VALUES ('open')",
            finds=Verdict.APPROVAL,
            why="without a primary key nothing tells its rows apart",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            setup="""
                CREATE TABLE shop.carts (id integer PRIMARY KEY);
                CREATE FUNCTION shop.empty_carts() RETURNS trigger LANGUAGE plpgsql
                    AS $$ BEGIN TRUNCATE shop.carts; RETURN NULL; END $$;
                CREATE TRIGGER empty_carts AFTER UPDATE ON shop.orders
                    FOR EACH STATEMENT EXECUTE FUNCTION shop.empty_carts()
            """,
            finds=Verdict.BLOCK,
            why="its trigger empties a table",
        ),
    )

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for table in sorted(set(effect.locked) - (case.named_tables if case.statement.kind in _LOCKING else set())):
            message = (
                f"locks {table} against everybody, as TRUNCATE and ALTER TABLE do: what becomes of it is not counted"
            )
            yield self.finding(Verdict.BLOCK, message, table=table)
        for table in sorted(case.counted(effect).keys() & set(effect.unmeasured)):
            message = (
                f"rows of {table} are counted but not shown: it has no primary key, is too large, or may not be read"
            )
            yield self.finding(Verdict.APPROVAL, message, table=table)
