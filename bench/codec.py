"""What encryption costs: for one payload by its size, and on the whole pipeline.

The pipeline is measured with an agent that answers at once, two installations beside each other on the same servers:
one encrypts, the other one doesn't. They take turns in one run; the figure is their ratio.
"""

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from temporalio.api.common.v1 import Payload
from temporalio.converter import WorkflowSerializationContext

from bench.installation import Installation, Services, namespaces
from bench.report import Machine, Report, Table, median
from bench.turns import Turn, alternating, processor_time, ratio, speed, standfast
from standfast.codec.encryption import EncryptionCodec
from standfast.codec.keyring import KeyRing, Keys
from standfast.steps import Pool

_PLANNER = {"agent": "bench.planner:plan"}
_ON, _OFF = "encrypted", "plain"
_SIZES = {"100 B": 100, "1 kB": 1_000, "10 kB": 10_000, "100 kB": 100_000, "1 MB": 1_000_000, "20 MB": 20_000_000}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    bytes: int = 200_000_000
    """Of one size of payloads, in all..."""
    payloads: int = 2_000
    """...but so many at most."""
    rounds: int = 10
    tickets: int = 50
    in_flight: int = 10


QUICK = Size(bytes=1, payloads=1, rounds=1, tickets=4, in_flight=2)


async def run(size: Size) -> Report:
    """Measure, and return what was found."""
    payloads = await _by_size(size)
    async with Services.start() as services:
        address = await services.temporal("temporal", lambda service: namespaces(service, (_ON, _OFF)))
        sides = {
            name: await Installation.create(
                services, address, name, planner=_PLANNER, namespace=name, encrypted=name == _ON
            )
            for name in (_ON, _OFF)
        }
        on, off = sides.values()
        async with on.serving(*map(on.worker, Pool)) as on_pids, off.serving(*map(off.worker, Pool)) as off_pids:
            servers = {"temporal": services.pid("temporal"), "postgres": services.pid("postgres")}
            turns = await alternating(
                {name: standfast(side) for name, side in sides.items()},
                {_ON: servers | on_pids, _OFF: servers | off_pids},
                rounds=size.rounds,
                tickets=size.tickets,
                in_flight=size.in_flight,
            )
        machine = await Machine.describe(on.temporal, on.owner_url)
    return Report(
        benchmark="codec",
        machine=machine,
        setting=f"{size.rounds} rounds of {size.tickets} tickets a side, {size.in_flight} in flight, one worker a pool",
        figures={
            "encrypted to plain": ratio(turns[_ON], turns[_OFF]),
            "plain to encrypted, processor time": _used(turns[_OFF]) / _used(turns[_ON]),
        },
        tables=(payloads, speed(turns, _ON), processor_time(turns)),
    )


def _used(turns: Iterable[Turn]) -> float:
    """Return seconds of processor time, of all processes."""
    return sum(chain.from_iterable(turn.cpu.values() for turn in turns))


async def _by_size(size: Size) -> Table:
    ring = KeyRing.new()
    context = WorkflowSerializationContext(namespace="default", workflow_id="ticket/shop/SUP-1042")
    codec = EncryptionCodec(Keys(lambda: ring), accept_plain=False).with_context(context)
    rows = []
    for name, length in _SIZES.items():
        plain = [Payload(metadata={"encoding": b"json/plain"}, data=os.urandom(length))]
        encrypted = await codec.encode(plain)
        times = max(1, min(size.payloads, size.bytes // length))
        encrypting = await _microseconds(codec.encode, plain, times)
        decrypting = await _microseconds(codec.decode, encrypted, times)
        more = encrypted[0].ByteSize() - plain[0].ByteSize()
        rows.append((name, median(encrypting), median(decrypting), more))
    columns = ("payload", "encrypt, µs", "decrypt, µs", "bytes more")
    return Table(title="A payload", columns=columns, rows=tuple(rows))


async def _microseconds(
    do: Callable[[Sequence[Payload]], Awaitable[list[Payload]]], payloads: Sequence[Payload], times: int
) -> list[float]:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        await do(payloads)
        found.append(1e6 * (time.perf_counter() - began))
    return found
