"""The program's exit codes and what machines are told with them."""

import json
import os
import sys

import pytest

from standfast.cli.invocation import Invocation
from standfast.cli.program import main


def test_a_defect_has_an_exit_code_of_its_own_and_machines_get_a_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def settings(_: Invocation, *, local: bool = True) -> None:
        del local
        raise KeyError("nobody foresaw")

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(Invocation, "settings", settings)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "argv", ["standfast", "list", "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 70
    said, shown = capsys.readouterr()
    message = "a defect of Standfast: KeyError, with its traceback on stderr"  # whose words may quote rows
    assert json.loads(said) == {"error": {"code": "defect", "message": message}}
    assert "Traceback (most recent call last):" in shown
    assert "KeyError: 'nobody foresaw'" in shown
