"""Large amounts are looked at."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from standfast.report import Finding
from standfast.safety.effect import OperationEffect
from standfast.safety.rules.case import Case, Rule


class ValueLimits(Rule):
    """Compares the new values of all measured rows with `values` of the constraints."""

    id = "value.limit"

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        for limit in case.constraints.values:
            values = (
                change.after[limit.column]
                for change in effect.rows
                if change.table == limit.table and change.after is not None and limit.column in change.after
            )
            above = [value for value in values if value is not None and _above(value, limit.above)]
            if above:
                name = f"{limit.table}.{limit.column}"
                message = f"{name} becomes {above[0]}, above {limit.above:g}"
                yield self.finding(limit.verdict, message, column=name, value=above[0], limit=limit.above)


def _above(value: object, limit: float) -> bool:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return True  # not a number: nothing says that it is small
    return number.is_nan() or number > Decimal(str(limit))
