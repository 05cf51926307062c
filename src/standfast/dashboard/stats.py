"""The stats page: what a team lead wants to look at, as plots and as tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from standfast.dashboard import plots
from standfast.dashboard.figures import PERIOD, Figures
from standfast.dashboard.operations import StatsQuery
from standfast.dashboard.plots import Bar
from standfast.dashboard.reading import read_query
from standfast.dashboard.rendering import Renderer
from standfast.settings import Settings
from standfast.spending import Bill, Spending
from standfast.stats import Bucket, Day, Spread, Stats, duration

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))  # seconds
_PERIOD_NAMES = {"24h": "24 hours", "7d": "7 days", "30d": "30 days"}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One question and its answer."""

    name: str
    title: str
    words: str
    """The answer in a sentence."""
    plot: Markup | None = None
    """None if there is nothing to plot."""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = field(default=())
    """The same figures as a table."""


class StatsPage:
    """The page, and the same as JSON."""

    def __init__(self, figures: Figures, settings: Settings, renderer: Renderer) -> None:
        self._figures = figures
        self._settings = settings
        self._renderer = renderer

    async def show(self, request: Request) -> Response:
        """Show the figures of the newest tickets in a period."""
        period, target = _choice(request)
        stats = await self._figures.soon(period, target)
        return self._renderer.page(
            request,
            "stats.html",
            stats=stats,
            panels=() if stats is None else list(panels(stats)),
            period=period,
            periods=_PERIOD_NAMES,
            target=target,
            targets=sorted(self._settings.targets),
        )

    async def as_json(self, request: Request) -> Response:
        """Return what `standfast --json stats` prints."""
        query = read_query(StatsQuery, request)
        stats = await self._figures.newest(query.period, query.target or "")
        return Response(stats.model_dump_json(), media_type="application/json")


def _choice(request: Request) -> tuple[str, str]:
    return request.query_params.get("period", PERIOD), request.query_params.get("target", "")


def panels(stats: Stats) -> Iterator[Panel]:
    """Return the page's panels, in their order."""
    yield _ends(stats)
    yield _tickets_by_day(stats.days)
    yield _durations("waiting", "How long tickets waited for a person", "wait", stats.waiting)
    yield _durations("decision", "From the submission to the decision", "decision", stats.decision)
    yield _durations("total", "From the submission to the end", "ticket", stats.total)
    yield _recoveries(stats)
    yield _durations("recovery", "How long recoveries took, at most", "recovery", stats.recoveries)
    yield _retries(stats)
    yield _spend(stats)
    yield _models(stats)


def _ends(stats: Stats) -> Panel:
    figures = [_counted(state.value, number) for state, number in stats.tickets.items() if state.is_end]
    ended = sum(number for state, number in stats.tickets.items() if state.is_end)
    words = f"{ended:,} of {sum(stats.tickets.values()):,} tickets have ended."
    return _bars("ends", "How tickets ended", words, figures, ("end", "tickets"))


def _tickets_by_day(days: Sequence[Day]) -> Panel:
    pairs = {day.day: (_counted("submitted", day.submitted), _counted("ended", day.ended)) for day in days}
    title = "Tickets by day"
    words = f"{sum(day.submitted for day in days):,} submitted, {sum(day.ended for day in days):,} ended; days are UTC."
    return Panel(
        name="days",
        title=title,
        words=words,
        plot=plots.by_day("days", title, ("submitted", "ended"), pairs) if pairs else None,
        head=("day", "submitted", "ended"),
        rows=[(day.day.isoformat(), day.submitted, day.ended) for day in days],
    )


def _durations(name: str, title: str, one: str, spread: Spread | None) -> Panel:
    if spread is None:
        return Panel(name=name, title=title, words=f"No {one} so far.")
    figures = [_bucket(bucket) for bucket in spread.histogram]
    half, most, longest = map(duration, (spread.median, spread.p90, spread.max))
    return Panel(
        name=name,
        title=title,
        words=f"Half took no longer than {half}, nine of ten no longer than {most}, the longest {longest}.",
        plot=plots.histogram(name, title, figures),
        head=("up to", "number"),
        rows=[(figure.label, figure.shown) for figure in figures],
    )


