"""Characters that can't be seen: in others' text they would reorder a page, hide words, or steer a terminal."""

import re
import unicodedata

_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
# Letters and marks that have no ink: fillers, joiners, variation selectors.
_INKLESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def is_hidden(character: str) -> bool:
    """Tell whether a character leaves no ink; white space between words does not count."""
    return unicodedata.category(character) in _CATEGORIES or bool(_INKLESS.match(character))
