"""Ninety seconds under fire: nothing lost, nothing twice, nothing paid twice. How quick it was, no test can promise."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from standfast.errors import NotPermitted
from tests.acceptance.installation import PROGRAM

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("STANDFAST_", "TEMPORAL_"))}


@pytest.mark.timeout(600)
def test_all_proofs_hold_after_ninety_seconds_of_faults(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "--json", "chaos", "--minutes", "1.5", "--seed", "16"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
        timeout=600,
        check=False,
    )
    said = done.stdout[-5000:] + done.stderr[-5000:]
    assert done.returncode == 0, said
    report = json.loads(done.stdout)

    assert [proof["proof"] for proof in report["proofs"] if proof["holds"]] == [1, 2, 3, 4, 5, 6], said
    ended = report["proofs"][0]["counts"]
    assert ended["submitted"] == ended["ended"] > 10
    assert report["proofs"][1]["counts"]["ledger rows"] > 5
    assert report["proofs"][2]["counts"]["recorded"] > 10
    assert {ticket["kind"] for ticket in report["tickets"]} >= {"automatic", "approved"}
    assert {fault["service"] for fault in report["faults"]} >= {"temporal", "postgres"}
    assert list(tmp_path.iterdir()) == [], "chaos leaves nothing behind where it was started"


@pytest.mark.parametrize(
    "named",
    [
        {"STANDFAST_TARGETS__SHOP__READER": "postgresql://shop@db.example.com/shop"},
        {"STANDFAST_CONTROL__URL": "postgresql://standfast@db.example.com/standfast"},
        {"STANDFAST_TEMPORAL__ADDRESS": "temporal.example.com:7233"},
    ],
)
def test_it_refuses_to_run_on_anything_but_its_own_set_up(named: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "chaos", "--minutes", "1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT | named,
        timeout=60,
        check=False,
    )
    assert done.returncode == NotPermitted.exit_code
    setting = next(iter(named)).removeprefix("STANDFAST_").lower().split("__")[0]
    assert f"the settings name {setting}." in done.stderr
