"""The home folder of the local set-up: one run at a time, and the same ports and secrets from run to run."""

import json
import os
import socket
from pathlib import Path

import pytest

from standfast.codec.keyring import KeyRing
from standfast.errors import InvalidInput
from standfast.local.home import Home
from standfast.signing import new_key_pair


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "my home")


def lock(home: Home) -> None:
    with home.lock():
        pass


def test_a_second_run_on_the_same_folder_is_refused_and_told_who_is_there(home: Home) -> None:
    with home.lock():
        for _ in range(2):  # the first refusal leaves everything as it was
            with pytest.raises(InvalidInput, match=rf"in use by another .*\(process {os.getpid()}\); stop it"):
                lock(Home(home.folder))
    lock(home)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"file/home can't be used: .*set STANDFAST_HOME"):
        lock(Home(tmp_path / "file" / "home"))


def test_a_file_in_the_place_of_a_folder_is_named(home: Home) -> None:
    with home.lock():
        (home.folder / "config").touch()
        with pytest.raises(InvalidInput, match=r"my home can't be used: .*File exists: .*/config'; set STANDFAST_HOME"):
            home.write("config/core.toml", "")


def test_ports_stay_the_same_and_differ_from_each_other(home: Home) -> None:
    with home.lock():
        first = home.ports("a", "b")
        assert len(set(first.values())) == 2
        assert home.ports("a", "b", "c").items() >= first.items()


def test_a_port_that_was_taken_meanwhile_is_chosen_anew(home: Home) -> None:
    with home.lock(), socket.socket() as squatter:
        first = home.ports("a", "b")
        squatter.bind(("127.0.0.1", first["a"]))
        squatter.listen()
        second = home.ports("a", "b")
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]


def test_secrets_are_made_once_and_are_for_their_owner_only(home: Home) -> None:
    with home.lock():
        first = home.secrets()
        assert home.secrets() == first
    file = home.folder / "secrets.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert home.folder.stat().st_mode & 0o777 == 0o700
    passwords = {first.control, first.reader, first.rehearser, first.writer}
    assert len(passwords) == 4
    assert not any(secret in repr(first) for secret in passwords | {first.signing_key})


def test_damaged_secrets_are_named_but_not_shown(home: Home) -> None:
    private, _ = new_key_pair()
    with home.lock():
        home.write("secrets.json", f'{{"signing_key": "{private}"}}')
        with pytest.raises(InvalidInput, match=r"(?s)secrets\.json is not as .*restore the file") as error:
            home.secrets()
    assert private not in str(error.value)


def test_the_keys_for_payloads_are_made_once_and_are_for_their_owner_only(home: Home) -> None:
    with home.lock():
        home.secrets()
        file = home.key_file()
        first = KeyRing.parse(file.read_text(), source="file")
        assert KeyRing.parse(home.key_file().read_text(), source="file") == first
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_home_of_an_older_version_gets_what_is_new(home: Home) -> None:
    with home.lock():
        old = json.loads(home.secrets().model_dump_json(exclude={"journal", "codec_token"}))
        home.write("secrets.json", json.dumps(old))
        completed = home.secrets()
        assert completed.codec_token
        assert home.secrets() == completed


@pytest.mark.parametrize("trouble", [ConnectionRefusedError(), TimeoutError()])
def test_a_service_that_does_not_answer_is_no_trouble_with_the_home_folder(home: Home, trouble: OSError) -> None:
    with pytest.raises(type(trouble)), home.used():
        raise trouble
