"""Replays every history on the present code: `python -m standfast.local.chaos.replay`, with the llm pool's settings.

A program of its own, because the planner needs the provider's key in its environment, as the llm pool does.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Sequence

from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from standfast import cluster
from standfast.planner.registrations import Registrations, planner_registrations
from standfast.settings import Settings, load_settings
from standfast.storage.external import external_storage
from standfast.store.connections import Databases
from standfast.workflow import TicketWorkflow


async def replay(settings: Settings, workflow_ids: Sequence[str]) -> dict[str, str]:
    """Return why each workflow doesn't replay; empty if it does."""
    async with (
        Databases(settings, application="standfast chaos") as databases,
        external_storage(settings, databases, for_replay=True) as storage,
    ):
        served = planner_registrations(settings, databases)
        client = await cluster.connect(settings, storage)
        return await _replayed(client, served, workflow_ids)


async def _replayed(client: Client, served: Registrations, workflow_ids: Sequence[str]) -> dict[str, str]:
    tickets = [one for one in workflow_ids if "/plan/" not in one]
    planners = [one for one in workflow_ids if "/plan/" in one]
    namespace, converter = client.namespace, client.data_converter
    of_tickets = Replayer(workflows=[TicketWorkflow], namespace=namespace, data_converter=converter)
    of_planners = Replayer(
        workflows=served.workflows, plugins=served.plugins, namespace=namespace, data_converter=converter
    )
    return await _failures(of_tickets, client, tickets) | await _failures(of_planners, client, planners)


async def _failures(replayer: Replayer, client: Client, workflow_ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    async with replayer.workflow_replay_iterator(_histories(client, workflow_ids)) as results:
        async for result in results:
            found[result.history.workflow_id] = str(result.replay_failure or "")
    return found


async def _histories(client: Client, workflow_ids: Sequence[str]) -> AsyncIterator[WorkflowHistory]:
    for workflow_id in workflow_ids:
        yield await client.get_workflow_handle(workflow_id).fetch_history()


def main() -> None:
    """Read workflow ids from stdin, a JSON array; the last line of stdout is what `replay` returns, as JSON."""
    logging.disable()
    found = asyncio.run(replay(load_settings(), json.load(sys.stdin)))
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
