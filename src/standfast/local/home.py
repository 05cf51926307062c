"""The folder of the local set-up: one run at a time, and what stays the same from run to run."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from standfast import private_file
from standfast.codec.keyring import KeyRing
from standfast.errors import InvalidInput
from standfast.local.ports import free_port, is_free
from standfast.signing import new_key_pair

Kept = TypeVar("Kept")


def _password() -> str:
    return secrets.token_urlsafe(24)


class Secrets(BaseModel):
    """Passwords and keys, generated once."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    control: str = Field(repr=False)
    journal: str = Field(repr=False, default_factory=_password)  # homes of version 0.1 have none
    storage: str = Field(repr=False, default_factory=_password)
    """Passwords of the control database's roles."""
    codec_token: str = Field(repr=False, default_factory=_password)  # nor this one
    """What lets `temporal` on the command line ask the codec server."""
    reader: str = Field(repr=False)
    rehearser: str = Field(repr=False)
    writer: str = Field(repr=False)
    """Passwords of the sample shop's roles."""
    signing_key: str = Field(repr=False)
    public_key: str
    """The pair with which decisions are signed and verified."""


class Home:
    """The folder `$STANDFAST_HOME`, readable by its owner alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Say that the folder is the trouble when the system refuses something to who uses it.

        Raises:
            InvalidInput: naming the folder, and what was refused.
        """
        try:
            yield
        except (ConnectionError, TimeoutError):  # are OSErrors, too, but of no file
            raise
        except OSError as error:
            raise InvalidInput(f"{self.folder} can't be used: {error}; set STANDFAST_HOME to another folder") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other run out of this folder.

        Raises:
            InvalidInput: another run has it, or the folder can't be written.
        """
        with self.used():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Opened for appending, so that a second run doesn't wipe out the first one's id.
            lock = (self.folder / "lock").open("a+")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise InvalidInput(
                    f"{self.folder} is in use by another `standfast up` (process {lock.read().strip() or 'unknown'}); "
                    "stop it, or set STANDFAST_HOME to another folder"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def ports(self, *names: str) -> Mapping[str, int]:
        """Return a port for each name: the same as last time unless somebody else listens there now.

        Raises:
            InvalidInput: the file that keeps them was damaged.
        """
        known = self._read("ports.json", dict[str, int]) or {}
        ports: dict[str, int] = {}
        for name in names:
            kept = known.get(name)
            ports[name] = kept if kept and is_free(kept) else free_port(taken=ports.values())
        self.write("ports.json", json.dumps(known | ports, indent=2))
        return ports

    def secrets(self) -> Secrets:
        """Return the passwords and keys of this set-up, generated on first use.

        Raises:
            InvalidInput: the file that keeps them was damaged.
        """
        kept = self._read("secrets.json", Secrets)
        if kept is None:
            private, public = new_key_pair()
            passwords = {name: _password() for name in ("control", "reader", "rehearser", "writer")}
            kept = Secrets(signing_key=private, public_key=public, **passwords)
        self.write("secrets.json", kept.model_dump_json(indent=2))
        return kept

    def key_file(self) -> Path:
        """Return the file with the keys that payloads are encrypted with, made on first use.

        Whoever loses it loses what is in Temporal.
        """
        path = self.folder / "keys.toml"
        return path if path.exists() else self.write(path.name, KeyRing.new().to_toml())

    def write(self, name: str, text: str) -> Path:
        """Write a file that only its owner can read, whole or not at all; return its path.

        Raises:
            InvalidInput: it can't be written.
        """
        path = self.folder / name
        with self.used():
            path.parent.mkdir(exist_ok=True, mode=0o700)
        private_file.write(path, text)
        return path

    def _read(self, name: str, kind: type[Kept]) -> Kept | None:
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return TypeAdapter(kind).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidInput(f"{path} is not as `standfast up` left it: {error}; restore the file") from None
