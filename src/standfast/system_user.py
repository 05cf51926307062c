"""Who uses this machine."""

import os
import pwd


def system_user() -> str:
    """Return the name of the user that this process runs as; the environment may say what it likes."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may run under a number that has no name
        return f"uid-{uid}"