def _bucket(bucket: Bucket) -> Bar:
    if bucket.up_to is None:
        return _counted("longer", bucket.number)
    size, unit = next(((size, unit) for size, unit in _UNITS if bucket.up_to >= size), (1, "s"))
    return _counted(f"{bucket.up_to / size:g} {unit}", bucket.number)


def _recoveries(stats: Stats) -> Panel:
    kinds, title = stats.recoveries_by_failure, "What failed and went on"
    figures = [_counted(f"{kind.step}: {kind.failed}", kind.number) for kind in kinds]
    number = stats.recoveries.number if stats.recoveries else 0
    still = f" {stats.open_failures:,} failed and did not go on so far." if stats.open_failures else ""
    return Panel(
        name="recoveries",
        title=title,
        words=f"{number:,} recoveries.{still} A recovery is counted from when the step was asked for.",
        plot=plots.bars("recoveries", title, figures) if figures else None,
        head=("step", "failed", "number", "median", "90 %", "longest"),
        rows=[(k.step, k.failed, k.number, *map(duration, (k.median, k.p90, k.max))) for k in kinds],
    )


def _retries(stats: Stats) -> Panel:
    figures = [_counted(step, number) for step, number in stats.retries.items()]
    words = f"{sum(stats.retries.values()):,} attempts beyond the first."
    return _bars("retries", "Retries by step", words, figures, ("step", "retries"))


def _spend(stats: Stats) -> Panel:
    title = "What model calls cost, by day"
    costs = {day.day: (_priced(day.usd), _priced(day.usd_not_spent_again)) for day in stats.days}
    paid = any(one.value or two.value for one, two in costs.values())
    spent, spared = stats.model_calls.spent, stats.model_calls.not_spent_again
    return Panel(
        name="spend",
        title=title,
        words=f"Spent: {_bill(spent)}. Not spent again, since the answers were on record: {_bill(spared)}.",
        plot=plots.by_day("spend", title, ("spent", "not spent again"), costs) if paid else None,
        head=("day", "spent", "not spent again"),
        rows=[(day.isoformat(), one.shown, two.shown) for day, (one, two) in costs.items()] if paid else (),
    )


def _models(stats: Stats) -> Panel:
    figures = [_counted(name, spending.spent.calls) for name, spending in stats.models.items()]
    return Panel(
        name="models",
        title="Model calls by model",
        words=f"{stats.model_calls.spent.calls:,} calls.",
        plot=plots.bars("models", "Model calls by model", figures) if figures else None,
        head=("model", "calls", "tokens in", "tokens out", "USD", "not paid again", "USD not spent again"),
        rows=[_model(name, spending) for name, spending in stats.models.items()],
    )


def _model(name: str, spending: Spending) -> Sequence[object]:
    spent, spared = spending.spent, spending.not_spent_again
    tokens = f"{spent.input_tokens:,}", f"{spent.output_tokens:,}"
    return name, f"{spent.calls:,}", *tokens, _usd(spent), f"{spared.calls:,}", _usd(spared)


def _usd(bill: Bill) -> str:
    return "not known" if bill.calls and bill.unpriced == bill.calls else f"{bill.usd:.4f}"


def _bill(bill: Bill) -> str:
    without = f", without {bill.unpriced:,} calls of unknown price" if 0 < bill.unpriced < bill.calls else ""
    price = "price not known" if bill.calls and bill.unpriced == bill.calls else f"{bill.usd:.4f} USD"
    return f"{price} for {bill.calls:,} calls{without}"


def _bars(name: str, title: str, words: str, figures: Sequence[Bar], head: Sequence[str]) -> Panel:
    rows = [(figure.label, figure.shown) for figure in figures]
    plot = plots.bars(name, title, figures) if figures else None
    return Panel(name=name, title=title, words=words, plot=plot, head=head, rows=rows)


def _counted(label: str, number: int) -> Bar:
    return Bar(label=label, value=number, shown=f"{number:,}")


def _priced(usd: float) -> Bar:
    return Bar(label="USD", value=usd, shown=f"{usd:.4f} USD")
