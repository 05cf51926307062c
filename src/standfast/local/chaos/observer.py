"""Looking at tickets while they run: which worker has work in hand, and whether they go on."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from itertools import chain
from time import monotonic

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError

from standfast import steps
from standfast.local.chaos.people import Crowd
from standfast.steps import Pool

_LOOK = 0.25  # seconds between two looks at whether tickets go on
_AIM_WITHIN = 2.0  # seconds; then a worker without work will do
_MOVED_WITHIN = timedelta(seconds=30)  # a ticket that stands still for longer holds up no further faults
_EXECUTION = (steps.EXECUTE.name, steps.SETTLE.name)


class Observer:
    """Sees the tickets of a crowd as Temporal does."""

    def __init__(self, temporal: Client, crowd: Crowd) -> None:
        self._temporal = temporal
        self._crowd = crowd

    async def look(self, busy: Pool | None = None) -> tuple[dict[str, int], int | None]:
        """Return how many events each ticket has, its planners' included, and a process that has an activity in hand.

        With `busy` this waits a little for a worker of that pool; where none is found, the process is None. What can't
        be read has no events.
        """
        until = monotonic() + _AIM_WITHIN
        while True:
            tickets = self._going()
            found = await self._describe(tickets)
            in_hand = [pid for description in found for pid in _in_hand(description, busy)]
            if in_hand or busy is None or monotonic() > until:
                return _lengths(tickets, found), next(iter(in_hand), None)

    async def until_moved(self, before: Mapping[str, int]) -> None:
        """Return when each of these tickets has ended, or its histories have grown."""
        still = dict(before)
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOVED_WITHIN.total_seconds()):
                while still:
                    await asyncio.sleep(_LOOK)
                    going = set(self._going())
                    tickets = [one for one in still if one in going]
                    now = _lengths(tickets, await self._describe(tickets))
                    still = {one: still[one] for one, length in now.items() if length <= still[one]}

    def _going(self) -> list[str]:
        return [one.ticket.workflow_id for one in self._crowd.going]

    async def _describe(self, tickets: list[str]) -> list[WorkflowExecutionDescription]:
        """Return the tickets' workflows and their planners', as far as they are known and can be read."""
        parts = ((ticket, steps.planner_id(ticket, 1), steps.planner_id(ticket, 2)) for ticket in tickets)
        found = await asyncio.gather(*map(self._one, chain.from_iterable(parts)))
        return [description for description in found if description is not None]

    async def _one(self, workflow_id: str) -> WorkflowExecutionDescription | None:
        with suppress(RPCError):
            return await self._temporal.get_workflow_handle(workflow_id).describe()
        return None


def _lengths(tickets: list[str], found: list[WorkflowExecutionDescription]) -> dict[str, int]:
    lengths = dict.fromkeys(tickets, 0)
    for description in found:
        lengths[steps.ticket_of(description.id)] += description.history_length
    return lengths


def _in_hand(description: WorkflowExecutionDescription, pool: Pool | None) -> Iterator[int]:
    """Yield the process ids of the pool's workers that have an activity of this workflow in hand."""
    for pending in description.raw_description.pending_activities:
        is_in_hand = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        if is_in_hand and _pool(description.id, pending.activity_type.name) is pool:
            yield int(pending.last_worker_identity.partition("@")[0])


def _pool(workflow_id: str, activity: str) -> Pool:
    if steps.is_planner(workflow_id):
        return Pool.LLM
    return Pool.DATABASE if activity in _EXECUTION else Pool.CORE
