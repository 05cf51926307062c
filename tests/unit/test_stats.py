"""Figures over tickets: how durations are sorted, what is read once only."""

from datetime import UTC, datetime, timedelta

import pytest

from standfast.outcome import State
from standfast.spending import Spending
from standfast.stats import KnownFacts, TicketFacts, duration, facts, summarized
from standfast.visibility import TicketRow
from tests.replay.recordings import FOLDER, VERSION, recorded

BEGIN = datetime(2026, 11, 24, 23, 50, tzinfo=UTC)


def ticket(
    number: int, *, took: timedelta | None = timedelta(minutes=20), waits: tuple[float, ...] = ()
) -> TicketFacts:
    row = TicketRow(
        workflow_id=f"ticket/shop/T-{number}",
        state=State.WAITING if took is None else State.DONE,
        target="shop",
        risk=None,
        started_at=BEGIN,
        closed_at=None if took is None else BEGIN + took,
    )
    return TicketFacts(
        row=row,
        submitted_at=BEGIN,
        waits=waits,
        decided_after=(),
        recoveries=(),
        retries={},
        planner_workflows=(),
    )


@pytest.mark.parametrize("path", ["approved", "rehearsed-again"])
def test_a_rehearsal_is_no_decision_and_ends_no_wait(path: str) -> None:
    history = recorded(path, FOLDER / VERSION)[-1]
    found = facts(ticket(1).row.model_copy(update={"workflow_id": history.workflow_id}), [history])
    assert (len(found.waits), len(found.decided_after)) == (1, 1)


def test_durations_stand_in_buckets_that_grow_with_them() -> None:
    found = summarized([ticket(1, waits=(0.05, 0.1, 12, 3600, 900_000))], {}, {}, as_of=BEGIN, limit=10).waiting
    assert found is not None
    counted = {bucket.up_to: bucket.number for bucket in found.histogram}
    assert {up_to: number for up_to, number in counted.items() if number} == {0.1: 2, 30: 1, 3600: 1, None: 1}
    edges = [bucket.up_to for bucket in found.histogram[:-1]]
    assert edges == sorted(edges, key=lambda edge: edge or 0)
    assert sum(counted.values()) == found.number


def test_a_spread_begins_and_ends_with_a_bucket_that_holds_something() -> None:
    found = summarized([ticket(1, waits=(2, 50))], {}, {}, as_of=BEGIN, limit=10).waiting
    assert found is not None
    assert [(bucket.up_to, bucket.number) for bucket in found.histogram] == [(3, 1), (10, 0), (30, 0), (60, 1)]


def test_days_are_told_by_utc_with_what_was_spent_on_them() -> None:
    spent = {datetime(2026, 11, 26, tzinfo=UTC).date(): (0.5, 0.25)}
    found = summarized([ticket(1), ticket(2, took=None)], {"big": Spending()}, spent, as_of=BEGIN, limit=10)
    assert [(f"{d.day:%d}", d.submitted, d.ended, d.usd, d.usd_not_spent_again) for d in found.days] == [
        ("24", 2, 0, 0.0, 0.0),
        ("25", 0, 1, 0.0, 0.0),
        ("26", 0, 0, 0.5, 0.25),
    ]


def test_only_what_has_ended_is_known_and_a_later_end_is_another_one() -> None:
    known = KnownFacts()
    ended, waits = ticket(1), ticket(2, took=None)
    known.keep(ended)
    known.keep(waits)
    assert known.find(ended.row) is ended
    assert known.find(waits.row) is None
    assert known.find(ticket(1, took=timedelta(hours=1)).row) is None


def test_what_was_not_asked_for_the_longest_is_forgotten_first() -> None:
    known = KnownFacts(most=2)
    first, second, third = map(ticket, range(3))
    known.keep(first)
    known.keep(second)
    known.find(first.row)
    known.keep(third)
    assert [known.find(one.row) for one in (first, second, third)] == [first, None, third]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.04 s"), (2.1, "2.1 s"), (2100, "35.0 min"), (27_000, "7.5 h"), (864_000, "10.0 d")]
)
def test_durations_are_told_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(seconds) == words
