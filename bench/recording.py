"""The SQL of one ticket, as it goes over the wire, step by step: what a program without Standfast would have to send.

Recorded from the product itself instead of written down, so that it stays the same SQL whatever becomes of the product.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from bench.installation import TARGET, Installation
from standfast.settings import Settings
from tests.integration.wire import Fate, Wire

Section = TypeVar("Section", bound=BaseModel)

_STEPS = {"reader": "gather", "journal": "plan", "url": "validate", "rehearser": "validate", "writer": "execute"}
"""Which step uses the role, as the settings call it..."""
_RECORDS = {"submission": "gather", "verdict": "validate", "execution": "conclude"}
"""...and which one appends a row of this kind to the audit chain."""


class Sent(BaseModel):
    """One statement."""

    session: str
    """Its role, and which of the role's connections: `writer 0`."""
    sql: str
    params: tuple[tuple[int, int, str | None], ...] = ()
    """As (type, format, hexadecimal bytes or null)."""


class Recording(BaseModel):
    """What was sent for one ticket."""

    ticket_id: str
    params: tuple[Any, ...]
    """Of the only operation of its plan."""
    workflow_id: str
    run_id: str
    planner_run_id: str
    steps: dict[str, list[Sent]]

    def sessions(self, step: str) -> set[str]:
        """Return the connections that the step uses."""
        return {sent.session for sent in self.steps[step]}

    def values(
        self, ticket_id: str, params: Sequence[Any], workflow_id: str | None, run_id: str | None
    ) -> dict[Any, Any]:
        """Return what the values of the recorded ticket become for another one."""
        own = (self.ticket_id, self.workflow_id, self.planner_run_id, *self.params, *map(str, self.params))
        return dict(zip(own, (ticket_id, workflow_id, run_id, *params, *map(str, params)), strict=True))


class Recorder:
    """Notes what goes through the wires of an installation."""

    def __init__(self) -> None:
        self.steps: dict[str, list[Sent]] = {}
        self._sessions: dict[str, list[_Session]] = {}

    @asynccontextmanager
    async def tapped(self, installation: Installation) -> AsyncIterator[Settings]:
        """Give settings of the installation whose every connection is recorded."""
        settings = installation.settings
        async with AsyncExitStack() as stack:

            async def tapped(section: Section) -> Section:
                urls = {
                    role: SecretStr((await stack.enter_async_context(self._tap(role, url))).url)
                    for role, url in urls_of(section).items()
                }
                return section.model_copy(update=urls)

            control, target = await tapped(settings.control), await tapped(settings.targets[TARGET])
            yield settings.model_copy(update={"control": control, "targets": {TARGET: target}})

    def start(self) -> None:
        """Forget what was recorded so far; connections stay known."""
        self.steps = {}

    @asynccontextmanager
    async def _tap(self, role: str, url: str) -> AsyncIterator[Wire]:
        sessions = self._sessions.setdefault(role, [])
        by_connection: dict[asyncio.Task[Any] | None, _Session] = {}

        async def watch(message: bytes) -> Fate:
            connection = asyncio.current_task()  # the wire serves each connection in a task of its own
            if connection not in by_connection:
                by_connection[connection] = _Session(f"{role} {len(sessions)}")
                sessions.append(by_connection[connection])
            sent = by_connection[connection].understand(message)
            if sent is not None and sent.sql:  # an empty statement is the connection pool's look at a connection
                self.steps.setdefault(_step(role, sent), []).append(sent)
            return Fate.PASS

        async with Wire(url).open() as wire:
            wire.watch = watch
            yield wire


class _Session:
    """One connection, and the statements that are prepared on it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._prepared: dict[bytes, tuple[str, list[int]]] = {}

    def understand(self, message: bytes) -> Sent | None:
        """Return the statement that the message executes, if it does."""
        kind, content = message[:1], _Reader(message[5:])
        if kind == b"Q":
            return Sent(session=self._name, sql=content.text().decode())
        if kind == b"P":
            name, sql = content.text(), content.text().decode()
            self._prepared[name] = sql, [content.number(4) for _ in range(content.number(2))]
        if kind == b"B":
            content.text()  # the portal
            sql, types = self._prepared[content.text()]
            formats = [content.number(2) for _ in range(content.number(2))]
            values = [content.bytes_or_null() for _ in range(content.number(2))]
            params = (
                (_nth(types, n, 0), _nth(formats, n, formats[0] if formats else 0), value and value.hex())
                for n, value in enumerate(values)
            )
            return Sent(session=self._name, sql=sql, params=tuple(params))
        return None


class _Reader:
    """Reads the fields of a message."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def text(self) -> bytes:
        found, _, self._content = self._content.partition(b"\0")
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self._take(size), signed=True)

    def bytes_or_null(self) -> bytes | None:
        size = self.number(4)
        return None if size < 0 else self._take(size)

    def _take(self, size: int) -> bytes:
        found, self._content = self._content[:size], self._content[size:]
        return found


def urls_of(section: BaseModel) -> dict[str, str]:
    """Return the URLs in a section of the settings that a step uses, by role."""
    values = {role: getattr(section, role, None) for role in _STEPS}
    return {role: value.get_secret_value() for role, value in values.items() if isinstance(value, SecretStr)}


def _step(role: str, sent: Sent) -> str:
    if "append_audit" in sent.sql:
        texts = {bytes.fromhex(value).decode() for _, _, value in sent.params if value}
        return next(step for kind, step in _RECORDS.items() if kind in texts)
    return _STEPS[role]


def _nth(values: list[int], n: int, default: int) -> int:
    return values[n] if n < len(values) else default
