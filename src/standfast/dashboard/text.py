"""Text of others, made safe to read: what would be invisible or would reorder its surroundings is shown by name."""

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from standfast.characters import is_hidden
from standfast.domain import MASK

SHOWN_CHARACTERS = 400
"""A value longer than this is folded; nothing is left out."""

_SUSPECTS = re.compile(r"([^\x20-\x7e\n\t])\1*")
# The blocks of all that is written from right to left, or counts as if it were: Hebrew, Arabic and their like.
_LETTERS = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]+"
_RIGHT_TO_LEFT = re.compile(f"{_LETTERS}(?: {_LETTERS})*")


def visible(text: str) -> Markup:
    r"""Return `text` as HTML in which every character can be seen; runs of one hidden character are counted.

    Words that are written from right to left are isolated: else they would draw the numbers, quotes and commas between
    them along, and `('\u05d0', 100, 5, '\u05d1')` would show the 5 before the 100.

    >>> visible("a\u202eb")
    Markup('a<span class="codepoint" title="RIGHT-TO-LEFT OVERRIDE">U+202E</span>b')
    """
    parts: list[str] = []
    end = 0
    for run in _SUSPECTS.finditer(text):
        if is_hidden(run[1]):
            parts += [_isolated(text[end : run.start()]), _named(run[1], len(run[0]))]
            end = run.end()
    return Markup("").join([*parts, _isolated(text[end:])])


def _isolated(text: str) -> Markup:
    return Markup(_RIGHT_TO_LEFT.sub(r"<bdi>\g<0></bdi>", str(escape(text))))  # noqa: S704 - none of them is markup


def _named(character: str, times: int) -> Markup:
    name = unicodedata.name(character, "control character")
    count = f" \N{MULTIPLICATION SIGN}{times}" if times > 1 else ""
    return Markup('<span class="codepoint" title="{}">U+{:04X}{}</span>').format(name, ord(character), count)


def printed(value: Any) -> Any:
    """Make `visible` what a template prints, so that no text of others can be forgotten; attributes use `|e`."""
    return visible(str(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def json_value(value: Any) -> Markup:
    """Return a JSON value as HTML: NULL, an empty string and text that looks like them stay apart."""
    if value == MASK:
        return Markup('<span class="nothing" title="masked">{}</span>').format(MASK)
    if value is None:
        return Markup('<span class="nothing">NULL</span>')
    if value == "":
        return Markup('<span class="nothing">empty text</span>')
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= SHOWN_CHARACTERS:
        return visible(text)
    return Markup('<details class="long"><summary>{}… <b>all {:,} characters</b></summary>{}</details>').format(
        visible(text[:SHOWN_CHARACTERS]), len(text), visible(text)
    )


def parameter(value: Any) -> Markup:
    """Return a statement's parameter as the JSON that it is, quotes included."""
    return visible(json.dumps(value, ensure_ascii=False))


def moment(at: datetime) -> str:
    """Return a time for people, in UTC: `23 Nov 2026, 03:12:09 UTC`."""
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M:%S} UTC"


def age(at: datetime, now: datetime) -> str:
    """Return the time between `at` and `now`, rounded down: `12 s`, `3 min`, `5 h`, `9 d`. live.js counts on."""
    passed = max(now - at, timedelta())
    units = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))
    return next((f"{passed // size} {unit}" for unit, size in units if passed >= size), f"{passed.seconds} s")
