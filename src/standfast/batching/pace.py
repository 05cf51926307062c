"""How fast tickets are handed out: evenly, and never more in a minute because there were less before."""

from datetime import datetime, timedelta

_MINUTE = timedelta(minutes=1)


class Turns:
    """Turns to start a ticket: some each second if there are many in a minute, one at a time if there are few.

    Within any minute there are no more than `per_minute` and those of one turn. Fewer, larger turns cost the batch's
    workflow fewer timers.
    """

    def __init__(self, per_minute: int | None, next_at: datetime | None) -> None:
        self._size = -(-per_minute // 60) if per_minute else 0
        self._every = _MINUTE / per_minute * self._size if per_minute else timedelta()
        self._left = 0
        self.next_at = next_at
        """When there are turns again; None if there are at any time."""

    def wait(self, now: datetime) -> timedelta:
        """Return how long it is until the next turn."""
        if self._left or self.next_at is None:
            return timedelta()
        return max(timedelta(), self.next_at - now)

    def take(self, now: datetime) -> None:
        """Take one turn; the caller has waited for it."""
        if not self._size:
            return
        if not self._left:
            self._left = self._size
            self.next_at = now + self._every
        self._left -= 1
