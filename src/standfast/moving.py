"""Moves what is under way on an old version of the workers to the version of this code, as far as it replays on it.

A ticket and its planners tell each other what only their own version needs to understand: all of them move, or none.
Batches stay: what is moved stays where it was moved to, through all of its runs, and so would all tickets that a batch
is yet to start, whatever version is current by then. By itself a batch goes on there when it continues as new.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from temporalio.client import Client, WorkflowHistory

from standfast.deployment import Deployments
from standfast.replay import POOLS, Replayed, histories, histories_of, replayed
from standfast.settings import Settings
from standfast.steps import BATCH, Pool, ticket_of

_NO_BATCH = f'WorkflowType != "{BATCH}"'


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What became of the workflows of a version."""

    moved: int
    stay: Mapping[str, str]
    """Why the others do, by workflow id."""


async def move(client: Client, settings: Settings, deployments: Deployments, old: str, own: str) -> Moved:
    """Move tickets and planners from the version `old` to `own`, which has to be that of this code.

    The old version's workers go on with them until they are moved. So each is replayed once more after that, and taken
    back if it has come to something that this code can't follow; a planner that began meanwhile follows its ticket.

    Raises:
        InvalidInput: the settings of a pool are wrong; the llm pool needs its agent or its model and their keys.
        ServiceUnavailable: Temporal can't be reached; what was moved until then is moved.
    """
    condition = f"{deployments.under_way(old)} AND {_NO_BATCH}"
    before = await _replays(settings, lambda pool: histories(client, pool, condition))
    broken = _broken(before.values())
    moving = [one for one in before.values() if ticket_of(one.workflow_id) not in broken]
    for one in moving:
        await deployments.move(one.workflow_id, one.run_id, own)

    async def since(pool: Pool) -> AsyncGenerator[WorkflowHistory]:
        async for history in histories_of(client, (one for one in moving if one.pool is pool)):
            yield history
        async for history in histories(client, pool, condition):
            if history.run_id not in before:
                yield history

    after = await _replays(settings, since)
    broken = _broken(after.values()) | broken
    for one in after.values():
        stays = ticket_of(one.workflow_id) in broken
        if stays and one.run_id in before:
            await deployments.take_back(one.workflow_id, one.run_id)
        elif not stays and one.run_id not in before:
            await deployments.move(one.workflow_id, one.run_id, own)
    stay = {
        one.workflow_id: one.breaks or f"as {broken[ticket_of(one.workflow_id)].workflow_id} does"
        for one in (before | after).values()
        if ticket_of(one.workflow_id) in broken
    }
    return Moved(moved=len(before | after) - len(stay), stay=stay)


async def _replays(
    settings: Settings, source: Callable[[Pool], AsyncGenerator[WorkflowHistory]]
) -> dict[str, Replayed]:
    """Replay what a source has for each pool; return it by run id."""
    found = {}
    for pool in POOLS:
        async with aclosing(source(pool)) as read:
            async for one in replayed(pool, settings, read):
                found[one.run_id] = one
    return found


def _broken(found: Iterable[Replayed]) -> dict[str, Replayed]:
    """Return by ticket what does not replay."""
    return {ticket_of(one.workflow_id): one for one in found if one.breaks is not None}
