"""The rule `predicate.required`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.constraints import Predicate
from standfast.safety.grammar.statement import Write
from standfast.safety.resolution import Relation
from standfast.safety.rules.case import Case, Example, Rule

_BY_CUSTOMER = "predicates: [{table: shop.subscriptions, columns: [customer_id]}]"


class RequiredPredicates(Rule):
    """Goes by the text of the statement: what it says, it keeps to, whatever rows there are."""

    id = "predicate.required"
    verdict = Verdict.BLOCK
    rationale = (
        "Where one table holds the rows of many tenants, a wrong key in a WHERE reaches a stranger's row. If the key "
        "of the tenant must stand beside it (`predicates`), the two fit each other, or nothing changes. Reading is not "
        "restricted."
    )
    examples = (
        Example(
            sql="UPDATE shop.subscriptions SET status = $1 WHERE id = $2",
            params=("paused", 1),
            finds=Verdict.BLOCK,
            why="nothing says whose subscription it is",
            constraints=_BY_CUSTOMER,
        ),
        Example(
            sql="UPDATE shop.subscriptions SET status = $1 WHERE id = $2 OR customer_id = $3",
            params=("paused", 1, 1),
            finds=Verdict.BLOCK,
            why="beside OR the condition holds nothing",
            constraints=_BY_CUSTOMER,
        ),
        Example(
            sql="UPDATE shop.subscriptions SET status = $1 WHERE id = $2 AND customer_id = $3",
            params=("paused", 1, 1),
            why="the customer is given",
            constraints=_BY_CUSTOMER,
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for write, relation in () if case.takes_back else case.writes:
            for predicate in case.constraints.predicates:
                if write.command in ("insert", "update", "delete") and predicate.table in relation.tables:
                    yield from self._judge(write, relation, predicate)

    def _judge(self, write: Write, relation: Relation, predicate: Predicate) -> Iterator[Finding]:
        table = predicate.table
        if relation.root != table:
            message = f"{table} is written through {relation.full_name}: name the table itself"
            yield self.finding(Verdict.BLOCK, message, mendable=True, table=table)
            return
        for column in sorted(set(predicate.columns) - write.pinned):
            needs = (
                f"give {column} a value in each row" if write.command == "insert" else f"say {column} = a value, by AND"
            )
            message = f"the {write.command} of {table} must {needs}"
            yield self.finding(Verdict.BLOCK, message, mendable=True, table=table, column=column)
