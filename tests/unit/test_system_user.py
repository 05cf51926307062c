"""Whoever runs a command has a name on record, which is not what the environment says."""

import os
import pwd

import pytest

from standfast.dashboard.sessions import local_session
from standfast.system_user import system_user

NAMELESS = 3_999_999_999


def test_the_user_is_who_runs_the_process_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER"):
        monkeypatch.setenv(variable, "somebody-else")
    assert system_user() == local_session().user == pwd.getpwuid(os.getuid()).pw_name


def test_a_user_without_a_name_is_called_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NAMELESS)
    assert system_user() == local_session().user == "uid-3999999999"
