"""The timeline on a ticket's page: long stretches in which all went well are folded, what failed never is."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from standfast.timeline import TimelineEntry

ENTRIES_SHOWN = 300
"""The newest ones, and all that are worth a look; the download has all."""
_SHORT = 20  # entries; a timeline that is no longer needs no folding
_FEW = 3  # entries; a stretch that is no longer doesn't either

_PLANNING = frozenset({"planning", "model", "tool"})


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Entries that follow one another within a step."""

    step: str
    entries: Sequence[TimelineEntry]
    folded: bool

    @property
    def summary(self) -> str:
        """What is folded: `9 entries: 3 planning, 4 model, 2 tool, within 12.3 s`."""
        kinds = Counter(entry.step for entry in self.entries)
        counts = ", ".join(f"{number} {step}" for step, number in kinds.items())
        seconds = (self.entries[-1].at - self.entries[0].at).total_seconds()
        return f"{len(self.entries)} entries: {counts}, within {seconds:,.1f} s"


@dataclass(frozen=True, kw_only=True)
class Story:
    """What the page shows of a timeline."""

    stretches: Sequence[Stretch]
    left_out: int
    """How many entries are in the download only."""


def story(entries: Sequence[TimelineEntry], link: Callable[[str | None], str | None]) -> Story:
    """Return the timeline as the page shows it; `link` makes an address one for whoever asked."""
    newest = len(entries) - ENTRIES_SHOWN
    shown = [
        entry.model_copy(update={"link": link(entry.link)})
        for number, entry in enumerate(entries)
        if number >= newest or entry.failed
    ]
    return Story(stretches=list(_stretches(shown)), left_out=len(entries) - len(shown))


def _stretches(entries: Sequence[TimelineEntry]) -> Iterator[Stretch]:
    for (step, failed), grouped in groupby(entries, lambda entry: (_step(entry), entry.failed)):
        stretch = tuple(grouped)
        folded = len(entries) > _SHORT and len(stretch) > _FEW and not failed
        yield Stretch(step=step, entries=stretch, folded=folded)


def _step(entry: TimelineEntry) -> str:
    return "planning" if entry.step in _PLANNING else entry.step
