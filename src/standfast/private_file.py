"""Files that only their owner can read."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standfast.errors import InvalidInput, NotPermitted


def write(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all.

    Raises:
        InvalidInput: it can't be written there.
    """
    try:
        _write(path, text)
    except OSError as error:
        raise InvalidInput(f"{path}: can't be written: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    with _opened(path.parent) as folder:
        os.fsync(folder)


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Keep others who change this file waiting, from before it is read until after it is written.

    Raises:
        NotPermitted: it is somebody else's, who could not read what we would write.
    """
    with _opened(path.parent) as folder:  # the file itself is another one after each writing
        fcntl.flock(folder, fcntl.LOCK_EX)
        owner = path.stat().st_uid
        if owner != os.geteuid():
            raise NotPermitted(f"{path} is of user {owner}, and we are user {os.geteuid()}; change it as its owner")
        yield


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
