"""Everything that the doctor looks at, for one process's settings."""

import asyncio

from standfast.doctor.check import Check
from standfast.doctor.databases import inspect_control, inspect_target
from standfast.doctor.temporal import inspect_temporal
from standfast.settings import Settings


async def examine(settings: Settings) -> list[Check]:
    """Look at Temporal, at the control database and at every target. A service that is away is a check that fails."""
    looks = [inspect_temporal(settings), inspect_control(settings.control)]
    looks += [inspect_target(name, target) for name, target in settings.targets.items()]
    return [check for found in await asyncio.gather(*looks) for check in found]
