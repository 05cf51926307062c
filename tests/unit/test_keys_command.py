"""`standfast keys` makes, lists and rotates keys, and shows a key only where it is asked to make one."""

import json
import os
import struct
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


@pytest.mark.usefixtures("with_key_file")
def test_a_file_beside_the_key_file_is_nobodys_draft(folder: Path) -> None:
    (folder / "keys.toml.new").write_text("somebody's own")
    keys("keys", "rotate")
    keys("keys", "new", "--file", "other.toml")
    assert (folder / "keys.toml.new").read_text() == "somebody's own"
    names = {"keys.toml", "keys.toml.new", "other.toml", "standfast.toml"}
    assert {path.name for path in folder.iterdir()} == names


def test_a_key_file_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "file").touch()
    places = {
        "missing/keys.toml": "No such file or directory",
        "file/keys.toml": "Not a directory",
        f"{'long' * 100}/keys.toml": "File name too long",
        "long" * 100: "File name too long",
    }
    for place, reason in places.items():
        with pytest.raises(InvalidInput, match=rf"^{place}: can't be written: {reason}$"):
            keys("keys", "new", "--file", place)
        with (
            pytest.raises(InvalidInput, match=rf"^{place}: can't be written: {reason}$"),
            private_file.changing(Path(place)),
        ):
            pass
    assert [path.name for path in folder.iterdir()] == ["file"], "a draft was left behind"


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


@pytest.mark.usefixtures("with_key_file")
def test_rotation_keeps_a_key_file_for_those_who_can_read_it(folder: Path) -> None:
    file = folder / "keys.toml"
    group = next((one for one in os.getgroups() if one != os.getegid()), os.getegid())
    os.chown(file, -1, NOBODY if os.geteuid() == 0 else group)
    file.chmod(0o640)
    before = file.stat()
    keys("keys", "rotate")
    after = file.stat()
    assert (after.st_gid, after.st_mode) == (before.st_gid, before.st_mode)
    assert len(in_use(folder).keys) == 2


@pytest.mark.usefixtures("with_key_file")
def test_rotation_lets_nobody_read_a_key_file_whom_its_access_list_keeps_out(folder: Path) -> None:
    file = folder / "keys.toml"
    named = access_list(user=NOBODY)
    try:
        os.setxattr(file, "system.posix_acl_access", named)
    except OSError:
        pytest.skip("this file system has no access lists")
    assert file.stat().st_mode & 0o777 == 0o640  # the mask: the group itself may nothing
    keys("keys", "rotate")
    assert os.getxattr(file, "system.posix_acl_access") == named
    os.setxattr(folder, "system.posix_acl_default", named)
    os.removexattr(file, "system.posix_acl_access")
    file.chmod(0o640)
    keys("keys", "rotate")
    assert "system.posix_acl_access" not in os.listxattr(file), "the folder's list holds for what is new in it"


def access_list(*, user: int) -> bytes:
    """Return what Linux has for `u::rw,u:USER:r,g::-,m::r,o::-`."""
    nobody_in_particular = 2**32 - 1
    entries = ((0x01, 6, None), (0x02, 4, user), (0x04, 0, None), (0x10, 4, None), (0x20, 0, None))
    whose = [(tag, rights, nobody_in_particular if who is None else who) for tag, rights, who in entries]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in whose)


@pytest.mark.usefixtures("with_key_file")
def test_rotation_writes_a_key_file_where_a_link_leads(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "keys.toml").rename(folder / "elsewhere/ring.toml")
    (folder / "keys.toml").symlink_to("elsewhere/ring.toml")
    keys("keys", "rotate")
    assert (folder / "keys.toml").is_symlink()
    assert len(KeyRing.parse((folder / "elsewhere/ring.toml").read_text(), source="ring").keys) == 2


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
