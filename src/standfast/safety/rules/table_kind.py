"""The rule `table.kind`."""

from collections.abc import Iterator

from standfast.report import Finding, RowCounts, Verdict
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule

_APPEND_ONLY = "tables: [{name: shop.support_history, writes: auto, block: [update, delete]}]"


class TableKinds(Rule):
    """Judges what the statement does with each table, then what cascades and triggers did there as well."""

    id = "table.kind"
    verdict = Verdict.BLOCK
    rationale = (
        "What a target allows as a rule is too much for some of its tables: a history is added to and never rewritten. "
        "Rows that cascades and triggers take away are gone all the same, so they count."
    )
    examples = (
        Example(
            sql="UPDATE shop.support_history SET text = $1 WHERE id = 1",
            params=("x",),
            finds=Verdict.BLOCK,
            why="the table's own `block` names update",
            constraints=_APPEND_ONLY,
        ),
        Example(
            sql="DELETE FROM shop.customers WHERE id = 1",
            finds=Verdict.BLOCK,
            why="a cascade deletes the customer's history",
            constraints=_APPEND_ONLY,
            setup="INSERT INTO shop.support_history (customer_id, text) VALUES (1, 'called')",
        ),
        Example(
            sql="INSERT INTO shop.support_history (customer_id, text) VALUES ($1, $2)",
            params=(1, "called"),
            why="insert is not named",
            constraints=_APPEND_ONLY,
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for table, kinds in sorted(_stated(case).items()):
            yield from self._judge(case, table, kinds, "")

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        stated = _stated(case)
        for table, counts in sorted(case.counted(effect).items()):
            yield from self._judge(case, table, _measured(counts) - stated.get(table, set()), ", by cascade or trigger")

    def _judge(self, case: Case, table: str, kinds: set[str], how: str) -> Iterator[Finding]:
        own = case.constraints.table(table)
        for kind in sorted(kinds):
            if kind in own.block:
                yield self.finding(Verdict.BLOCK, f"{kind} is not allowed on {table}{how}", table=table, kind=kind)
            elif kind in own.approval:
                yield self.finding(Verdict.APPROVAL, f"{kind} on {table}{how} needs a person", table=table, kind=kind)


def _stated(case: Case) -> dict[str, set[str]]:
    """Return what the statement itself does with each table that it names, those behind views included."""
    kinds: dict[str, set[str]] = {}
    for write, relation in case.writes:
        for table in relation.tables:
            kinds.setdefault(table, set()).add(write.command)
    reading = "explain" if case.statement.kind == "explain" else "select"
    for name in case.statement.reads & case.resolution.relations.keys():
        for table in case.resolution.relations[name].tables:
            kinds.setdefault(table, set()).add(reading)
    return kinds


def _measured(counts: RowCounts) -> set[str]:
    by_kind = {"insert": counts.inserted, "update": counts.updated, "delete": counts.deleted}
    return {kind for kind, rows in by_kind.items() if rows}
