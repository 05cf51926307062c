"""Child processes that are kept running: what dies is started again, and nothing outlives this process."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from standfast.errors import ServiceUnavailable, StandfastError
from standfast.local import launch

_POLL = 0.05  # seconds between two looks at a service that is starting
_STEADY = 10.0  # seconds after which a service counts as running well again
_MAX_PAUSE = 5.0  # seconds between two starts of a service that keeps dying
_LOG_BYTES = 16 * 2**20  # a longer log makes room for a new one when its service starts
_TAIL_LINES = 15

logger = logging.getLogger("standfast.local")


class Happening(StrEnum):
    """What happened to a service."""

    READY = "ready"
    DIED = "died"
    BACK = "back"
    """Ready again after it died."""
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class Account:
    """The system account that a process runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Service:
    """A program that should be running."""

    name: str
    argv: tuple[str, ...]
    """Absolute path of the program, and its arguments."""
    environment: Mapping[str, str]
    folder: Path
    """Where it is started."""
    ready: Callable[[int], Awaitable[bool]]
    """Whether the process with this id does its work; asked until it says yes. May raise ServiceUnavailable for no."""
    account: Account | None = None
    """None for our own."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace: timedelta = timedelta(seconds=10)
    """How long it may take to stop before it is killed."""
    ready_within: timedelta = timedelta(seconds=60)
    """A process that isn't ready by then is killed."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a service."""

    at: datetime
    service: str
    happening: Happening
    pid: int
    exit_status: int | None = None
    """Of the process that ended: its exit code, or minus the number of the signal that killed it."""
    away: timedelta | None = None
    """From the death to the time the service was ready again."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """A service as it is now."""

    service: str
    pid: int | None
    """None while there is no process."""
    ready: bool
    restarts: int


def launched(argv: tuple[str, ...], account: Account | None) -> tuple[str, ...]:
    """Return the command that becomes `argv`, run as `account` and killed by the system when this process dies."""
    identity = f"{account.uid}:{account.gid}" if account else "-"
    return (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), identity, *argv)


class Supervisor:
    """Starts services in groups, keeps them running, and stops them in reverse order.

    `on_event` is told what happens to them; if it can't take note (StandfastError), they run on.

    The event loop must run in the main thread: Linux binds the life of a child to the thread that started it.
    """

    def __init__(self, logs: Path, on_event: Callable[[Event], None]) -> None:
        self._logs = logs
        self._on_event = on_event
        self._groups: list[dict[_Keeper, asyncio.Task[None]]] = []

    async def __aenter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, *services: Service) -> None:
        """Start services together and return when all are ready.

        Raises:
            ServiceUnavailable: one can't come up; the message has the last lines of its log.
        """
        keepers = [_Keeper(service, self._logs / f"{service.name}.log", self._on_event) for service in services]
        self._groups.append({keeper: asyncio.create_task(keeper.run()) for keeper in keepers})
        await asyncio.gather(*(keeper.first_ready for keeper in keepers))

    async def stop(self) -> None:
        """Stop all services, last started first; what is not done by the end of its grace is killed.

        Cancelling it kills at once what is left.
        """
        try:
            while self._groups:
                tasks = self._groups[-1].values()
                for task in tasks:
                    task.cancel()
                # Not gather: cancelled, it would wait for the graces of all of them before it says so.
                await asyncio.wait(tasks)
                for task in tasks:
                    if not task.cancelled():
                        task.exception()  # was raised by `start`
                self._groups.pop()
        finally:
            for keeper, task in self._tasks():
                task.cancel()
                keeper.kill()

    def status(self) -> tuple[Status, ...]:
        """Return all services in the order of their start."""
        return tuple(keeper.status() for keeper, _ in self._tasks())

    def _tasks(self) -> list[tuple["_Keeper", asyncio.Task[None]]]:
        return [entry for group in self._groups for entry in group.items()]


class _Keeper:
    """Keeps one service running."""

    def __init__(self, service: Service, log: Path, on_event: Callable[[Event], None]) -> None:
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._service = service
        self._log = log
        self._log_start = 0
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._ready = False
        self._starts = 0
        self._died: float | None = None
        """When the service died, in monotonic seconds; None while it is well."""

    def status(self) -> Status:
        pid = self._process.pid if self._process else None
        return Status(service=self._service.name, pid=pid, ready=self._ready, restarts=max(0, self._starts - 1))

    def kill(self) -> None:
        if self._process is not None:
            _kill_group(self._process.pid)

    async def run(self) -> None:
        """Start the service, and start it again whenever it ends, until cancelled."""
        pause = 0.0  # at once the first time; longer and longer if it keeps dying
        try:
            while True:
                began = time.monotonic()
                await self._live()
                if time.monotonic() - began > _STEADY:
                    pause = 0.0
                await asyncio.sleep(pause)
                pause = min(_MAX_PAUSE, 2 * pause + 0.1)
        except Exception as error:
            if self.first_ready.done():
                raise
            self.first_ready.set_exception(error)
        finally:
            self.first_ready.cancel()

    async def _live(self) -> None:
        """One life of the service, from its start to its end.

        Raises:
            ServiceUnavailable: it ended before it was ever ready.
        """
        try:
            self._process = process = await self._spawn()
        except OSError as error:
            if self._starts == 0:
                raise ServiceUnavailable(f"{self._service.name} can't be started: {error}") from error
            return
        self._starts += 1
        try:
            await self._until_ready_or_ended(process)
            if self._ready:
                await process.wait()
        except BaseException:
            await self._bury(process, Happening.STOPPED)
            raise
        late = process.returncode is None
        exit_status = await self._bury(process, Happening.DIED)
        if not self.first_ready.done():
            ending = f"was not ready within {self._service.ready_within}" if late else _ending(exit_status)
            raise ServiceUnavailable(f"{self._service.name} {ending}; the end of {self._log}:\n{self._log_tail()}")

    async def _spawn(self) -> asyncio.subprocess.Process:
        service = self._service
        with _open_log(self._log) as log:
            self._log_start = log.tell()
            return await asyncio.create_subprocess_exec(
                *launched(service.argv, service.account),
                env=service.environment,
                cwd=service.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C must reach only us: the order in which services stop matters
                umask=0o077,
            )

    async def _until_ready_or_ended(self, process: asyncio.subprocess.Process) -> None:
        asking = asyncio.ensure_future(self._ask(process.pid))
        ending = asyncio.ensure_future(process.wait())
        try:
            timeout = self._service.ready_within.total_seconds()
            done, _ = await asyncio.wait({asking, ending}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
            ending.cancel()
        if done == {asking}:
            asking.result()
            self._now_ready(process.pid)

    async def _ask(self, pid: int) -> None:
        while True:
            with suppress(ServiceUnavailable):
                if await self._service.ready(pid):
                    return
            await asyncio.sleep(_POLL)

    def _now_ready(self, pid: int) -> None:
        self._ready = True
        if self._died is None:
            self._report(Happening.READY, pid)
        else:
            self._report(Happening.BACK, pid, away=timedelta(seconds=time.monotonic() - self._died))
        self._died = None
        if not self.first_ready.done():
            self.first_ready.set_result(None)

    async def _bury(self, process: asyncio.subprocess.Process, happening: Happening) -> int:
        """Make sure that nothing of the process is left, and tell its end; return its exit status."""
        self._ready = False
        exit_status = await _end(process, self._service)
        self._process = None
        if self._died is None:
            self._died = time.monotonic()
        if self.first_ready.done():
            self._report(happening, process.pid, exit_status=exit_status)
        return exit_status

    def _report(
        self, happening: Happening, pid: int, *, exit_status: int | None = None, away: timedelta | None = None
    ) -> None:
        event = Event(
            at=datetime.now(UTC),
            service=self._service.name,
            happening=happening,
            pid=pid,
            exit_status=exit_status,
            away=away,
        )
        try:
            self._on_event(event)
        except StandfastError as error:  # a full disk, which is no reason to leave the service alone
            logger.warning("%s", error)

    def _log_tail(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"


def _open_log(path: Path) -> BinaryIO:
    """Open a log for appending, readable by us alone; a long one is put aside first, in place of the one before."""
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    log = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
    log.seek(0, os.SEEK_END)
    return log


async def _end(process: asyncio.subprocess.Process, service: Service) -> int:
    """Ask the process to stop if it runs, kill what is left after its grace, and return its exit status."""
    ending = asyncio.ensure_future(process.wait())
    try:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, service.stop_signal)
            await asyncio.wait({ending}, timeout=service.stop_grace.total_seconds())
    finally:
        _kill_group(process.pid)
    return await ending


def _kill_group(pid: int) -> None:
    """Kill a process and its children; it leads a process group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _ending(exit_status: int) -> str:
    if exit_status < 0:
        return f"was ended by {signal.Signals(-exit_status).name} before it was ready"
    return f"ended with status {exit_status} before it was ready"
