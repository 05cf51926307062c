"""A batch in numbers: what counts as ended, how fast tickets are handed out, which line is which."""

import json
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

from standfast.batch import TicketState, content_digest, ended
from standfast.batching.pace import Turns
from standfast.batching.register import COPIED, COPIED_BYTES, statement_sized
from standfast.outcome import State
from standfast.settings import Settings, Target
from standfast.ticket import Ticket
from standfast.ticket_files import parse_numbered_tickets

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def ticket(number: int, body: str = "please") -> Ticket:
    return Ticket(id=f"T-{number}", body=body, requester="ana@example.com", target="shop")


def large(size: int) -> Ticket:
    return ticket(1).model_copy(update={"metadata": {"x": "y" * size}})


def starts(per_minute: int | None, wanted: int) -> list[datetime]:
    """Return when tickets are started by somebody who always has one more."""
    turns, now, found = Turns(per_minute, None), NOW, list[datetime]()
    while len(found) < wanted:
        now += turns.wait(now)
        turns.take(now)
        found.append(now)
    return found


def test_every_end_of_a_ticket_is_an_end_in_its_batch() -> None:
    ends = {state.value for state in TicketState if state.is_end}
    assert ends == {state.value for state in State if state.is_end} | {"refused", "not_started"}
    assert TicketState(State.WAITING.value)


def test_what_waits_for_a_person_has_not_ended() -> None:
    assert ended({TicketState.DONE: 3, TicketState.REFUSED: 1, TicketState.WAITING: 9, TicketState.READY: 5}) == 4


def test_a_batch_is_another_one_if_a_ticket_or_the_order_is_another() -> None:
    one, other = ticket(1), ticket(2)
    digests = {content_digest(tickets) for tickets in ([one, other], [other, one], [one], [one, ticket(2, "now")])}
    assert len(digests) == 4
    assert content_digest([one, other]) == content_digest([ticket(1), ticket(2)])


@pytest.mark.parametrize(
    ("tickets", "sizes"),
    [
        ([ticket(n) for n in range(2 * COPIED + 1)], [COPIED, COPIED, 1]),
        ([large(COPIED_BYTES // 3) for _ in range(5)], [2, 2, 1]),
        ([ticket(1), large(2 * COPIED_BYTES), ticket(2), ticket(3)], [1, 1, 2]),
    ],
    ids=["many", "large", "one too large"],
)
def test_no_statement_writes_down_more_tickets_or_bytes_than_it_has_time_for(
    tickets: list[Ticket], sizes: list[int]
) -> None:
    numbered = list(enumerate(enumerate(tickets, 1)))
    written = list(statement_sized(numbered))
    assert [len(some) for some in written] == sizes
    assert list(chain.from_iterable(written)) == numbered


def test_without_a_limit_nobody_waits() -> None:
    assert set(starts(None, 1000)) == {NOW}


@pytest.mark.parametrize("per_minute", [1, 7, 60, 90, 600, 60_000])
def test_no_minute_has_more_starts_than_are_allowed_and_one_turn(per_minute: int) -> None:
    at = starts(per_minute, 3 * per_minute)
    turn = -(-per_minute // 60)
    for first in at[:: max(1, per_minute // 20)]:
        assert sum(first <= one < first + MINUTE for one in at) <= per_minute + turn
    assert at[-1] - at[0] >= 3 * MINUTE - MINUTE / per_minute * turn - timedelta(milliseconds=10)


def test_a_pause_is_not_made_up_for() -> None:
    turns = Turns(60, None)
    turns.take(NOW)
    later = NOW + timedelta(hours=1)
    assert turns.wait(later) == timedelta()
    turns.take(later)
    assert turns.wait(later) == timedelta(seconds=1)


def test_a_later_run_waits_for_the_turn_of_the_earlier_one() -> None:
    turns = Turns(1, None)
    turns.take(NOW)
    assert Turns(1, turns.next_at).wait(NOW) == MINUTE


def test_tickets_are_known_by_the_line_where_they_stand_first() -> None:
    lines = [{"id": name, "body": "please", "requester": "ana@example.com"} for name in ("A", "B", "A")]
    text = "\n\n".join(map(json.dumps, lines))
    settings = Settings(targets={"shop": Target()})
    found = parse_numbered_tickets(text, source="t.jsonl", settings=settings)
    assert [(line, ticket.id) for line, ticket in found] == [(1, "A"), (3, "B")]
