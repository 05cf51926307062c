"""The audit by command line: shown, verified, exported, and verified without Standfast."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.installation import Installation, until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def checker() -> str:
    """The program in the document."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/audit.md").read_text("utf-8"), re.DOTALL)
    return str(program)


@pytest.fixture(scope="session")
def ticket(installation: Installation) -> str:
    """A ticket that has ended, and whose record may be the newest."""
    workflow_id = installation.submit(id="AUDIT-1", body="How long does delivery to Austria take?")
    until(lambda: installation.state(workflow_id) in ("done", "failed", "blocked", "rejected", "waiting"))
    if installation.state(workflow_id) == "waiting":
        assert installation.run("reject", workflow_id, "--comment", "no").exit_code == 0
    until(lambda: "end" in kinds(installation, workflow_id) or "execution" in kinds(installation, workflow_id))
    return workflow_id


def kinds(installation: Installation, workflow_id: str) -> list[str]:
    return [row["kind"] for row in installation.run("--json", "audit", "--ticket", workflow_id).json]


def check(program: str, exported: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], input=exported, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_newest_records_are_shown(installation: Installation, ticket: str) -> None:
    assert kinds(installation, ticket)[0] == "submission"
    shown = installation.run("audit", "--ticket", ticket, "--last", "2")
    assert (shown.exit_code, shown.stdout.count(ticket)) == (0, 2)


def test_everything_that_happened_verifies(installation: Installation, ticket: str) -> None:
    head = installation.run("--json", "audit", "head").json
    answer = installation.run("--json", "audit", "verify", "--head", head["hash"], "--target", "shop")
    assert (answer.exit_code, answer.json["problems"]) == (0, []), answer
    assert answer.json["rows"] >= head["sequence"] > 2
    assert answer.json["tickets"] >= 1, ticket
    people = installation.run("audit", "verify")
    assert people.exit_code == 0
    assert "all is as it was written, and agrees" in people.stdout


def test_a_kept_hash_that_the_chain_does_not_contain_fails_the_verification(
    installation: Installation, ticket: str
) -> None:
    answer = installation.run("--json", "audit", "verify", "--head", "a" * 64)
    assert answer.exit_code == 1, ticket
    assert [problem["where"] for problem in answer.json["problems"]] == ["kept head aaaaaaaaaaaa"]


@pytest.mark.parametrize("head", ["abc", "A" * 64, "a" * 63])
def test_a_hash_that_is_none_is_refused(installation: Installation, head: str) -> None:
    answer = installation.run("audit", "verify", "--head", head)
    assert (answer.exit_code, answer.stderr.count("\n")) == (2, 1)
    assert "expected the 64 hexadecimal digits" in answer.stderr


def test_an_export_verifies_without_standfast(installation: Installation, ticket: str, checker: str) -> None:
    exported = installation.run("audit", "export").stdout
    rows = [json.loads(line) for line in exported.splitlines()]
    assert ticket in {row["workflow_id"] for row in rows}
    code, said = check(checker, exported)
    assert code == 0, said
    assert said.splitlines() == [f"begins after {'0' * 64}", f"ends with {rows[-1]['hash']}"]
    code, said = check(checker, installation.run("audit", "export", "--since", "1h").stdout)
    assert code == 0, said


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda lines: [*lines[:1], lines[1].replace('"kind":"', '"kind":"x'), *lines[2:]], "line 2 was changed"),
        (lambda lines: [*lines[:1], *lines[2:]], "line 2 does not follow"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 2 does not follow"),
    ],
    ids=["changed", "removed", "exchanged"],
)
def test_an_export_that_was_tampered_with_does_not_verify(
    installation: Installation, ticket: str, checker: str, spoil: object, expected: str
) -> None:
    assert callable(spoil)
    lines = installation.run("audit", "export").stdout.splitlines(keepends=True)
    code, said = check(checker, "".join(spoil(lines)))
    assert (code, expected in said) == (1, True), (ticket, said)
