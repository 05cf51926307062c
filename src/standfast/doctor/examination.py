"""Everything that the doctor looks at, for one process's settings."""

import asyncio
from contextlib import suppress

import psycopg

from standfast.doctor.check import Check
from standfast.doctor.dashboard import inspect_dashboard
from standfast.doctor.databases import inspect_control, inspect_storage, inspect_target
from standfast.doctor.encryption import inspect_encryption
from standfast.doctor.temporal import inspect_temporal
from standfast.errors import StandfastError
from standfast.safety.versions import read_latest
from standfast.settings import Settings
from standfast.store.connections import open_connection


async def examine(settings: Settings) -> list[Check]:
    """Look at Temporal, at the control database and at every target. A service that is away is a check that fails."""
    looks = [
        inspect_encryption(settings.encryption),
        inspect_temporal(settings),
        inspect_control(settings.control),
        inspect_storage(settings),
        inspect_dashboard(settings),
    ]
    looks += [_inspect_target(settings, name) for name in settings.targets]
    return [check for found in await asyncio.gather(*looks) for check in found]


async def _inspect_target(settings: Settings, name: str) -> list[Check]:
    target, constraints = settings.target(name), None
    if settings.control.url is not None:
        # A control database that is away, or has no schema yet, is a check of its own.
        with suppress(StandfastError, psycopg.errors.ProgrammingError):
            url = settings.control.url.get_secret_value()
            async with await open_connection(url, application="standfast doctor") as connection:
                constraints = await read_latest(connection, name, target.schemas)
    return await inspect_target(name, target, constraints)
