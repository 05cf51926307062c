"""The server's own counters are held against the images of the rows."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule


class RowCounters(Rule):
    """Every image stands for a write, so more images than writes can't be."""

    id = "rows.counters"
    verdict = Verdict.APPROVAL
    rationale = (
        "The rows that a report shows were found by looking at them; the server counts its writes by itself. Where it "
        "has counted less than was found, something has taken its counters away, as TRUNCATE does, and the report may "
        "not be the whole truth. Where it has counted more, rows were written more than once: that is only said."
    )
    examples = (
        Example(
            sql="UPDATE shop.products SET stock = stock + 1 WHERE id = 1",
            finds=Verdict.AUTO,
            setup="""
                CREATE FUNCTION shop.round_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    UPDATE shop.products SET stock = stock + 1 WHERE id = NEW.id AND stock % 2 = 1; RETURN NULL;
                END $$;
                CREATE TRIGGER round_up AFTER UPDATE ON shop.products FOR EACH ROW EXECUTE FUNCTION shop.round_up();
                UPDATE shop.products SET stock = 2 WHERE id = 1;
            """,
            why="a trigger writes the row once more: one row changes by two writes",
        ),
        Example(sql="UPDATE shop.products SET stock = 5 WHERE id = 1", why="one row changes by one write"),
    )

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        del case
        for table, counts in sorted(effect.counts.items()):
            counted = effect.counted.get(table, counts)
            if counted.total < counts.total:
                message = f"the server counted {counted.total} writes in {table}, but {counts.total} rows changed"
                yield self.finding(Verdict.APPROVAL, message, table=table, counted=counted.total, rows=counts.total)
            elif counted.total > counts.total:
                message = f"{counts.total} rows of {table} changed by {counted.total} writes"
                yield self.finding(Verdict.AUTO, message, table=table, counted=counted.total, rows=counts.total)
