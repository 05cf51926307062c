"""One command on a fresh machine: the demo runs the main job on real parts and says so with its exit code."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory

import pytest

from tests.acceptance.installation import LIMIT, PROGRAM, until

CHECKOUT = Path(__file__).parents[2]
SAMPLES = sorted((CHECKOUT / "src/standfast/local/shop/tickets").glob("*.json"))


@pytest.fixture
def fresh_checkout() -> Iterator[Path]:
    """What a newcomer has: the sources, and nothing installed. Not below pytest's folder, which is closed to others."""
    with TemporaryDirectory(prefix="standfast demo ") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL's programs are installed there, and run as another account
        made_since = ignore_patterns(".git", ".venv", "node_modules", "__pycache__", ".*_cache")
        yield copytree(CHECKOUT, Path(folder) / "standfast", ignore=made_since)


@pytest.mark.timeout(600)
def test_the_unattended_demo_of_a_fresh_checkout_ends_as_its_files_say(fresh_checkout: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("STANDFAST_", "TEMPORAL_"))}
    done = subprocess.run(
        [fresh_checkout / "scripts/demo", "--once"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("as expected")[2]
    for file in SAMPLES:
        ticket = json.loads(file.read_text())
        expected = ticket["metadata"]["expected"]
        (line,) = [line for line in table.splitlines() if f"ticket/shop/{ticket['id']} " in line]
        cells = re.split(r"\s{2,}", line.strip())
        decision = [expected["decision"]] if expected["decision"] else []
        assert cells[1 : 3 + len(decision)] == [expected["verdict"], *decision, expected["state"]]
        assert "yes" in cells
    assert list(tmp_path.iterdir()) == [], "the unattended demo leaves nothing behind"
    installed = list((fresh_checkout / ".venv/lib").glob("python*/site-packages"))
    assert not [found for folder in installed for found in folder.glob("authlib*")], (
        "the demo had more than it asks for"
    )


def test_an_unattended_demo_that_is_interrupted_says_so_and_leaves_nothing_behind() -> None:
    with TemporaryDirectory(prefix="standfast demo ") as name:
        folder = Path(name)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("STANDFAST_", "TEMPORAL_"))}
        demo = subprocess.Popen([*PROGRAM, "demo", "--once"], cwd=folder, env=environment | {"TMPDIR": name})
        until(lambda: list(folder.glob("standfast-demo-*/lock")))
        demo.send_signal(signal.SIGINT)
        assert demo.wait(LIMIT) == 130
        assert list(folder.iterdir()) == []
