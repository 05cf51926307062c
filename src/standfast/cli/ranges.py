"""Numbers of the command line that have to be in a range."""

import math
from typing import Any

import click


class Range(click.FloatRange):
    """As click's own, which takes NaN for a number in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; whatever is none, or is out of the range, fails as wrong usage."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number
