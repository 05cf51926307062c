"""Doing it: signals to processes, trouble at the provider, and knowing when the cause is over."""

import asyncio
import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from standfast.errors import ServiceUnavailable
from standfast.local.chaos.faults import Fault, How, ModelFault, Planned, ProcessFault
from standfast.local.chaos.observer import Observer
from standfast.local.chaos.provider import ChaosProvider
from standfast.local.supervisor import Status

_LOOK = 0.05  # seconds between two looks at the services
_BACK_WITHIN = 120.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Injected:
    """A fault that happened."""

    fault: Fault
    at: datetime
    ended_at: datetime
    """When another process was ready in place of the killed one, the frozen one went on, or the provider was well."""
    service: str = ""
    """The very service that was hit, such as `worker-core-2`; empty for the model's provider."""
    pid: int | None = None
    """The process that was hit."""

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.ended_at - self.at).total_seconds()


class Injector:
    """Injects faults into one set-up and its provider."""

    def __init__(self, status: Callable[[], tuple[Status, ...]], provider: ChaosProvider, observer: Observer) -> None:
        self._status = status
        self._provider = provider
        self._observer = observer

    async def inject(self, planned: Planned) -> Injected:
        """Make the fault happen, and return when its cause is over and the tickets that it found have moved.

        Raises:
            ServiceUnavailable: what was killed did not come back.
        """
        if isinstance(planned.fault, ProcessFault):
            await _until(lambda: all(status.ready for status in self._status()), "not all services are ready")
            before, busy = await self._observer.look(planned.fault.pool if planned.aimed else None)
            injected = await self._hit(
                planned.fault, planned.seconds, *self._victim(planned.fault.service, planned.choice, busy)
            )
        else:
            before, _ = await self._observer.look()
            injected = await self._misbehave(planned.fault, planned.seconds)
        await self._observer.until_moved(before)
        return injected

    async def _hit(self, fault: ProcessFault, seconds: float, service: str, pid: int) -> Injected:
        at = datetime.now(UTC)
        if fault.how is How.KILL:
            os.kill(pid, signal.SIGKILL)
            await _until(lambda: self._is_back(service, pid), f"{service} was killed and is not back")
        else:
            with _frozen(pid):
                await asyncio.sleep(seconds)
        return Injected(fault=fault, at=at, ended_at=datetime.now(UTC), service=service, pid=pid)

    async def _misbehave(self, fault: ModelFault, seconds: float) -> Injected:
        at = datetime.now(UTC)
        self._provider.trouble = fault.trouble
        try:
            await asyncio.sleep(seconds)
        finally:
            self._provider.trouble = None
        return Injected(fault=fault, at=at, ended_at=datetime.now(UTC))

    def _victim(self, kind: str, choice: float, busy: int | None) -> tuple[str, int]:
        """Return a service of the kind and its process: the busy one, if it is such a service's."""
        found = [
            (status.service, status.pid)
            for status in self._status()
            if status.pid is not None and f"{status.service}-".startswith(f"{kind}-")
        ]
        return next((one for one in found if one[1] == busy), found[int(choice * len(found))])

    def _is_back(self, service: str, killed: int) -> bool:
        return any(s.service == service and s.ready and s.pid != killed for s in self._status())


async def _until(condition: Callable[[], bool], otherwise: str) -> None:
    try:
        async with asyncio.timeout(_BACK_WITHIN):
            while not condition():  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        raise ServiceUnavailable(f"{otherwise} after {_BACK_WITHIN:.0f} s; see its log") from None


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    """Hold a process and its children. The parent goes first, so that it has no further ones meanwhile."""
    stopped: list[int] = []
    try:
        _send(pid, signal.SIGSTOP)
        stopped.append(pid)
        for child in _children(pid):
            _send(child, signal.SIGSTOP)
            stopped.append(child)
        yield
    finally:
        for process in reversed(stopped):
            _send(process, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _children(pid: int) -> list[int]:
    """Return the processes below `pid`; PostgreSQL's lead groups of their own, so there is no one group to signal."""
    below: dict[int, list[int]] = defaultdict(list)
    for child, parent in _parents():
        below[parent].append(child)
    found: list[int] = []
    pending = [pid]
    while pending:
        children = below[pending.pop()]
        found += children
        pending += children
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Yield each process with its parent."""
    if Path("/proc/self/stat").exists():
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                # The program's name stands in parentheses, and may hold anything.
                yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
        return
    listed = subprocess.run(["/bin/ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        child, parent = line.split()
        yield int(child), int(parent)
