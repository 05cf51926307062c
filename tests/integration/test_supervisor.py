"""A supervised service runs until it is told to stop: whatever dies comes back, and nothing is left behind."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.local.supervisor import Event, Happening, Service, Supervisor
from tests.processes import LIMIT, is_running, until

SLEEP = "import time; time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


class Events(list[Event]):
    """What the supervisor told."""

    def of(self, service: str) -> list[Happening]:
        return [event.happening for event in self if event.service == service]

    def pids(self) -> set[int]:
        return {event.pid for event in self}


async def at_once(pid: int) -> bool:
    return is_running(pid)


async def never(pid: int) -> bool:
    del pid
    return False


def python(
    name: str,
    code: str,
    folder: Path,
    ready: Callable[[int], Awaitable[bool]] = at_once,
    *,
    ready_within: float = 60,
    stop_grace: float = 60,
) -> Service:
    """A service that runs Python code; times in seconds."""
    return Service(
        name=name,
        argv=(sys.executable, "-c", code),
        environment={},
        folder=folder,
        ready=ready,
        ready_within=timedelta(seconds=ready_within),
        stop_grace=timedelta(seconds=stop_grace),
    )


def writes_its_pid(path: Path) -> str:
    """Code that appends a line with the process id to a file."""
    return f"import os\nwith open({str(path)!r}, 'a') as f: f.write(f'{{os.getpid()}}\\n')\n"


def when_written(path: Path) -> Callable[[int], Awaitable[bool]]:
    """Ready when the process has written its id."""

    async def ready(pid: int) -> bool:
        return str(pid) in lines(path)

    return ready


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


async def test_a_service_comes_back_also_if_nobody_can_be_told(tmp_path: Path) -> None:
    events = Events()

    def full_disk(event: Event) -> None:
        events.append(event)
        raise InvalidInput("services.json: can't be written: No space left on device")

    async with Supervisor(tmp_path / "logs", full_disk) as supervisor:
        await supervisor.start(python("sleeper", SLEEP, tmp_path))
        os.kill(events[-1].pid, signal.SIGKILL)
        await until(lambda: events.of("sleeper") == [Happening.READY, Happening.DIED, Happening.BACK])


async def test_what_dies_is_started_again_and_the_rest_runs_on(tmp_path: Path) -> None:
    events = Events()
    async with Supervisor(tmp_path, events.append) as supervisor:
        await supervisor.start(python("a", SLEEP, tmp_path), python("b", SLEEP, tmp_path))
        first = {status.service: status.pid for status in supervisor.status()}
        assert first["a"]
        os.kill(first["a"], signal.SIGKILL)
        await until(lambda: Happening.BACK in events.of("a"))
        second = {status.service: status for status in supervisor.status()}
        assert second["a"].pid not in (None, first["a"])
        assert (second["a"].ready, second["a"].restarts) == (True, 1)
        assert (second["b"].pid, second["b"].restarts) == (first["b"], 0)
    assert events.of("a") == [Happening.READY, Happening.DIED, Happening.BACK, Happening.STOPPED]
    died, back = events[2:4]
    assert (died.pid, died.exit_status) == (first["a"], -signal.SIGKILL)
    assert back.away is not None
    assert not any(map(is_running, events.pids()))


async def test_a_service_that_keeps_dying_is_tried_again_and_again(tmp_path: Path) -> None:
    """Ready once; after its death it ends by itself three times before it runs well again."""
    lives = tmp_path / "lives"
    code = f"{writes_its_pid(lives)}if 1 < len(open({str(lives)!r}).readlines()) < 5: raise SystemExit(7)\n{SLEEP}"
    events = Events()

    async def ready(pid: int) -> bool:
        return str(pid) in lines(lives) and len(lines(lives)) in (1, 5)

    async with Supervisor(tmp_path, events.append) as supervisor:
        await supervisor.start(python("a", code, tmp_path, ready))
        os.kill(events[0].pid, signal.SIGKILL)
        await until(lambda: Happening.BACK in events.of("a"))
    assert events.of("a") == [Happening.READY, *[Happening.DIED] * 4, Happening.BACK, Happening.STOPPED]
    assert [event.exit_status for event in events if event.happening is Happening.DIED] == [-signal.SIGKILL, 7, 7, 7]


async def test_a_service_that_cannot_come_up_says_why_and_takes_the_others_down(tmp_path: Path) -> None:
    events = Events()

    async def start() -> None:
        async with Supervisor(tmp_path, events.append) as supervisor:
            await supervisor.start(python("good", SLEEP, tmp_path))
            await supervisor.start(python("bad", "raise SystemExit('the disk is full')", tmp_path, never))

    with pytest.raises(ServiceUnavailable) as caught:
        await start()
    assert "bad ended with status 1 before it was ready" in str(caught.value)
    assert str(tmp_path / "bad.log") in str(caught.value)
    assert "the disk is full" in str(caught.value)
    assert events.of("good") == [Happening.READY, Happening.STOPPED]
    assert not any(map(is_running, events.pids()))


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = Service(name="a", argv=("/no/such/program",), environment={}, folder=tmp_path, ready=never)
    async with Supervisor(tmp_path, Events().append) as supervisor:
        with pytest.raises(ServiceUnavailable, match=r"/no/such/program can't be run"):
            await supervisor.start(missing)


async def test_a_service_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    code = f"print('waiting for godot', flush=True)\n{SLEEP}"
    late = python("a", code, tmp_path, never, ready_within=1)
    async with Supervisor(tmp_path, Events().append) as supervisor:
        with pytest.raises(ServiceUnavailable, match=r"a was not ready within 0:00:01(.|\n)*waiting for godot"):
            await supervisor.start(late)


async def test_services_stop_in_reverse_order(tmp_path: Path) -> None:
    events = Events()
    async with Supervisor(tmp_path, events.append) as supervisor:
        for name in ("first", "second", "third"):
            await supervisor.start(python(name, SLEEP, tmp_path))
    stopped = [event.service for event in events if event.happening is Happening.STOPPED]
    assert stopped == ["third", "second", "first"]


async def test_what_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    events = Events()
    up = tmp_path / "up"
    code = f"{DEAF}{writes_its_pid(up)}{SLEEP}"
    async with Supervisor(tmp_path, events.append) as supervisor:
        await supervisor.start(python("a", code, tmp_path, when_written(up), stop_grace=0.2))
    assert events[-1].exit_status == -signal.SIGKILL


async def test_a_service_takes_its_own_children_with_it(tmp_path: Path) -> None:
    children = tmp_path / "children"
    child = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {writes_its_pid(children) + SLEEP!r}])\n"
    events = Events()

    async def ready(pid: int) -> bool:
        return (
            is_running(pid) and len(lines(children)) == sum(event.happening is Happening.DIED for event in events) + 1
        )

    async with Supervisor(tmp_path, events.append) as supervisor:
        await supervisor.start(python("a", f"{child}{SLEEP}", tmp_path, ready))
        os.kill(events[0].pid, signal.SIGKILL)
        await until(lambda: Happening.BACK in events.of("a"))
    assert len(lines(children)) == 2
    await until(lambda: not any(is_running(int(pid)) for pid in lines(children)))


async def test_stopping_while_something_starts_leaves_nothing(tmp_path: Path) -> None:
    pids: set[int] = set()
    asked = asyncio.Event()

    async def note(pid: int) -> bool:
        pids.add(pid)
        asked.set()
        return False

    async def start() -> None:
        async with Supervisor(tmp_path, Events().append) as supervisor:
            await supervisor.start(python("a", SLEEP, tmp_path, note))

    starting = asyncio.create_task(start())
    await asked.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert pids
    assert not any(map(is_running, pids))


async def test_an_impatient_second_stop_kills_at_once(tmp_path: Path) -> None:
    events = Events()
    up = tmp_path / "up"
    supervisor = Supervisor(tmp_path, events.append)
    await supervisor.start(python("calm", SLEEP, tmp_path))
    await supervisor.start(python("deaf", f"{DEAF}{writes_its_pid(up)}{SLEEP}", tmp_path, when_written(up)))
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    others = asyncio.all_tasks() - {asyncio.current_task()}
    _, pending = await asyncio.wait(others, timeout=LIMIT)
    assert not pending  # nobody is left who would start anything again
    assert not any(map(is_running, events.pids()))


async def test_a_service_has_a_session_of_its_own_so_that_ctrl_c_reaches_only_us(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, Events().append) as supervisor:
        await supervisor.start(python("a", SLEEP, tmp_path))
        (status,) = supervisor.status()
        assert status.pid is not None
        assert os.getsid(status.pid) == status.pid != os.getsid(0)


OWNER = """
import asyncio, pathlib, sys
from standfast.local.supervisor import Service, Supervisor

async def ready(pid):
    return True

async def main(folder):
    async with Supervisor(folder, lambda event: print(event.pid, flush=True)) as supervisor:
        sleep = (sys.executable, "-c", "import time; time.sleep(600)")
        await supervisor.start(Service(name="a", argv=sleep, environment={}, folder=folder, ready=ready))
        await asyncio.Event().wait()

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds the life of a process to its parent's")
async def test_kill_9_of_the_supervisor_leaves_no_child(tmp_path: Path) -> None:
    command = (sys.executable, "-c", OWNER, str(tmp_path))
    owner = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout
    child = int(await owner.stdout.readline())
    assert is_running(child)
    owner.kill()
    await owner.wait()
    await until(lambda: not is_running(child))


async def test_logs_are_for_their_owner_only_and_a_long_one_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"old\n" * 5_000_000)
    async with Supervisor(tmp_path, Events().append) as supervisor:
        await supervisor.start(python("a", f"print('new', flush=True)\n{SLEEP}", tmp_path))
        await until(lambda: log.read_text() == "new\n")
    assert log.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a.log.1").stat().st_size == 20_000_000
