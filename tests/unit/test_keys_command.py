"""`standfast keys` makes, lists and rotates keys, and shows a key only where it is asked to make one."""

import json
import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from standfast import private_file
from standfast.cli.program import program
from standfast.codec.keyring import KeyRing
from standfast.errors import InvalidInput, NotPermitted

ROTATIONS = 8
NOBODY = 65534


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STANDFAST_CONFIG", raising=False)
    monkeypatch.setenv("STANDFAST_HOME", str(tmp_path / "home"))
    return tmp_path


def keys(*arguments: str) -> str:
    done = CliRunner().invoke(program, arguments, catch_exceptions=False, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def in_use(folder: Path) -> KeyRing:
    return KeyRing.parse((folder / "keys.toml").read_text(), source="keys.toml")


@pytest.fixture
def with_key_file(folder: Path) -> KeyRing:
    keys("keys", "new", "--file", "keys.toml")
    (folder / "standfast.toml").write_text('[encryption]\nfile = "keys.toml"\n')
    return in_use(folder)


def test_a_new_ring_is_printed_for_a_secret_manager() -> None:
    assert len(KeyRing.parse(keys("keys", "new"), source="stdout").keys) == 1
    document = json.loads(keys("--json", "keys", "new"))
    ring = KeyRing.parse(document["file"], source="stdout")
    assert (document["key"], document["fingerprint"]) == (ring.active, ring.fingerprint(ring.active))


def test_a_key_file_is_for_its_owner_and_never_written_over(folder: Path, with_key_file: KeyRing) -> None:
    assert (folder / "keys.toml").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidInput, match=r"keys\.toml is there already; `standfast keys rotate`"):
        keys("keys", "new", "--file", "keys.toml")
    assert in_use(folder) == with_key_file


def test_a_key_file_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "file").touch()
    places = {
        "missing/keys.toml": "No such file or directory",
        "file/keys.toml": "Not a directory",
        f"{'long' * 100}/keys.toml": "File name too long",
    }
    for place, reason in places.items():
        with pytest.raises(InvalidInput, match=rf"^{place}: can't be written: {reason}$"):
            keys("keys", "new", "--file", place)


def test_keys_are_listed_without_the_keys(folder: Path, with_key_file: KeyRing) -> None:
    active = with_key_file.active
    assert json.loads(keys("--json", "keys", "list")) == [
        {"key": active, "fingerprint": with_key_file.fingerprint(active), "active": True}
    ]
    secrets = tomllib.loads((folder / "keys.toml").read_text())["keys"].values()
    assert not any(secret in keys("keys", "list") for secret in secrets)


def test_rotation_adds_an_active_key_and_keeps_the_old_one(folder: Path, with_key_file: KeyRing) -> None:
    document = json.loads(keys("--json", "keys", "rotate"))
    ring = in_use(folder)
    assert ring.keys.items() > with_key_file.keys.items()
    assert (document["key"], document["before"]) == (ring.active, with_key_file.active)
    assert (folder / "keys.toml").stat().st_mode & 0o777 == 0o600


def test_rotations_at_the_same_time_lose_no_key(folder: Path, with_key_file: KeyRing) -> None:
    def rotate(_: int) -> None:
        program.main(["keys", "rotate"], standalone_mode=False)

    with ThreadPoolExecutor(ROTATIONS) as people:
        list(people.map(rotate, range(ROTATIONS)))
    ring = in_use(folder)
    assert ring.keys.items() > with_key_file.keys.items()
    assert len(ring.keys) == ROTATIONS + 1


def test_a_file_of_somebody_else_is_left_to_him(folder: Path) -> None:
    file = Path("/etc/passwd")
    if os.geteuid() == 0:  # everything there is root's own
        file = folder / "keys.toml"
        file.touch()
        os.chown(file, NOBODY, -1)
    with pytest.raises(NotPermitted, match=rf"{file} is of user \d+, and we are user"), private_file.changing(file):
        pass


def test_rotation_without_a_key_file_says_how_to_make_one(folder: Path) -> None:
    (folder / "standfast.toml").write_text('[encryption]\nfile = "nowhere/keys.toml"\n')
    with pytest.raises(InvalidInput, match=r"nowhere/keys\.toml: can't be read: .*`standfast keys new`"):
        keys("keys", "rotate")


def test_keys_that_are_somebody_elses_are_not_rotated(folder: Path) -> None:
    (folder / "standfast.toml").write_text('[encryption]\ncommand = ["cat", "keys.toml"]\n')
    (folder / "keys.toml").write_text(KeyRing.new().to_toml())
    with pytest.raises(InvalidInput, match=r"not in a file of ours .*: add a key to them where they are"):
        keys("keys", "rotate")
