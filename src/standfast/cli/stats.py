"""The command that shows figures over many tickets."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output, moment
from standfast.errors import InvalidInput

if TYPE_CHECKING:
    from standfast.spending import Bill
    from standfast.stats import Spread, Stats

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@click.command()
@click.option("--target", "targets", multiple=True, help="Only tickets of this target; may be repeated.")
@click.option("--since", metavar="AGE", help="Only tickets submitted since then, such as 90m, 24h or 7d ago.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="The newest tickets.")
@pass_invocation
def stats(invocation: Invocation, targets: tuple[str, ...], since: str | None, limit: int) -> None:
    """Show figures over the newest tickets: how long they waited and took, what failed and how long it took to go on,
    retries, what models cost, and what was not paid again because the answer was on record."""  # noqa: D205, D209 - click shows it as one paragraph
    after = None if since is None else ago(since)

    async def work() -> "Stats":
        async with invocation.client() as client:
            return await client.stats(targets, after, limit)

    found = run(work())
    if invocation.output.as_json:
        invocation.output.document(found)
    else:
        _page(found, invocation.output, after)


def ago(text: str, *, option: str = "--since") -> datetime:
    """Return the moment that was `90m`, `24h` or `7d` ago, as given by an option.

    Raises:
        InvalidInput: it is none, or before all dates.
    """
    try:
        return datetime.now(UTC) - age(text, option=option)
    except OverflowError:
        raise InvalidInput(f"{option} {text!r}: no date is so long ago") from None


def age(text: str, *, option: str = "--since") -> timedelta:
    """Return the duration that `90m`, `24h` or `7d` is, as given by an option.

    Raises:
        InvalidInput: it is none.
    """
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise InvalidInput(f"{option} {text!r}: expected a number with s, m, h or d, such as 90m, 24h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _page(found: "Stats", output: Output, after: datetime | None) -> None:
    number = sum(found.tickets.values())
    since = f" since {moment(after)}" if after else ""
    states = ", ".join(f"{count} {state}" for state, count in found.tickets.items())
    output.line(f"{number} tickets{since}{': ' if states else ''}{states}\n", "bold")
    spreads = {
        "waiting for a person": found.waiting,
        "submission to decision": found.decision,
        "submission to end": found.total,
        "recoveries": found.recoveries,
    } | {f"- {figures.step}: {figures.failed}": figures for figures in found.recoveries_by_failure}
    output.table(["", "number", "median", "90 %", "longest"], [_row(name, spread) for name, spread in spreads.items()])
    if found.open_failures:
        output.line(f"\n{found.open_failures} failed and did not go on so far; `standfast history` says why", "red")
    retries = ", ".join(f"{count} {step}" for step, count in found.retries.items())
    output.line(f"\nretries          {retries or 'none'}")
    output.line(f"model calls      {_bill(found.model_calls.spent)}")
    for name, model in found.models.items():
        output.line(f"  {name}: {_bill(model.spent)}")
    output.line(f"not paid again   {_bill(found.model_calls.not_spent_again)}")
    if found.recoveries:
        output.line(
            "\nRecoveries are counted from when the step was asked for: a failure took that long at most.", "dim"
        )


def _row(name: str, spread: "Spread | None") -> list[Any]:
    if spread is None:
        return [name, 0, None, None, None]
    from standfast.stats import duration  # noqa: PLC0415 - commands import when they run

    return [name, spread.number, *map(duration, (spread.median, spread.p90, spread.max))]


def _bill(bill: "Bill") -> str:
    if not bill.calls:
        return "none"
    price = f"{bill.usd:.4f} USD" if bill.unpriced < bill.calls else "price not known"
    partly = f" (without {bill.unpriced} of unknown price)" if 0 < bill.unpriced < bill.calls else ""
    calls = "1 call" if bill.calls == 1 else f"{bill.calls} calls"
    return f"{calls}, {bill.input_tokens:,} tokens in, {bill.output_tokens:,} out, {price}{partly}"
