"""A gate on the wire to PostgreSQL: it stops one message, once, so that its sender can be killed right there."""

import asyncio
from collections.abc import Callable

from tests.integration.wire import Fate

Matches = Callable[[bytes], bool]


class Hold:
    """One message that is awaited."""

    def __init__(self, matches: Matches) -> None:
        self.matches = matches
        self.reached = asyncio.Event()
        """The message is here; its sender waits for the answer."""
        self._fate: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()

    def let(self, fate: Fate) -> None:
        """Say what becomes of the message."""
        if not self._fate.done():
            self._fate.set_result(fate)

    async def fate(self) -> Fate:
        """Wait for what is said."""
        return await self._fate


class Gate:
    """Watches one wire."""

    def __init__(self) -> None:
        self._hold: Hold | None = None

    def stop(self, matches: Matches) -> Hold:
        """Stop the next message that matches."""
        self._hold = Hold(matches)
        return self._hold

    async def watch(self, message: bytes) -> Fate:
        """Decide on a message, as the wire asks."""
        hold = self._hold
        if hold is None or not hold.matches(message):
            return Fate.PASS
        self._hold = None
        hold.reached.set()
        return await hold.fate()


def nth(count: int) -> Matches:
    """Match the n-th message from now on."""
    seen = 0

    def matches(message: bytes) -> bool:
        nonlocal seen
        seen += bool(message)
        return seen >= count

    return matches


def commit_of(workflow_id: str) -> Matches:
    """Match the COMMIT of the first transaction that names the ticket; a new connection sends one of its own."""
    named = False

    def matches(message: bytes) -> bool:
        nonlocal named
        named = named or workflow_id.encode() in message
        return named and message.startswith(b"Q") and message[5:].startswith(b"COMMIT")

    return matches
