"""Records a history of every path, on a real Temporal server and PostgreSQL: `scripts/record-histories [NAME]...`."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from standfast import cluster
from standfast.client import Standfast
from standfast.local.ports import free_port
from standfast.local.postgres import Postgres
from standfast.local.supervisor import Supervisor
from standfast.local.temporal import TemporalServer
from tests.integration.installation import CONSTRAINTS, Installation, prepare
from tests.replay.paths import PATHS
from tests.replay.recordings import FOLDER, VERSION, keep, runs

# Longer than any path but the one that continues as new.
_SHORT_HISTORIES = "--dynamic-config-value=limit.historyCount.suggestContinueAsNew=90"


async def record(names: list[str]) -> None:
    """Walk the paths with these names, or all, and keep what their workflows did."""
    with TemporaryDirectory(prefix="standfast-record-") as name:
        folder = Path(name)
        postgres = Postgres(folder / "postgres", port=free_port())
        temporal = TemporalServer(folder / "temporal", port=free_port(), ui_port=free_port())
        await postgres.prepare()
        async with Supervisor(folder / "logs", lambda _: None) as supervisor:
            program = temporal.service()
            await supervisor.start(postgres.service(), replace(program, argv=(*program.argv, _SHORT_HISTORIES)))
            settings, owner = await prepare(
                postgres.url(), temporal.address, f"t{uuid4().hex[:8]}", encryption={"enabled": False}
            )
            async with Standfast.connect(settings) as client:
                shop = Installation(settings, client, owner)
                await shop.constrain(CONSTRAINTS)
                for path in PATHS:
                    if not names or path.name in names:
                        workflow_id = await path.walk(shop)
                        keep(path.name, await runs(await cluster.connect(settings), workflow_id), FOLDER / VERSION)
                        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:]))
