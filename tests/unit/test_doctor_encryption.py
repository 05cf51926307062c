"""The doctor finds what is wrong with the keys before a ticket does."""

import asyncio
from pathlib import Path

import pytest

from standfast.codec.keyring import KeyRing
from standfast.doctor.check import Check
from standfast.doctor.encryption import inspect_encryption
from standfast.settings import Encryption


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(KeyRing.new().rotated().to_toml())
    path.chmod(0o600)
    return path


def looked_at(encryption: Encryption) -> Check:
    (check,) = asyncio.run(inspect_encryption(encryption))
    return check


def test_keys_that_are_well(file: Path) -> None:
    check = looked_at(Encryption(file=file))
    ring = KeyRing.parse(file.read_text(), source="file")
    assert check.ok
    assert f"{ring.active} encrypts, fingerprint {ring.fingerprint(ring.active)}; 1 more can" in check.message


def test_keys_that_others_can_read(file: Path) -> None:
    file.chmod(0o640)
    check = looked_at(Encryption(file=file))
    assert (check.ok, check.message) == (False, f"others can read {file}; chmod 600 {file}")


@pytest.mark.parametrize(
    ("encryption", "message"),
    [(Encryption(), "there is no key"), (Encryption(enabled=False), "can be read there; set it to true")],
    ids=["no key", "off"],
)
def test_payloads_that_are_not_encrypted(encryption: Encryption, message: str) -> None:
    check = looked_at(encryption)
    assert not check.ok
    assert message in check.message
