"""`standfast batch`: thousands of tickets from a file, by command line."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.installation import LIMIT, PROGRAM, Answer, Installation, until


def question(name: str) -> dict[str, Any]:
    return {"id": name, "body": "How long does delivery to Austria take?", "requester": "ana@example.com"}


def file(installation: Installation, name: str, *lines: Any) -> str:
    path = installation.folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Tests in the background may have been started deaf to SIGINT, and what they start would be deaf, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def documents(answer: Answer) -> list[Any]:
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_a_batch_is_followed_to_its_end_and_its_results_are_json_lines(installation: Installation) -> None:
    name = file(installation, "batch.jsonl", question("BATCH-1"), "", question("BATCH-2"))
    answer = installation.run("batch", name, "--id", "questions", "--at-once", "2")
    assert answer.exit_code == 0, answer
    assert "batch questions  done" in answer.stdout
    assert "questions  2/2" in answer.stderr
    results = documents(installation.run("batch", "results", "questions"))
    assert [(one["line"], one["id"], one["workflow_id"], one["state"]) for one in results] == [
        (1, "BATCH-1", "ticket/shop/BATCH-1", "done"),
        (3, "BATCH-2", "ticket/shop/BATCH-2", "done"),
    ]
    assert all(one["reason"].startswith("Nothing to change.") for one in results)
    *_, end = documents(installation.run("--json", "batch", name, "--id", "questions"))
    assert (end["state"], end["states"]) == ("done", {"done": 2})
    assert installation.run("--json", "batch", "show", "questions").json == end
    for command in ("pause", "resume", "cancel"):
        assert installation.run("batch", command, "questions").exit_code == 1


@pytest.mark.usefixtures("interruptible")
def test_a_program_that_follows_a_batch_may_be_ended_and_the_batch_goes_on(installation: Installation) -> None:
    name = file(installation, "interrupted.jsonl", question("GOES-ON-1"), question("GOES-ON-2"))
    arguments = ("batch", name, "--per-minute", "15", "--id", "goes-on")  # it must not end before the program does
    log = installation.folder / "interrupted.log"
    with log.open("wb") as stderr:
        following = subprocess.Popen(
            [*PROGRAM, *arguments], cwd=installation.folder, env=installation.environment, stderr=stderr
        )
        until(lambda: "goes-on  " in log.read_text())
        following.send_signal(signal.SIGINT)
        assert following.wait(LIMIT) == 130
    assert "batch goes-on goes on" in log.read_text()
    answer = installation.run(*arguments)
    assert "was started before" in answer.stdout
    assert answer.exit_code == 0, answer
    assert [one["state"] for one in documents(installation.run("batch", "results", "goes-on"))] == ["done"] * 2


def test_a_batch_is_steered_from_elsewhere(installation: Installation) -> None:
    name = file(installation, "steered.jsonl", *(question(f"STEERED-{n}") for n in range(4)))
    answer = installation.run("--json", "batch", name, "--per-minute", "2", "--id", "steered", "--detach")
    assert (answer.exit_code, answer.json) == (0, {"batch_id": "steered", "tickets": 4, "started": True})
    assert installation.run("--json", "batch", "pause", "steered").json["state"] == "paused"
    assert installation.run("--json", "batch", "resume", "steered").json["state"] == "running"
    assert installation.run("--json", "batch", "cancel", "steered", "--tickets").json["state"] == "cancelling"
    answer = installation.run("batch", name, "--id", "steered")
    assert answer.exit_code == 1
    assert "not_started" in answer.stdout
    assert [one["state"] for one in documents(installation.run("batch", "results", "steered"))][1:] == [
        "not_started"
    ] * 3


def test_nothing_of_a_file_is_started_if_a_ticket_is_invalid(installation: Installation) -> None:
    name = file(installation, "invalid.jsonl", question("INVALID-1"), "{", question("-"))
    answer = installation.run("batch", name)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"standfast: {name}, line 2, column 2: not valid JSON")
    assert "1 further tickets are invalid; nothing was started" in answer.stderr
    assert installation.run("show", "INVALID-1").exit_code == 2
    answer = installation.run("batch", name, "--skip-invalid")
    assert answer.exit_code == 0, answer
    assert "line 3" in answer.stdout
    assert "1        done" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("missing.jsonl",), "missing.jsonl: can't be read"),
        (("show", "nothing"), "unknown batch nothing"),
        (("results", "nothing"), "unknown batch nothing"),
        (("pause", "nothing"), "unknown batch nothing"),
        (("show",), "Missing argument 'ID'"),
        (("missing.jsonl", "--at-once", "0"), "0 is not in the range 1<=x<=500"),
    ],
)
def test_wrong_usage_is_one_line(installation: Installation, arguments: tuple[str, ...], expected: str) -> None:
    answer = installation.run("batch", *arguments)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert expected in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_file_of_a_batch_is_read_as_a_whole_before_anything_is_started(
    installation: Installation, tmp_path: Path
) -> None:
    name = tmp_path / "large.jsonl"
    name.write_text("\n".join([*(json.dumps(question(f"L-{n}")) for n in range(10_000)), "{"]))
    answer = installation.run("batch", str(name))
    assert answer.exit_code == 2
    assert "line 10001" in answer.stderr
    assert installation.run("show", "L-0").exit_code == 2
