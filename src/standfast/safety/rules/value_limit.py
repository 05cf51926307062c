"""The rule `value.limit`."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from standfast.report import Finding, RowChange, Verdict
from standfast.safety.constraints import ValueConstraint
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Example, Rule


class ValueLimits(Rule):
    id = "value.limit"
    verdict = Verdict.APPROVAL
    rationale = (
        "Amounts that are out of the ordinary, and changes that are, are looked at: the values of all measured rows, "
        "before and after, are compared with `values` of the constraints, whatever has set them."
    )
    examples = (
        Example(
            sql="INSERT INTO shop.refunds (order_id, amount, reason) VALUES (1042, 20, 'late')",
            why="20 is below the sample shop's limit of 100",
        ),
        Example(
            sql="INSERT INTO shop.refunds (order_id, amount, reason) VALUES (1042, 150, 'lost')",
            finds=Verdict.APPROVAL,
            why="150 is above it",
        ),
        Example(
            sql="UPDATE shop.customers SET credit = credit + 30 WHERE id = 7",
            finds=Verdict.APPROVAL,
            why="measured, not read: the statement only says 30 more",
        ),
        Example(
            sql="UPDATE shop.customers SET credit = credit + 20 WHERE id = 7",
            constraints="values: [{table: shop.customers, column: credit, change_above: 10}]",
            finds=Verdict.APPROVAL,
            why="20 is little, but much for one change",
        ),
    )

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for limit in case.constraints.values:
            exceeding = (_exceeded(limit, change) for change in effect.rows if change.table == limit.table)
            said, evidence = next((found for found in exceeding if found is not None), ("", {}))
            if said:
                name = f"{limit.table}.{limit.column}"
                yield self.finding(limit.verdict, f"{name} {said}", column=name, **evidence)


def _exceeded(limit: ValueConstraint, change: RowChange) -> tuple[str, dict[str, Any]] | None:
    """Return which limit a row exceeds, in words and as evidence; None if it keeps all of them.

    What is not a number exceeds every limit: nothing says that it is small.
    """
    before, after = ((image or {}).get(limit.column) for image in (change.before, change.after))
    if before == after:
        return None
    old, new = _number(before), _number(after)
    if after is not None and limit.above is not None and (new is None or new > _number_of(limit.above)):
        return f"becomes {after}, above {limit.above:g}", {"value": after, "limit": limit.above}
    if after is not None and limit.below is not None and (new is None or new < _number_of(limit.below)):
        return f"becomes {after}, below {limit.below:g}", {"value": after, "limit": limit.below}
    most = limit.change_above
    if most is not None and (old is None or new is None or abs(new - old) > _number_of(most)):
        said = f"changes from {before} to {after}, by more than {most:g}"
        return said, {"before": before, "after": after, "limit": most}
    return None


def _number(value: object) -> Decimal | None:
    """Return a value of a row as a number, 0 for NULL, None for what is no number."""
    try:
        number = Decimal(str(0 if value is None else value))
    except InvalidOperation:
        return None
    return None if number.is_nan() else number


def _number_of(limit: float) -> Decimal:
    return Decimal(str(limit))
