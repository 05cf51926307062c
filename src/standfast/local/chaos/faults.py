"""The kinds of faults, and the order in which a run with some seed injects them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from standfast.steps import Pool


class How(StrEnum):
    """What is done to a process."""

    KILL = "kill"
    """SIGKILL: gone without a word; whoever supervises it starts another one."""
    FREEZE = "freeze"
    """SIGSTOP with all its children, SIGCONT later: as if the machine had paused. Connections stay open."""


class Trouble(StrEnum):
    """How the model's provider answers for a while."""

    RATE_LIMIT = "429"
    """With Retry-After: 1."""
    ERROR = "500"
    OVERLOAD = "529"
    CUT = "cut answer"
    GARBAGE = "garbage"
    LATE = "late answer"


@dataclass(frozen=True, kw_only=True)
class ProcessFault:
    """Something happens to one process."""

    service: str
    """`temporal`, `postgres`, or `worker-` and a pool: then one of its workers is hit."""
    how: How
    seconds: tuple[float, float] = (0, 0)
    """How long a freeze lasts, at least and at most."""

    @property
    def name(self) -> str:
        """What the table says."""
        return f"{self.how} {self.service}"

    @property
    def pool(self) -> Pool | None:
        """Whose worker is hit; None if it is a server."""
        return Pool(self.service.removeprefix("worker-")) if self.service.startswith("worker-") else None


@dataclass(frozen=True, kw_only=True)
class ModelFault:
    """The model's provider misbehaves."""

    trouble: Trouble
    seconds: tuple[float, float] = (1.0, 2.0)
    """For how long each request meets it, at least and at most."""

    @property
    def name(self) -> str:
        """What the table says."""
        return f"model: {self.trouble}"


Fault = ProcessFault | ModelFault

_AIMED = 0.7  # of the faults of workers; the others come at any moment, where there may be nothing to disturb
# A frozen worker sleeps past its heartbeat time-out, so that it wakes as a zombie whose work others have taken over.
_WORKER_FREEZE = (6.0, 9.0)
_SERVER_FREEZE = (2.0, 3.0)

FAULTS: tuple[Fault, ...] = (
    *(ProcessFault(service=f"worker-{pool}", how=How.KILL) for pool in Pool),
    *(ProcessFault(service=f"worker-{pool}", how=How.FREEZE, seconds=_WORKER_FREEZE) for pool in Pool),
    *(ProcessFault(service=server, how=How.KILL) for server in ("temporal", "postgres")),
    *(ProcessFault(service=server, how=How.FREEZE, seconds=_SERVER_FREEZE) for server in ("temporal", "postgres")),
    *(ModelFault(trouble=trouble) for trouble in Trouble),
)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One fault of the schedule."""

    fault: Fault
    pause: float
    """Seconds of quiet before it."""
    seconds: float
    """How long it lasts."""
    choice: float
    """From 0 to 1: which of several workers is hit..."""
    aimed: bool
    """...unless this is true, and one of them has an activity in hand: then that one is."""


def schedule(seed: int) -> Iterator[Planned]:
    """Yield faults without end: round after round, each kind once in each, in the order of the seed."""
    chance = random.Random(f"faults {seed}")  # noqa: S311 - repeatable, not secret
    while True:
        for fault in chance.sample(FAULTS, len(FAULTS)):
            yield Planned(
                fault=fault,
                pause=chance.uniform(0.3, 1.5),
                seconds=chance.uniform(*fault.seconds),
                choice=chance.random(),
                aimed=chance.random() < _AIMED,
            )
