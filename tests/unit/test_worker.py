"""Workers start lean, since import time is recovery time."""

import subprocess
import sys

import pytest

from standfast.steps import Pool

SERVE = """
import sys
from standfast import worker
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.store.databases import Databases

settings = Settings()
worker.registrations(Pool(sys.argv[1]), settings, Databases(settings, application="test"))
print(*sys.modules)
"""


@pytest.mark.parametrize("pool", [Pool.CORE, Pool.DATABASE])
def test_a_worker_loads_neither_models_nor_web_nor_command_line(pool: Pool) -> None:
    done = subprocess.run([sys.executable, "-c", SERVE, pool], capture_output=True, text=True, check=True)
    assert {"pydantic_ai", "openai", "starlette", "jinja2", "rich", "click"}.isdisjoint(done.stdout.split())
