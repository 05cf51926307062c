"""An installation on a Temporal server of its own, and the command line of the people who run it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from click.testing import CliRunner, Result

from standfast import cluster
from standfast.cli.program import program
from standfast.client import Standfast
from standfast.local import configuration
from standfast.local.ports import free_port
from standfast.local.supervisor import Supervisor
from standfast.local.temporal import TemporalServer
from tests.integration.installation import CONSTRAINTS, Installation, prepare
from tests.processes import eventually

_REFUND = "INSERT INTO shop.refunds (order_id, amount) SELECT id, total FROM shop.orders WHERE id = $1"


@dataclass
class Shop:
    """An installation on a Temporal server of its own, and its command line."""

    installation: Installation
    folder: Path

    def settings_file(self, **changes: Any) -> Path:
        """Write the settings of a person who runs commands."""
        document = configuration.operator(self.installation.settings) | changes
        file = self.folder / "standfast.toml"
        file.write_text(configuration.to_toml(document), "utf-8")
        return file

    async def run(self, *arguments: str, **changes: Any) -> Result:
        """Run a command in this process, whose code it is about."""
        command = ["--config", str(self.settings_file(**changes)), "--json", *arguments]
        try:
            return await asyncio.to_thread(CliRunner().invoke, program, command, standalone_mode=False)
        finally:
            logging.disable(logging.NOTSET)  # which a process that only replays leaves off

    async def waiting(self, order: int, **ticket: Any) -> str:
        """Submit a ticket that waits for a person."""
        plan = {"operations": [{"sql": _REFUND, "params": [order]}]}
        workflow_id = await self.installation.submit(plan, subject={"order_id": order}, **ticket)
        await self.installation.until_waiting(workflow_id)
        return workflow_id

    async def until_listed(self, number: int, condition: str) -> None:
        """Wait until the server's lists, which lag behind, have this many workflows."""
        client = await cluster.connect(self.installation.settings)

        async def listed() -> int:
            return (await client.count_workflows(condition)).count

        await eventually(listed, number.__eq__)


@asynccontextmanager
async def shop_of_its_own(postgres_url: str, *configuration: str) -> AsyncIterator[Shop]:
    """A new installation that nobody serves yet; its Temporal server has this dynamic configuration, too."""
    with TemporaryDirectory(prefix="standfast-test-") as name:
        folder = Path(name)
        temporal = TemporalServer(folder / "temporal", port=free_port(), ui_port=free_port())
        async with Supervisor(folder / "logs", lambda _: None) as supervisor:
            program = temporal.service()
            options = (f"--dynamic-config-value={value}" for value in configuration)
            await supervisor.start(replace(program, argv=(*program.argv, *options)))
            settings, owner = await prepare(postgres_url, temporal.address, f"t{uuid4().hex[:8]}")
            async with Standfast.connect(settings) as client:
                installation = Installation(settings, client, owner)
                await installation.constrain(CONSTRAINTS)
                yield Shop(installation, folder)
