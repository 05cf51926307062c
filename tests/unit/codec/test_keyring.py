"""Keys come from settings, a file or a command; what is wrong with them is named, and no key is ever shown."""

import asyncio
import base64
import sys
from pathlib import Path

import pytest

from standfast.codec import keyring
from standfast.codec.keyring import KeyRing, Keys, read_ring
from standfast.errors import InvalidInput, UnknownKey
from standfast.settings import Encryption

ONE = base64.b64encode(b"1" * 32).decode()
TWO = base64.b64encode(b"2" * 32).decode()
SHORT = base64.b64encode(b"secret-but-short").decode()
FILE = f'active = "two"\n[keys]\none = "{ONE}"\ntwo = "{TWO}"\n'


def settings(**values: object) -> Encryption:
    return Encryption.model_validate(values)


def test_keys_come_from_settings_a_file_or_a_command(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(FILE)
    expected = KeyRing("two", {"one": b"1" * 32, "two": b"2" * 32})
    for found in (
        settings(keys={"one": ONE, "two": TWO}, active="two"),
        settings(file=file),
        settings(command=(sys.executable, "-c", f"print({FILE!r})")),
    ):
        assert read_ring(found) == expected
    assert read_ring(settings(keys={"one": ONE})).active == "one"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, r"no key: .*`standfast keys new`"),
        ({"keys": {"one": ONE}, "file": "keys.toml"}, r"encryption\.keys and encryption\.file are set"),
        ({"keys": {"one": ONE, "two": TWO}}, r"encryption\.active is not set; .* one, two"),
        ({"keys": {"one": ONE}, "active": "two"}, r"the active key 'two' is not in the ring, which has one"),
        ({"keys": {"one": SHORT}}, r"encryption\.keys: key one has 16 bytes instead of 32"),
        ({"keys": {"one": "*"}}, r"encryption\.keys: a key is not 32 bytes in base64"),
        ({"keys": {"one": "schlüssel"}}, r"encryption\.keys: a key is not 32 bytes in base64"),
        ({"file": "missing.toml"}, r"encryption\.file /.*/missing\.toml: can't be read: .* is this the folder"),
        ({"command": [sys.executable, "-c", "raise SystemExit('sealed')"]}, r"exit code 1: sealed"),
        ({"command": [sys.executable, "-c", ""]}, r"encryption\.command .*: is no key ring"),
        ({"command": ["/nowhere/vault"]}, r"encryption\.command /nowhere/vault: .*No such file"),
    ],
)
def test_what_is_wrong_with_the_keys_is_named(found: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        read_ring(settings(**found))
    assert not any(key in str(raised.value) for key in (ONE, TWO, SHORT))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "active = 'one'",
        "keys = 1\nactive = 'one'",
        "active = 1\n[keys]\n",
        f"active = 'one'\n[keys]\none = ['{ONE}']",
        "active = 'one'\n[keys]\none = 'schlüssel'",
    ],
)
def test_a_file_that_holds_something_else_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^my file: ") as raised:
        KeyRing.parse(text, source="my file")
    assert ONE not in str(raised.value)


def test_a_key_file_reads_back() -> None:
    ring = KeyRing.new().rotated()
    assert KeyRing.parse(ring.to_toml(), source="file") == ring


def test_rotation_makes_a_new_active_key_and_keeps_the_old_ones() -> None:
    first = KeyRing.new()
    second = first.rotated()
    assert second.active not in first.keys
    assert second.keys.items() > first.keys.items()
    assert second.fingerprint(second.active) != second.fingerprint(first.active)


def test_a_ring_does_not_show_its_keys() -> None:
    assert "111" not in repr(KeyRing("one", {"one": b"1" * 32}))
    assert ONE not in repr(settings(keys={"one": ONE}))


async def test_a_key_that_was_made_meanwhile_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "_PAUSE", 0)
    file, first = tmp_path / "keys.toml", KeyRing.new()
    file.write_text(first.to_toml())
    keys = Keys(lambda: read_ring(settings(file=file)))
    second = first.rotated()
    file.write_text(second.to_toml())

    await keys.cipher(second.active)

    assert keys.ring == second


async def test_a_key_that_nobody_has_is_named_with_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "_PAUSE", 0)
    file = tmp_path / "keys.toml"
    file.write_text(FILE)
    keys = Keys(lambda: read_ring(settings(file=file)))
    file.unlink()  # the ring that was read still serves
    with pytest.raises(UnknownKey, match=r"key 'three', and this process has one, two; add that key"):
        await keys.cipher("three")
    await keys.cipher("one")


async def test_payloads_that_wait_for_a_key_share_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "_PAUSE", 0)
    readings: list[None] = []

    def read() -> KeyRing:
        readings.append(None)
        return KeyRing("one", {"one": b"1" * 32})

    keys = Keys(read)
    answers = await asyncio.gather(*(keys.cipher("three") for _ in range(10)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [UnknownKey] * 10
    assert len(readings) == 2
