"""The gate closes before a change that tickets under way can't follow, and opens for one that they can."""

from pathlib import Path

import pytest

import standfast.workflow
from standfast.steps import Pool
from tests.replay.changed import MORE, changed
from tests.replay.paths import FUNCTION
from tests.replay.recordings import recorded
from tests.replay.test_recordings import OF_THIS_VERSION, breaks

APPROVED = recorded("approved", OF_THIS_VERSION)

FORBIDDEN = {
    "the time": ("import time; time.time()", "time.time"),
    "the date": ("import datetime; datetime.datetime.now()", "datetime.datetime.now"),
    "chance": ("import random; random.random()", "random.random"),
    "an id": ("import uuid; uuid.uuid4()", "uuid.uuid4"),
    "a file": ("open('/etc/hostname')", "open"),
    "the environment": ("import os; os.getenv('HOME')", "os.getenv"),
    "the network": ("import socket; socket.create_connection(('127.0.0.1', 1))", "socket"),
    "a program": ("import subprocess; subprocess.run(['true'])", "subprocess"),
    "a thread": ("import threading; threading.Thread(target=print).start()", "threading"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


async def breaks_with(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replay an approved ticket on code with one line more."""
    monkeypatch.setattr(standfast.workflow, "TicketWorkflow", changed(folder, line))
    return await breaks(APPROVED, pool=Pool.CORE, planner=FUNCTION)


async def test_a_step_more_closes_the_gate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (why,) = await breaks_with(MORE, folder, monkeypatch)
    assert "Nondeterminism" in why
    assert "gather" in why


async def test_the_same_step_behind_a_patch_opens_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patched = f'if workflow.patched("once-more"):\n            {MORE}'
    assert await breaks_with(patched, folder, monkeypatch) == []


async def test_another_agent_closes_the_gate_for_planners_and_what_comes_after_is_still_replayed() -> None:
    asked, called = (recorded(f"planned-by-{one}", OF_THIS_VERSION)[0] for one in ("an-agent", "a-function"))
    assert len(await breaks([asked, called, asked], pool=Pool.LLM, planner=FUNCTION)) == 2


@pytest.mark.parametrize(("line", "named"), FORBIDDEN.values(), ids=FORBIDDEN.keys())
async def test_what_another_run_would_find_different_is_refused_in_the_ticket_workflow(
    line: str, named: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (why,) = await breaks_with(line, folder, monkeypatch)
    assert named in why
