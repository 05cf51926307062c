"""The audit chain compared with itself, with hashes that were kept elsewhere, and with the stored constraints."""

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from standfast import audit
from standfast.domain import digest
from standfast.store.connections import Connection
from standfast.store.sql import statements
from standfast.verification.evidence import Problem

_SQL = statements(__package__, "verification.sql")
NEVER = datetime.min.replace(tzinfo=UTC)
_EVERY = 1000  # rows, between two reports on the progress


@dataclass
class Chain:
    """What reading the whole chain has told."""

    sequence: int = 0
    """Of the newest row, 0 of an empty chain."""
    hash: str = audit.GENESIS
    kinds: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    purged: datetime = NEVER
    """Histories of what ended before this moment were purged, as is on record."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.kinds.total()


async def read(control: Connection, heads: Collection[str], on_row: Callable[[int], None]) -> Chain:
    """Read the chain to its end; each of `heads` has to be the hash of one of its rows."""
    chain, missing = Chain(), set(heads)
    async for row in audit.rows(control):
        where = f"row {row.sequence} ({row.kind} of {row.workflow_id})"
        look = "the rows around it: standfast audit export"
        chain.problems += [Problem(where=where, problem=what, look=look) for what in audit.wrong_with(row, chain.hash)]
        chain.sequence, chain.hash = row.sequence, row.hash
        chain.kinds[row.kind] += 1
        missing.discard(row.hash)
        chain.purged = max(chain.purged, _purged(row))
        if chain.rows % _EVERY == 0:
            on_row(chain.rows)
    lost = "is not in the chain: rows at its end were removed, or it was written anew"
    look = "where that hash was kept, and a copy of the chain of that time"
    chain.problems += [Problem(where=f"kept head {head:.12}", problem=lost, look=look) for head in sorted(missing)]
    return chain


def _purged(row: audit.Row) -> datetime:
    match row.content:
        case {"before": str(before), "histories": True} if row.kind == audit.Kind.PURGE:
            with suppress(ValueError, OverflowError):
                return min(datetime.fromisoformat(before).astimezone(UTC), row.at, datetime.now(UTC))
    return NEVER


async def constraints(control: Connection) -> list[Problem]:
    """Return the versions of constraints that are not what is on record about them."""
    found = []
    for row in await (await control.execute(_SQL["constraints"])).fetchall():
        stored = None if row["document"] is None else digest(row["document"])
        if row["recorded"] == stored:
            continue
        if stored is None:
            what = "is on record, but not among the stored versions: it was removed"
        elif row["recorded"] is None:
            what = "is stored, but not on record: it was added by hand, or its row is gone"
        else:
            what = "was changed after it was stored"
        found.append(Problem(where=row["key"], problem=what, look="standfast constraints list, standfast.constraints"))
    return found
