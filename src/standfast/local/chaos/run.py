"""A chaos run: a set-up of its own, tickets, faults, and in the end the table and the proofs."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from standfast import cluster
from standfast.client import Standfast
from standfast.errors import NotPermitted
from standfast.local.chaos import recovery
from standfast.local.chaos.collection import collect
from standfast.local.chaos.faults import schedule
from standfast.local.chaos.injection import Injected, Injector
from standfast.local.chaos.observer import Observer
from standfast.local.chaos.people import Crowd
from standfast.local.chaos.proofs import Proof, prove
from standfast.local.chaos.provider import ChaosProvider
from standfast.local.chaos.recovery import Disturbance, Line
from standfast.local.chaos.tickets import scripted
from standfast.local.stack import Stack
from standfast.local.supervisor import Event
from standfast.settings import Planner, Settings

_AT_ONCE = 6  # tickets: enough that some are at every step, too few to wear a small machine out
_ENDED_WITHIN = timedelta(minutes=2)  # a ticket that hasn't ended so long after the last fault is lost


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run has found."""

    crowd: Crowd
    disturbances: list[Disturbance]
    table: list[Line]
    proofs: list[Proof]

    @property
    def holds(self) -> bool:
        """Whether all proofs hold."""
        return all(proof.holds for proof in self.proofs)


class ChaosRun:
    """One run in a folder of its own; what it does at the moment can be looked at meanwhile."""

    def __init__(
        self,
        chosen: Settings,
        *,
        duration: timedelta,
        seed: int,
        home: Path,
        environment: Mapping[str, str],
        on_event: Callable[[Event], None],
    ) -> None:
        """Take the settings that people chose; `environment` is what the services inherit from.

        Raises:
            NotPermitted: the settings name servers or databases, which are somebody's.
        """
        _refuse_others(chosen)
        self.injected: list[Injected] = []
        self.doing = "starting the services"
        self.crowd: Crowd | None = None
        self._chosen = chosen.model_copy(update={"planner": Planner(model="openai:scripted")})
        self._duration = duration
        self._seed = seed
        self._home = home
        self._environment = environment
        self._on_event = on_event
        self._began: float | None = None

    @property
    def clock(self) -> str:
        """How much of the time with faults is over, such as `1:30 of 10:00`."""
        passed = 0.0 if self._began is None else min(monotonic() - self._began, self._duration.total_seconds())
        return f"{_clock(passed)} of {_clock(self._duration.total_seconds())}"

    async def run(self) -> Report:
        """Run to the end.

        Raises:
            ServiceUnavailable: a service can't come up.
        """
        with ChaosProvider(partial(scripted, self._seed), self._seed) as provider:
            address = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "none", "NO_PROXY": "127.0.0.1"}
            environment = {**self._environment, **address}
            stack = Stack(self._chosen, home=self._home, on_event=self._on_event, environment=environment)
            async with stack, Standfast.connect(stack.settings) as client:
                tickets = (scripted(self._seed, number) for number in itertools.count(1))
                crowd = self.crowd = Crowd(client=client, tickets=tickets, at_once=_AT_ONCE)
                observer = Observer(await cluster.connect(stack.settings), crowd)
                await self._under_fire(crowd, Injector(stack.status, provider, observer))
                self.doing = "collecting the evidence"
                evidence = await collect(
                    stack.settings,
                    environment,
                    submitted=list(crowd.submitted.values()),
                    injected=self.injected,
                    exchanges=provider.exchanges,
                )
        disturbances = recovery.measure(self.injected, evidence.histories, provider.hits)
        table = recovery.table(disturbances)
        return Report(crowd=crowd, disturbances=disturbances, table=table, proofs=prove(evidence))

    async def _under_fire(self, crowd: Crowd, injector: Injector) -> None:
        """Inject faults while tickets run, and wait for the last of them."""
        stop = asyncio.Event()
        going = asyncio.create_task(crowd.keep_going(stop))
        try:
            await self._one_fault_after_another(injector)
            self.doing = "waiting for the last tickets"
            stop.set()
            await asyncio.wait({going}, timeout=_ENDED_WITHIN.total_seconds())
        finally:
            going.cancel()
            with suppress(asyncio.CancelledError):
                await going

    async def _one_fault_after_another(self, injector: Injector) -> None:
        """Inject a fault when the one before is over and its tickets go on, so that each delay has one cause."""
        self._began = monotonic()
        until = self._began + self._duration.total_seconds()
        for planned in schedule(self._seed):
            if monotonic() + planned.pause + planned.seconds > until:
                return
            self.doing = "quiet"
            await asyncio.sleep(planned.pause)
            self.doing = planned.fault.name
            self.injected.append(await injector.inject(planned))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _refuse_others(chosen: Settings) -> None:
    named = [f"targets.{name}" for name in chosen.targets]
    for section in ("control", "temporal"):
        named += [f"{section}.{name}" for name in sorted(getattr(chosen, section).model_fields_set)]
    if named:
        raise NotPermitted(
            f"the settings name {', '.join(named)}: somebody's servers or data, which chaos never touches; "
            "run it where no settings name them, it brings a set-up of its own"
        )
