"""Plots as SVG: pure functions from figures to a picture, drawn by the style sheet in light and dark.

Nothing in it needs a script or a style attribute. Each picture says in words what it shows; a page puts the same
figures beside it as a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from standfast.characters import is_hidden

_WIDTH = 640
_ROW = 26  # of a horizontal bar, its gap included
_LABEL = 210  # the column of labels to the left of horizontal bars
_VALUE = 70  # the room for the values to their right
_LABEL_CHARACTERS = 26
_HEIGHT, _TOP, _BOTTOM = 200, 22, 34  # of what stands upright: all of it, the room for values, the room for labels
_CLASSES = ("one", "two")
_EDGE = 24  # a date that stands closer to the edge would be cut
_TICKS = 7  # dates below a time series, at most


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One figure with its name, and as people read it."""

    label: str
    value: float
    shown: str


def bars(name: str, title: str, figures: Sequence[Bar]) -> Markup:
    """Return horizontal bars, one below the other; `name` is unique on the page."""
    svg = _picture(name, title, _listed(figures), height=_ROW * len(figures))
    most = max((figure.value for figure in figures), default=0) or 1
    for number, figure in enumerate(figures):
        y = number * _ROW
        length = figure.value / most * (_WIDTH - _LABEL - _VALUE)
        _text(svg, _LABEL - 10, y + 17, _shortened(figure.label), "end")
        _rect(svg, _LABEL, y + 4, length, _ROW - 8, kind="one")
        _text(svg, _LABEL + length + 6, y + 17, figure.shown, "start", kind="value")
    return _markup(svg)


def histogram(name: str, title: str, buckets: Sequence[Bar]) -> Markup:
    """Return upright bars that stand side by side: how many there are of each size, from left to right."""
    svg = _picture(name, title, _listed(buckets), height=_HEIGHT)
    _rect(svg, 0, _HEIGHT - _BOTTOM, _WIDTH, 1, kind="axis")
    most = max((bucket.value for bucket in buckets), default=0) or 1
    wide = _WIDTH / max(len(buckets), 8)
    for number, bucket in enumerate(buckets):
        height = bucket.value / most * (_HEIGHT - _TOP - _BOTTOM)
        x, top = number * wide, _HEIGHT - _BOTTOM - height
        _rect(svg, x + 2, top, wide - 4, height, kind="one")
        if bucket.value:
            _text(svg, x + wide / 2, top - 5, bucket.shown, "middle", kind="value")
        _text(svg, x + wide / 2, _HEIGHT - _BOTTOM + 18, bucket.label, "middle")
    return _markup(svg)


def by_day(name: str, title: str, series: tuple[str, str], days: Mapping[date, tuple[Bar, Bar]]) -> Markup:
    """Return two upright bars for each day from the first one to the last, days without figures included."""
    words = (f"{day:%-d %b}: {one.shown} {series[0]}, {two.shown} {series[1]}" for day, (one, two) in days.items())
    svg = _picture(name, title, "; ".join(words), height=_HEIGHT)
    _rect(svg, 0, _HEIGHT - _BOTTOM, _WIDTH, 1, kind="axis")
    _legend(svg, series)
    first = min(days)
    number_of_days = (max(days) - first).days + 1
    most = max((bar.value for pair in days.values() for bar in pair), default=0) or 1
    wide, each_labelled = min(_WIDTH / number_of_days, 80), -(-number_of_days // _TICKS)
    for number in range(number_of_days):
        day, x = first + timedelta(days=number), number * wide
        for place, bar in enumerate(days.get(day, ())):
            height = bar.value / most * (_HEIGHT - _TOP - _BOTTOM)
            _rect(
                svg,
                x + wide * (0.1 + 0.4 * place),
                _HEIGHT - _BOTTOM - height,
                wide * 0.38,
                height,
                kind=_CLASSES[place],
            )
        if number % each_labelled == 0:
            middle = min(max(x + wide / 2, _EDGE), _WIDTH - _EDGE)
            _text(svg, middle, _HEIGHT - _BOTTOM + 18, f"{day:%-d %b}", "middle")
    return _markup(svg)


def _picture(name: str, title: str, words: str, *, height: float) -> Element:
    labels = {"aria-labelledby": f"{name}-title {name}-words"}
    svg = Element("svg", {"class": "plot", "viewBox": f"0 0 {_WIDTH} {height}", "role": "img", **labels})
    SubElement(svg, "title", id=f"{name}-title").text = _visible(title)
    SubElement(svg, "desc", id=f"{name}-words").text = _visible(words)
    return svg


def _legend(svg: Element, series: tuple[str, str]) -> None:
    for place, label in enumerate(series):
        x = _WIDTH - 300 + 150 * place
        _rect(svg, x, 2, 12, 12, kind=_CLASSES[place])
        _text(svg, x + 18, 12, label, "start")


def _rect(svg: Element, x: float, y: float, width: float, height: float, *, kind: str) -> None:
    place = {"x": x, "y": y, "width": width, "height": height}
    SubElement(svg, "rect", {name: f"{value:.1f}" for name, value in place.items()} | {"class": kind})


def _text(svg: Element, x: float, y: float, words: str, anchor: str, *, kind: str = "label") -> None:
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": kind}
    SubElement(svg, "text", attributes).text = _visible(words)


def _listed(figures: Sequence[Bar]) -> str:
    return "; ".join(f"{figure.label}: {figure.shown}" for figure in figures)


def _shortened(label: str) -> str:
    return label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"


def _visible(words: str) -> str:
    """Return words of others without what can't be seen: names of errors and models come from agents."""
    return "".join("\N{REPLACEMENT CHARACTER}" if is_hidden(character) else character for character in words)


def _markup(svg: Element) -> Markup:
    return Markup(tostring(svg, encoding="unicode"))  # noqa: S704 - ElementTree has escaped all that is in it
