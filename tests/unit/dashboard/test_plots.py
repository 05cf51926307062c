"""Plots: what they say to who can't see them, that proportions hold, and what hostile names can't do."""

from collections.abc import Callable
from datetime import date
from xml.etree.ElementTree import Element, fromstring

import pytest
from markupsafe import Markup

from standfast.dashboard import plots
from standfast.dashboard.plots import Bar


def bar(label: str, value: float, shown: str = "") -> Bar:
    return Bar(label=label, value=value, shown=shown or f"{value:g}")


def by_day(figures: list[Bar]) -> Markup:
    days = {date(2026, 11, 1 + 3 * number): (figure, figure) for number, figure in enumerate(figures)}
    return plots.by_day("x", "Any", ("one", "two"), days)


def horizontal(figures: list[Bar]) -> Markup:
    return plots.bars("x", "Any", figures)


def upright(figures: list[Bar]) -> Markup:
    return plots.histogram("x", "Any", figures)


EVERY = pytest.mark.parametrize("plot", [horizontal, upright, by_day])
Plot = Callable[[list[Bar]], Markup]


def parsed(svg: Markup) -> Element:
    return fromstring(svg)  # noqa: S314 - our own


def rectangles(svg: Markup, side: str, kind: str = "one") -> list[float]:
    """Return that side of the bars that stand for figures; a square is a legend's."""
    drawn = [one for one in parsed(svg).iter("rect") if one.get("class") == kind]
    return [float(one.get(side, "")) for one in drawn if one.get("width") != one.get("height")]


def words(svg: Markup, element: str) -> list[str]:
    return [one.text or "" for one in parsed(svg).iter(element)]


@EVERY
def test_a_plot_says_in_words_what_it_shows(plot: Plot) -> None:
    svg = parsed(plot([bar("done", 12), bar("failed", 3)]))
    named = {one.get("id"): one for one in svg.iter() if one.get("id")}
    title, description = (named[name] for name in svg.get("aria-labelledby", "").split())
    assert (svg.get("role"), title.tag, title.text) == ("img", "title", "Any")
    assert description.tag == "desc"
    assert "12" in str(description.text)
    assert "3" in str(description.text)


@EVERY
def test_a_plot_needs_no_script_and_no_style_attribute(plot: Plot) -> None:
    def attributes(element: Element) -> set[str]:
        return set(element.attrib).union(*(attributes(child) for child in element))

    drawn = plot([bar("done", 12)])
    assert not {name for name in attributes(parsed(drawn)) if name == "style" or name.startswith("on")}
    assert "script" not in drawn


@EVERY
def test_names_of_others_are_text_and_leave_no_hidden_character(plot: Plot) -> None:
    hostile = "</title><script>alert(1)</script>\u202eevil\u200b&"
    drawn = plot([bar(hostile, 1, hostile)])
    assert "<script" not in drawn
    assert not {"\u202e", "\u200b"} & set(drawn)
    assert "evil" in "".join(words(drawn, "desc"))


def test_bars_keep_their_proportions() -> None:
    assert rectangles(horizontal([bar("a", 10), bar("b", 5), bar("c", 0)]), "width") == [360, 180, 0]


def test_the_highest_bucket_fills_the_height_and_an_empty_one_has_no_number() -> None:
    drawn = upright([bar("1 s", 4), bar("3 s", 0), bar("10 s", 2)])
    highest, none, half = rectangles(drawn, "height")
    assert (highest, none) == (half * 2, 0)
    assert words(drawn, "text") == ["4", "1 s", "3 s", "2", "10 s"]


def test_bars_of_a_long_name_show_its_begin_and_say_all_of_it() -> None:
    drawn = horizontal([bar("n" * 300, 1)])
    assert words(drawn, "text")[0] == "n" * 25 + "…"
    assert "n" * 300 in words(drawn, "desc")[0]


def test_days_without_figures_keep_their_place() -> None:
    drawn = by_day([bar("", 1), bar("", 2)])  # the 1st and the 4th
    first, fourth = rectangles(drawn, "x")
    second_of_them = rectangles(drawn, "x", "two")
    assert fourth - first == 3 * 80
    assert second_of_them == [first + 32, fourth + 32]
    assert words(drawn, "text") == ["one", "two", "1 Nov", "2 Nov", "3 Nov", "4 Nov"]


def test_a_month_has_few_dates_below_it() -> None:
    days = {date(2026, 10, day): (bar("", 1), bar("", 2)) for day in range(1, 32)}
    labels = words(plots.by_day("x", "Any", ("one", "two"), days), "text")[2:]
    assert labels == ["1 Oct", "6 Oct", "11 Oct", "16 Oct", "21 Oct", "26 Oct", "31 Oct"]


@EVERY
def test_figures_that_are_all_zero_are_drawn(plot: Plot) -> None:
    assert {*rectangles(plot([bar("a", 0)]), "height")} <= {0.0, 18.0}
