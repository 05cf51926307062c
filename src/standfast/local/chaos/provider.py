"""The model's provider of a chaos run: it makes the plans of the tickets' scripts, and misbehaves when told to."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from standfast.local.chaos.faults import Trouble
from standfast.local.chaos.tickets import PREFIX, ScriptedTicket
from standfast.local.fake_provider import Answer, Answers, Calls, Cut, FakeProvider, Raw, Thinks, Turn

_TICKET = re.compile(rf"{PREFIX}-(\d+)")
_LATE = 3.0  # seconds, in which the worker has to keep its heartbeats going
_ANSWERS: dict[Trouble, Answer] = {
    Trouble.RATE_LIMIT: Raw(429, '{"error": {"message": "slow down"}}', {"Retry-After": "1"}),
    Trouble.ERROR: Raw(500, '{"error": {"message": "internal error"}}'),
    Trouble.OVERLOAD: Raw(529, '{"error": {"message": "overloaded"}}'),
    Trouble.CUT: Cut(),
    Trouble.GARBAGE: Raw(200, "<html>It works!</html>"),
}


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A request that met trouble."""

    at: datetime
    ticket: int
    """The ticket's number."""


class ChaosProvider(FakeProvider):
    """Answers a request by what is in it alone: asked the same again, it answers the same."""

    def __init__(self, ticket: Callable[[int], ScriptedTicket], seed: int) -> None:
        super().__init__({})
        self.trouble: Trouble | None = None
        """What each request meets now."""
        self.hits: list[Hit] = []
        self._ticket = ticket
        self._chance = random.Random(f"provider {seed}")  # noqa: S311 - repeatable, not secret

    def next_turn(self, text: str, request: dict[str, Any]) -> Turn:
        """Return the next step of the ticket's plan, or trouble."""
        named = _TICKET.search(text)  # the prompt begins with the ticket
        if named is None:
            return Raw(404, '{"error": {"message": "no ticket of this run is in the request"}}')
        number = int(named[1])
        turn = _step(self._ticket(number), text, request)
        trouble = self.trouble
        if trouble is None:
            return Thinks(self._chance.uniform(0.2, 0.8), turn)
        self.hits.append(Hit(at=datetime.now(UTC), ticket=number))
        return Thinks(_LATE, turn) if trouble is Trouble.LATE else _ANSWERS[trouble]


def _step(ticket: ScriptedTicket, text: str, request: dict[str, Any]) -> Answer:
    """First look something up, then answer."""
    if not any("output" in item for item in request["input"]):
        return Calls("look_up_rows", table="customers", equals={"id": ticket.customer})
    sent_back = ticket.plan(1).summary in text
    return Answers(ticket.plan(2 if sent_back else 1))
