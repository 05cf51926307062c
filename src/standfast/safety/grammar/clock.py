"""The functions and the words that PostgreSQL reads the clock for."""

import re
from typing import Any

CLOCKS = frozenset({"age", "clock_timestamp", "now", "statement_timestamp", "timeofday", "transaction_timestamp"})
_CLOCK_WORD = re.compile(r"[\W\d]*(?:now|today|tomorrow|yesterday)\b[\W\d]*[a-z/_]*", re.IGNORECASE)


def names_time(value: Any) -> bool:
    """Tell whether PostgreSQL would read the text as a time that depends on the clock, such as `yesterday 10:00`."""
    return isinstance(value, str) and _CLOCK_WORD.fullmatch(value) is not None
