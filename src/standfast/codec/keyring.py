"""The key ring: named keys, one of which encrypts while all decrypt. From settings, a file, or a command's output."""

import asyncio
import base64
import hashlib
import hmac
import logging
import re
import secrets
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Self

import tomli_w
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from standfast.errors import InvalidInput, UnknownKey
from standfast.settings import KEY_ID, Encryption

KEY_BYTES = 32

_PAUSE = 1.0  # seconds between two readings, since a command may ask a secret manager that counts
_COMMAND = 30.0  # seconds; a secret manager's answer
_CREATE = "`standfast keys new` makes one"
# A key that is made in the wrong folder reads nothing of what the right one's has encrypted.
_WHERE = f"is this the folder of your standfast.toml or `standfast up`? For a new installation {_CREATE}"

logger = logging.getLogger("standfast.codec")


@dataclass(frozen=True)
class KeyRing:
    """Keys by their ids.

    Raises:
        InvalidInput: there is no key, the active one is not among them, or one has a wrong id or length.
    """

    active: str
    """Id of the key that encrypts."""
    keys: Mapping[str, bytes] = field(repr=False)
    """Key id -> 32 bytes."""

    def __post_init__(self) -> None:
        for key_id, key in self.keys.items():
            if not re.fullmatch(KEY_ID, key_id):
                raise InvalidInput(f"{key_id!r} can't be the id of a key; expected {KEY_ID}")
            if len(key) != KEY_BYTES:
                raise InvalidInput(f"key {key_id} has {len(key)} bytes instead of {KEY_BYTES}; {_CREATE}")
        if self.active not in self.keys:
            raise InvalidInput(f"the active key {self.active!r} is not in the ring, which has {_named(self.keys)}")

    @cached_property
    def _ciphers(self) -> dict[str, AESGCM]:
        return {key_id: AESGCM(key) for key_id, key in self.keys.items()}

    def derived(self, purpose: bytes, key_id: str | None = None) -> bytes:
        """Return a key for something else than encryption, made of the active one, or of the one with this id."""
        return hmac.digest(self.keys[key_id or self.active], purpose, "sha256")

    @classmethod
    def new(cls) -> Self:
        """Return a ring with one new key."""
        key_id = _new_id(())
        return cls(key_id, {key_id: secrets.token_bytes(KEY_BYTES)})

    @classmethod
    def parse(cls, text: str, *, source: str) -> Self:
        """Return the ring that a key file or a command's output holds: `active`, and the table `keys`.

        Raises:
            InvalidInput: naming `source`, but no key.
        """
        try:
            document = tomllib.loads(text)
            keys = {key_id: base64.b64decode(key, validate=True) for key_id, key in document["keys"].items()}
            return cls(document["active"], keys)
        except (KeyError, AttributeError, TypeError, ValueError):
            raise InvalidInput(
                f"{source}: is no key ring; expected TOML with `active` and a table `keys` of base64; {_CREATE}"
            ) from None
        except InvalidInput as error:
            raise InvalidInput(f"{source}: {error}") from None

    def rotated(self) -> Self:
        """Return a ring with one more key, which is the active one."""
        key_id = _new_id(self.keys)
        return type(self)(key_id, {**self.keys, key_id: secrets.token_bytes(KEY_BYTES)})

    def to_toml(self) -> str:
        """Return the content of a key file: what `parse` reads. It is secret."""
        keys = {key_id: base64.b64encode(key).decode() for key_id, key in self.keys.items()}
        return tomli_w.dumps({"active": self.active, "keys": keys})

    def fingerprint(self, key_id: str) -> str:
        """Return the beginning of the key's SHA-256: tells keys apart and gives nothing away."""
        return hashlib.sha256(self.keys[key_id]).hexdigest()[:16]

    def cipher(self, key_id: str) -> AESGCM:
        """Return the cipher with one of the keys.

        Raises:
            UnknownKey: the ring has no such key.
        """
        try:
            return self._ciphers[key_id]
        except KeyError:
            raise UnknownKey(
                f"it is encrypted with key {key_id!r}, and this process has {_named(self.keys)}; "
                "add that key to its key ring (docs/encryption.md)"
            ) from None


class Keys:
    """The key ring of this process, read anew when a payload names a key that is not in it.

    So a key that was made meanwhile is found by the processes that run already.
    """

    def __init__(self, read: Callable[[], KeyRing]) -> None:
        self.ring = read()
        self._read = read
        self._read_at = monotonic()
        self._reading = asyncio.Lock()

    async def cipher(self, key_id: str) -> AESGCM:
        """Return the cipher with the key of this id.

        Raises:
            UnknownKey: not even the newest ring has it.
        """
        if key_id not in self.ring.keys:
            await self._read_again(key_id)
        return self.ring.cipher(key_id)

    async def _read_again(self, key_id: str) -> None:
        """Read the ring as it is from now on; those who ask at the same time share one reading."""
        asked = monotonic()
        async with self._reading:
            if self._read_at > asked:
                return
            await asyncio.sleep(self._read_at + _PAUSE - monotonic())
            self._read_at = monotonic()
            try:
                self.ring = await asyncio.to_thread(self._read)
            except InvalidInput as error:
                logger.warning("the key ring can't be read again for key %s: %s", key_id, error)


def read_ring(encryption: Encryption) -> KeyRing:
    """Return the key ring that the settings name.

    Raises:
        InvalidInput: they name none, or more than one, or it can't be read.
    """
    if len(encryption.places) > 1:
        named = " and encryption.".join(encryption.places)
        raise InvalidInput(f"encryption.{named} are set; keys come from one place")
    if encryption.file is not None:
        path = encryption.file.absolute()
        return KeyRing.parse(_file(path), source=f"encryption.file {path}")
    if encryption.command:
        return KeyRing.parse(_output(encryption.command), source=f"encryption.command {encryption.command[0]}")
    if encryption.keys:
        return _from_settings(encryption)
    raise InvalidInput(
        "payloads are encrypted, and there is no key: none of encryption.file, encryption.command and encryption.keys "
        f"is set; {_WHERE}"
    )


def _from_settings(encryption: Encryption) -> KeyRing:
    active = encryption.active
    if active is None:
        if len(encryption.keys) > 1:
            raise InvalidInput(f"encryption.active is not set; name the key that encrypts: {_named(encryption.keys)}")
        active = next(iter(encryption.keys))
    try:
        keys = {name: base64.b64decode(k.get_secret_value(), validate=True) for name, k in encryption.keys.items()}
        return KeyRing(active, keys)
    except ValueError:
        raise InvalidInput(f"encryption.keys: a key is not 32 bytes in base64; {_CREATE}") from None
    except InvalidInput as error:
        raise InvalidInput(f"encryption.keys: {error}") from None


def _file(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"encryption.file {path}: can't be read: {error}; {_WHERE}") from error


def _output(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_COMMAND, text=True)  # noqa: S603 - the operator's
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired) as error:
        raise InvalidInput(f"encryption.command {command[0]}: {error}") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip()[-500:]
        raise InvalidInput(f"encryption.command {command[0]}: exit code {error.returncode}: {said}") from None
    return done.stdout


def _named(keys: Mapping[str, object]) -> str:
    return ", ".join(sorted(keys)) or "none"


def _new_id(taken: Mapping[str, bytes] | tuple[()]) -> str:
    """Return an id that tells when the key was made."""
    while True:
        key_id = f"{datetime.now(UTC):%Y-%m-%d}-{secrets.token_hex(2)}"
        if key_id not in taken:
            return key_id
