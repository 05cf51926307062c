"""Replays every history on the present code: `python -m standfast.local.chaos.replay`, with the llm pool's settings.

A program of its own, because the planner needs the provider's key in its environment, as the llm pool does.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterable

from temporalio.client import Client, WorkflowHistory

from standfast import cluster
from standfast.layers import load_settings
from standfast.replay import replayed
from standfast.settings import Settings
from standfast.steps import Pool, is_planner


async def replay(settings: Settings, workflow_ids: Iterable[str]) -> dict[str, str]:
    """Return why each workflow doesn't replay; empty if it does."""
    client = await cluster.connect(settings)
    of_pool: dict[Pool, list[str]] = {Pool.CORE: [], Pool.LLM: []}
    for workflow_id in workflow_ids:
        of_pool[Pool.LLM if is_planner(workflow_id) else Pool.CORE].append(workflow_id)
    return {
        one.workflow_id: one.breaks or ""
        for pool, chosen in of_pool.items()
        async for one in replayed(pool, settings, _histories(client, chosen))
    }


async def _histories(client: Client, workflow_ids: Iterable[str]) -> AsyncIterator[WorkflowHistory]:
    for workflow_id in workflow_ids:
        yield await client.get_workflow_handle(workflow_id).fetch_history()


def main() -> None:
    """Read workflow ids from stdin, a JSON array; the last line of stdout is what `replay` returns, as JSON."""
    logging.disable()
    found = asyncio.run(replay(load_settings(), json.load(sys.stdin)))
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
