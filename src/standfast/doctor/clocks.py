"""Clocks of other machines compared with this one's."""

from datetime import UTC, datetime, timedelta

APART = timedelta(seconds=5)
"""Clocks further apart than this are a trap: reports are good for five minutes, signatures for not much longer."""


def now() -> datetime:
    """Return this machine's time."""
    return datetime.now(UTC)


def ahead(there: datetime, *, asked: datetime, answered: datetime) -> timedelta:
    """Return how far another clock is ahead of ours at least, negative if it is behind.

    It was read at some time between `asked` and `answered`, which are ours: nothing within them is a difference.
    """
    return max(there - answered, timedelta()) + min(there - asked, timedelta())


def complaint(difference: timedelta) -> str | None:
    """Return what to do about clocks that are too far apart, None if they are not."""
    if abs(difference) <= APART:
        return None
    side = "ahead of" if difference > timedelta() else "behind"
    seconds = abs(difference).total_seconds()
    return f"its clock is {seconds:.0f} s {side} this machine's; set both by NTP: a safety report is good for minutes"
