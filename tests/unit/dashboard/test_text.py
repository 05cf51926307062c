"""Text of others on a page: nothing in it is unseen, and none of it moves what stands around it."""

import sys
import unicodedata

import pytest

from standfast.characters import is_hidden
from standfast.dashboard.text import json_value, parameter, visible

# Written from right to left, or numbers that count as such for what stands between them (Unicode Annex 9).
RIGHT_TO_LEFT = {"R", "AL", "AN"}


def test_every_letter_written_from_right_to_left_is_isolated_from_what_stands_around_it() -> None:
    letters = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.bidirectional(character) in RIGHT_TO_LEFT and not is_hidden(character)
    ]
    assert len(letters) > 1000
    assert [letter for letter in letters if visible(letter) != f"<bdi>{letter}</bdi>"] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("VALUES (\u05d0, 100, 5, \u05d1)", "VALUES (<bdi>\u05d0</bdi>, 100, 5, <bdi>\u05d1</bdi>)"),
        ("\u0661, \u0662", "<bdi>\u0661</bdi>, <bdi>\u0662</bdi>"),
        ("\u05e9\u05dc\u05d5\u05dd \u05dc\u05da!", "<bdi>\u05e9\u05dc\u05d5\u05dd \u05dc\u05da</bdi>!"),
        ("<b>\u05d0</b>", "&lt;b&gt;<bdi>\u05d0</bdi>&lt;/b&gt;"),
        ("</bdi>\u05d0", "&lt;/bdi&gt;<bdi>\u05d0</bdi>"),
        (
            "\u05d0\u202e\u05d1",
            '<bdi>\u05d0</bdi><span class="codepoint" title="RIGHT-TO-LEFT OVERRIDE">U+202E</span><bdi>\u05d1</bdi>',
        ),
        ("Zo\u00eb \u6f22 100, 5", "Zo\u00eb \u6f22 100, 5"),
    ],
)
def test_what_stands_between_words_from_right_to_left_stays_in_its_order(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_values_and_parameters_are_isolated_as_statements_are() -> None:
    assert json_value("\u05d0") == "<bdi>\u05d0</bdi>"
    assert parameter(["\u05d0", 5]) == "[&#34;<bdi>\u05d0</bdi>&#34;, 5]"
