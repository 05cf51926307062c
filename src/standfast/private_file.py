"""Files that only their owner can read, or those whom he has let read them."""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from standfast.errors import InvalidInput, NotPermitted

_ACCESS_LIST = "system.posix_acl_access"


def write(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all.

    Raises:
        InvalidInput: it can't be written there.
    """
    try:
        _put(path, text, like=None)
    except OSError as error:
        raise _unwritable(path, error) from error


def rewrite(path: Path, text: str) -> None:
    """Write a file anew where it is, behind links too, for those who can read it now; whole or not at all.

    Raises:
        InvalidInput: it can't be written there, or not for the same readers.
    """
    try:
        place = path.resolve(strict=True)
        _put(place, text, like=place)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Keep others who change this file waiting, from before it is read until after it is written.

    Raises:
        InvalidInput: its folder can't be used.
        NotPermitted: it is somebody else's, who could not read what we would write.
    """
    with ExitStack() as held:
        try:
            place = path.resolve(strict=True)
            folder = held.enter_context(_opened(place.parent))  # the file itself is another one after each writing
            fcntl.flock(folder, fcntl.LOCK_EX)
            owner = place.stat().st_uid
        except OSError as error:
            raise _unwritable(path, error) from error
        if owner != os.geteuid():
            raise NotPermitted(f"{path} is of user {owner}, and we are user {os.geteuid()}; change it as its owner")
        yield


def _put(path: Path, text: str, *, like: Path | None) -> None:
    """Write beside the final place first, under a name that nobody else uses."""
    with _opened(path.parent) as folder:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".standfast-")
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                if like is not None:
                    _let_read(descriptor, like)
                os.fsync(descriptor)
            draft.replace(path)
        except BaseException:
            draft.unlink()
            raise
        os.fsync(folder)


def _let_read(descriptor: int, like: Path) -> None:
    """Let those read a file of ours who can read `like`; it is its owner's alone until all is set."""
    readers = like.stat()
    os.fchown(descriptor, -1, readers.st_gid)
    access = _access_list(like)
    if access is not None:
        os.setxattr(descriptor, _ACCESS_LIST, access)
    elif _access_list(descriptor) is not None:  # from the folder
        os.removexattr(descriptor, _ACCESS_LIST)
    os.fchmod(descriptor, stat.S_IMODE(readers.st_mode))


def _access_list(file: Path | int) -> bytes | None:
    """Return the list of those who can read a file beside owner, group and others: POSIX ACLs of Linux."""
    try:
        return os.getxattr(file, _ACCESS_LIST)
    except OSError:  # there is none, or the file system knows none
        return None


def _unwritable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"{path}: can't be written: {error.strerror}")


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
