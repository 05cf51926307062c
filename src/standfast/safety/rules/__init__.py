"""The rules: one file each. A rule looks at one operation and says what speaks against running it by itself."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

from standfast.safety.rules.case import Case, Example, Rule

__all__ = ["RULES", "Case", "Example", "Rule"]


def _rules() -> Iterator[Rule]:
    """Make one object of each rule that a module here defines."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for _, found in inspect.getmembers(import_module(module.name), inspect.isclass):
            if issubclass(found, Rule) and found.__module__ == module.name and found is not Rule:
                yield found()


RULES: tuple[Rule, ...] = tuple(sorted(_rules(), key=lambda rule: rule.id))
"""All rules, in the order in which their findings are shown."""
