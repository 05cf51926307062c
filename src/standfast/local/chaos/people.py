"""Those who use the set-up meanwhile: they submit, decide and cancel, and come again while a service is away."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from standfast.client import Standfast
from standfast.decision import Decision, DecisionVerdict, Mode
from standfast.errors import DecisionRefused, DecisionUnrecorded, ServiceUnavailable, StandfastError
from standfast.local.chaos.tickets import REVIEWER, Kind, ScriptedTicket
from standfast.outcome import Outcome, State
from standfast.view import TicketView

Result = TypeVar("Result")

_AGAIN = 0.3  # seconds before somebody tries once more


@dataclass(kw_only=True)
class Progress:
    """One submitted ticket."""

    ticket: ScriptedTicket
    submitted_at: datetime
    outcome: Outcome | None = None
    decided: set[tuple[str, str]] = field(default_factory=set)
    """Plans with their rows that a person has spoken on."""
    trouble: str = ""
    """What its people were told that they should not have been told."""


@dataclass(kw_only=True)
class Crowd:
    """Keeps a number of tickets going."""

    client: Standfast
    tickets: Iterator[ScriptedTicket]
    at_once: int
    submitted: dict[str, Progress] = field(default_factory=dict)
    """By workflow id."""

    @property
    def going(self) -> list[Progress]:
        """Tickets that haven't ended."""
        return [one for one in self.submitted.values() if one.outcome is None]

    @property
    def ended(self) -> Counter[tuple[Kind, State]]:
        """How many tickets of each kind ended how."""
        return Counter((p.ticket.kind, p.outcome.state) for p in self.submitted.values() if p.outcome is not None)

    async def keep_going(self, stop: asyncio.Event) -> None:
        """Submit tickets, some at once, until `stop` is set; then return when those that were submitted have ended."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.at_once):
                group.create_task(self._one_after_another(stop))

    async def _one_after_another(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            ticket = next(self.tickets)
            progress = Progress(ticket=ticket, submitted_at=datetime.now(UTC))
            self.submitted[ticket.workflow_id] = progress
            await patiently(partial(self.client.submit, ticket.ticket))
            try:
                await self._attend(progress)
            except StandfastError as error:
                progress.trouble = f"{type(error).__name__}: {error}"
            progress.outcome = await patiently(partial(self.client.wait, ticket.workflow_id))

    async def _attend(self, progress: Progress) -> None:
        """Do what people have to do about the ticket."""
        ticket = progress.ticket
        if ticket.kind is Kind.WITHDRAWN:
            await asyncio.sleep(ticket.withdrawn_after)
            await self._cancel(ticket)
        elif ticket.waits:
            await patiently(partial(self._decide_when_it_waits, progress))

    async def _decide_when_it_waits(self, progress: Progress) -> None:
        """Speak once on each plan that waits, until the ticket has ended."""
        async for view in self.client.watch(progress.ticket.workflow_id):
            if view.state is not State.WAITING or view.report is None:
                continue
            seen = (view.report.plan_digest, view.report.fingerprint)
            if seen not in progress.decided:
                await self._say(progress.ticket, view)
                progress.decided.add(seen)

    async def _say(self, ticket: ScriptedTicket, view: TicketView) -> None:
        match ticket.kind:
            case Kind.CANCELLED:
                await self._cancel(ticket)
            case Kind.REJECTED:
                await self._decide(view, DecisionVerdict.REJECT, "Not this time.")
            case Kind.REVISED if view.plan_number < ticket.last_plan:
                await self._decide(view, DecisionVerdict.REVISE, "Take the other street.")
            case _:
                await self._decide(view, DecisionVerdict.APPROVE, "Seen.")

    async def _decide(self, view: TicketView, verdict: DecisionVerdict, comment: str) -> None:
        """Sign once and deliver until there is an answer: lost answers must not turn into second decisions."""
        while True:
            decision = self._signed(view, verdict, comment)
            try:
                await patiently(partial(self.client.deliver, view.workflow_id, decision))
            except DecisionUnrecorded:
                continue
            return

    def _signed(self, view: TicketView, verdict: DecisionVerdict, comment: str) -> Decision:
        assert view.report is not None
        return self.client.signed(
            view.workflow_id,
            verdict=verdict,
            by=REVIEWER,
            mode=Mode.CLI,
            plan_digest=view.report.plan_digest,
            fingerprint=view.report.fingerprint,
            comment=comment,
        )

    async def _cancel(self, ticket: ScriptedTicket) -> None:
        try:
            await patiently(partial(self.client.cancel, ticket.workflow_id))
        except DecisionRefused:
            return  # it has ended: by itself, or by an earlier request whose answer was lost


async def patiently(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Ask again as long as a service is away."""
    while True:
        try:
            return await ask()
        except DecisionUnrecorded:
            raise
        except ServiceUnavailable:
            await asyncio.sleep(_AGAIN)
