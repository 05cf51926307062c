"""Free TCP ports on the loopback interface."""

import secrets
import socket
from collections.abc import Collection

# Below the range from which systems take the ports of outgoing connections (Linux: from 32768): else, while a service
# is away for a moment, a client that tries to reach it can be given the very same port and talk to itself.
_RANGE = range(20000, 32000)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do: connections that a former server left in TIME_WAIT don't matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(taken: Collection[int] = ()) -> int:
    """Return a port on which nobody listens and that isn't `taken`; random, so that two callers at once get two."""
    while not is_free(port := secrets.choice(_RANGE)) or port in taken:
        pass
    return port
