"""Becomes a supervised program: `python -I -S launch.py PARENT UID:GID|- PROGRAM [ARGUMENT]...`.

A program of its own instead of Python's `preexec_fn`, which runs between fork and exec and may deadlock in a process
with threads; ours has those of the Temporal client. Needs nothing but the standard library, and replaces itself.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Take on the account, bind the life of this process to its parent's, and become the program."""
    parent, account, *program = sys.argv[1:]
    if account != "-":
        user, group = map(int, account.split(":"))
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    if sys.platform == "linux":
        # After the change of account, since the kernel forgets it then. SIGKILL, since nobody is left to insist.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit("the parent ended before this process was bound to it")
    try:
        os.execv(program[0], program)  # noqa: S606 - becoming the program is the point
    except OSError as error:
        sys.exit(f"{program[0]} can't be run: {error}")


if __name__ == "__main__":
    main()
