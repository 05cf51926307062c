"""What changed from one plan to the next, after somebody or a check had sent it back."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import pairwise, zip_longest
from typing import Any

from standfast.decision import DecisionRecord, DecisionVerdict
from standfast.domain import canonical_json
from standfast.drafts import Draft
from standfast.plan import Operation
from standfast.report import SafetyReport

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_MOST_WORDS = 2000
"""Of a statement; a longer one is shown whole, before and after..."""
_ALIKE = 0.5
"""...and so are two of which less than this share is the same."""


class Fate(StrEnum):
    """What became of something in the earlier plan."""

    KEPT = "kept"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a statement."""

    fate: Fate
    """Never `changed`: that is a part removed, and one added."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a changed operation."""

    number: int
    """From 1."""
    fate: Fate
    before: Any = None
    after: Any = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One operation in the earlier plan, in the later one, or in both."""

    fate: Fate
    before: int | None
    """Its number in the earlier plan, from 1..."""
    after: int | None
    """...and in the later one."""
    statement: tuple[Piece, ...] = ()
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Revision:
    """From one plan to the next."""

    number: int
    """Of the later plan."""
    asked: tuple[str, ...]
    """Why the earlier one was sent back..."""
    asked_by: str | None
    """...and by whom, None if checks found it."""
    before: SafetyReport | None
    after: SafetyReport | None
    operations: tuple[Difference, ...]


def revisions(drafts: Sequence[Draft], decisions: Sequence[DecisionRecord], newest: int) -> tuple[Revision, ...]:
    """Return what changed with each plan, the newest first; `newest` is the number of the last draft."""
    first = newest - len(drafts) + 1
    found = [
        Revision(
            number=number,
            asked=after.asked,
            asked_by=_asked_by(before, after, decisions),
            before=before.report,
            after=after.report,
            operations=differences(before.plan.operations, after.plan.operations),
        )
        for number, (before, after) in enumerate(pairwise(drafts), start=first + 1)
    ]
    return tuple(reversed(found))


def _asked_by(before: Draft, after: Draft, decisions: Sequence[DecisionRecord]) -> str | None:
    digest = before.report.plan_digest if before.report else None
    return next(
        (
            decision.by
            for decision in decisions
            if decision.verdict is DecisionVerdict.REVISE
            and decision.refused is None
            and (decision.plan_digest, (decision.comment,)) == (digest, after.asked)
        ),
        None,
    )


def differences(before: Sequence[Operation], after: Sequence[Operation]) -> tuple[Difference, ...]:
    """Return the operations of both plans, in their order; reasons are no part of what is executed."""
    return tuple(_differences(before, after))


def _differences(before: Sequence[Operation], after: Sequence[Operation]) -> Iterator[Difference]:
    matcher = SequenceMatcher(None, [_executed(o) for o in before], [_executed(o) for o in after], autojunk=False)
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        for old, new in zip_longest(range(start, end), range(new_start, new_end)):
            yield _difference(
                None if old is None else before[old],
                None if new is None else after[new],
                kept=tag == "equal",
                before=None if old is None else old + 1,
                after=None if new is None else new + 1,
            )


def _executed(operation: Operation) -> bytes:
    return canonical_json([operation.sql, list(operation.params)])


def _difference(
    old: Operation | None, new: Operation | None, *, kept: bool, before: int | None, after: int | None
) -> Difference:
    if kept:
        return Difference(fate=Fate.KEPT, before=before, after=after)
    fate = Fate.ADDED if old is None else Fate.REMOVED if new is None else Fate.CHANGED
    return Difference(
        fate=fate,
        before=before,
        after=after,
        statement=_pieces(old.sql if old else "", new.sql if new else ""),
        parameters=tuple(_parameters(old.params if old else (), new.params if new else ())),
    )


def _pieces(before: str, after: str) -> tuple[Piece, ...]:
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    matcher = SequenceMatcher(None, old, new)
    if max(len(old), len(new)) > _MOST_WORDS or matcher.ratio() < _ALIKE:
        old, new = [before], [after]
        matcher.set_seqs(old, new)
    pieces: list[Piece] = []
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            pieces.append(Piece(fate=Fate.KEPT, text="".join(old[start:end])))
            continue
        removed, added = "".join(old[start:end]), "".join(new[new_start:new_end])
        pieces += [Piece(fate=fate, text=text) for fate, text in ((Fate.REMOVED, removed), (Fate.ADDED, added)) if text]
    return tuple(pieces)


def _parameters(before: Sequence[Any], after: Sequence[Any]) -> Iterator[Parameter]:
    for index in range(max(len(before), len(after))):
        old, new = before[index : index + 1], after[index : index + 1]
        if not old or not new:
            fate = Fate.REMOVED if old else Fate.ADDED
        else:
            fate = Fate.KEPT if canonical_json(old[0]) == canonical_json(new[0]) else Fate.CHANGED
        yield Parameter(number=index + 1, fate=fate, before=old[0] if old else None, after=new[0] if new else None)
