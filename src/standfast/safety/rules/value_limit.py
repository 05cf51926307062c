"""Amounts that are out of the ordinary, and changes that are, are looked at."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from standfast.report import Finding, RowChange
from standfast.safety.constraints import ValueConstraint
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Rule


class ValueLimits(Rule):
    """Compares the values of all measured rows, before and after, with `values` of the constraints."""

    id = "value.limit"

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
