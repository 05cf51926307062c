"""What a process uses: its CPU time, its children's included, and its memory."""

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, of its children that run, and of those that ended."""
    running = sum(_times(child)[0] for child in _children(pid))
    return running + sum(_times(pid))


def memory_mib(pid: int) -> float:
    """Return the memory that a process holds."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return resident * os.sysconf("SC_PAGE_SIZE") / 2**20


def _times(pid: int) -> tuple[float, float]:
    """Return the time of the process itself, and of its children that ended and were waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    user, system, children_user, children_system = map(int, fields[11:15])
    return (user + system) / _TICK, (children_user + children_system) / _TICK


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
