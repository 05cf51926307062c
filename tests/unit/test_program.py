"""The program's exit codes and what machines are told with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from standfast.cli.invocation import Invocation
from standfast.cli.program import main


def test_a_defect_has_an_exit_code_of_its_own_and_machines_get_a_document(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def settings(_: Invocation, *, local: bool = True) -> None:
        del local
        raise KeyError("nobody foresaw")

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(Invocation, "settings", settings)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # `main` puts another one in its place
    monkeypatch.setattr(sys, "argv", ["standfast", "list", "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 70
    said, shown = capfd.readouterr()
    message = "a defect of Standfast: KeyError, with its traceback on stderr"  # whose words may quote rows
    assert json.loads(said) == {"error": {"code": "defect", "message": message}}
    assert "Traceback (most recent call last):" in shown
    assert "KeyError: 'nobody foresaw'" in shown


PROGRAM = (sys.executable, "-P", "-m", "standfast.cli")


def in_shell(folder: Path, redirection: str, *arguments: str) -> tuple[int, str]:
    """Run the program with its streams redirected; return its exit code, and what is said on stderr."""
    shell = ("sh", "-c", f'"$@" {redirection}', "sh")
    done = subprocess.run([*shell, *PROGRAM, *arguments], capture_output=True, cwd=folder, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("arguments", [("keys", "new"), ("--json", "keys", "new"), ("keys", "new", "--file", "k.toml")])
@pytest.mark.parametrize(
    ("redirection", "reason"), [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_output_that_cannot_be_written_is_no_defect(
    tmp_path: Path, arguments: tuple[str, ...], redirection: str, reason: str
) -> None:
    said = f"standfast: the output can't be written: {reason}\n"
    assert in_shell(tmp_path, redirection, *arguments) == (1, said)


@pytest.mark.parametrize("arguments", [("keys", "new"), ("--json", "keys", "new"), ("keys", "new", "--file", "k.toml")])
def test_output_that_nobody_reads_has_an_exit_code_of_its_own(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*PROGRAM, *arguments], stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-", "2> /dev/full > /dev/full"])
def test_an_error_that_cannot_be_told_keeps_its_exit_code(tmp_path: Path, redirection: str) -> None:
    assert in_shell(tmp_path, redirection, "--json", "keys", "nonsense") == (2, "")


def test_a_closed_stdin_holds_no_tickets(tmp_path: Path) -> None:
    said = "standfast: stdin: can't be read: it is closed; name a file\n"
    assert in_shell(tmp_path, "<&-", "submit", "-") == (2, said)
