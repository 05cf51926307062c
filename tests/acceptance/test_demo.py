"""One command on a fresh machine: the demo runs the main job on real parts and says so with its exit code."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SAMPLES = sorted((CHECKOUT / "src/standfast/local/shop/tickets").glob("*.json"))


@pytest.mark.timeout(600)
def test_the_unattended_demo_ends_as_its_files_say(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("STANDFAST_", "TEMPORAL_"))}
    done = subprocess.run(
        [CHECKOUT / "scripts/demo", "--once"],
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
