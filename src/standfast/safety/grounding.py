"""Grounding: every value of a plan must come from the ticket, from what was read for it, or from a playbook's own text.

A made-up id, amount or address never runs by itself, however plausible it looks.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from standfast.context import Context
from standfast.domain import MASK
from standfast.plan import Operation
from standfast.report import Finding, Verdict
from standfast.safety.grammar.statement import LiteralKind, Statement
from standfast.ticket import Ticket

RULE = "grounding"
_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}(?!\d)|(?<!\d)\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?!\d)"
)  # its parts are no numbers
_NUMBER = re.compile(r"(?<![\w.\-])-?\d+(?:[.,]\d+)*(?![\w]|[.,]\d)")
_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")
_POINTED = re.compile(r"-?\d{1,3}(\.\d{3})+,\d{1,2}")
_COMMA = re.compile(r"-?\d+,\d{1,2}")
_MIDNIGHT = re.compile(r"(\d{4}-\d{2}-\d{2})[t ]00:00(?::00(?:\.0+)?)?(?:z|[+-]00(?::?00)?)?")
_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The values that a plan may use."""

    text: str
    """All texts, in lower case, white space folded."""
    numbers: frozenset[Decimal]

    @classmethod
    def of(cls, ticket: Ticket, context: Context | None) -> Self:
        """Collect what the ticket says and what was read for it; metadata is for integrations and says nothing."""
        values: list[Any] = [ticket.title, ticket.body, ticket.requester, ticket.id, ticket.subject]
        if context is not None:
            values += [row for fact in context.facts for row in fact.rows]
            values += [[*c.values, c.default] for table in context.tables for c in table.columns]
        texts: list[str] = []
        numbers: set[Decimal] = set()
        for leaf in _leaves(values):
            if leaf == MASK:
                continue  # stands for a value that nobody gave
            if isinstance(leaf, str):
                texts.append(_folded(leaf))
                if leaf != ticket.id:  # SUP-1042 is not about 1042
                    numbers |= set(_numbers(leaf))
            else:
                numbers.add(Decimal(str(leaf)))
        return cls(text="\n".join(texts), numbers=frozenset(numbers))

    def holds(self, value: Any) -> bool:
        """Tell whether a JSON value, or every leaf of it, is grounded."""
        return all(self._holds_leaf(leaf) for leaf in _leaves([value]))

    def _holds_leaf(self, leaf: Any) -> bool:
        if not isinstance(leaf, str):
            return Decimal(str(leaf)) in self.numbers
        text = _folded(leaf)
        if not text:
            return True
        number = _decimal(text)
        if number is not None:
            return number in self.numbers or self._says(text)
        day = _MIDNIGHT.fullmatch(text)
        return self._says(text) or (day is not None and self._says(day[1]))

    def _says(self, text: str) -> bool:
        """Tell whether the text occurs as a whole: not as a part of a longer word, number or address."""
        whole = rf"(?<!\w)(?<!\w[.@+\-]){re.escape(text)}(?!\w|[.@+\-]\w)"
        return re.search(whole, self.text) is not None


def check_grounding(
    operation: Operation, statement: Statement, ground: Ground, playbook_sql: frozenset[str]
) -> Iterator[Finding]:
    """Yield a finding that names every value which is not grounded; a playbook's own literals are."""
    literals = [] if operation.sql in playbook_sql else statement.literals
    unknown = [literal.text for literal in literals if not ground.holds(_value(literal.kind, literal.text))]
    unknown += [str(value) for value in operation.params if not ground.holds(value)]
    if unknown:
        shown = ", ".join(repr(value[:_SHOWN]) for value in unknown)
        message = f"neither the ticket nor what was read for it says {shown}"
        yield Finding(rule=RULE, verdict=Verdict.APPROVAL, message=message, evidence={"values": unknown})


def _value(kind: LiteralKind, text: str) -> Any:
    return (_decimal(text) if kind is LiteralKind.NUMBER else None) or text


def _leaves(values: Iterable[Any]) -> Iterator[str | int | float | Decimal]:
    """Yield the texts and numbers in JSON values; true, false and null say nothing, and neither do keys."""
    for value in values:
        if isinstance(value, dict):
            yield from _leaves(value.values())
        elif isinstance(value, list | tuple):
            yield from _leaves(value)
        elif value is not None and not isinstance(value, bool):
            yield value


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


def _numbers(text: str) -> Iterator[Decimal]:
    for match in _NUMBER.finditer(_TIME.sub(" ", text)):
        written = match[0]
        if _THOUSANDS.fullmatch(written):
            written = written.replace(",", "")
        elif _POINTED.fullmatch(written):
            written = written.replace(".", "").replace(",", ".")
        elif _COMMA.fullmatch(written):
            written = written.replace(",", ".")
        number = _decimal(written)
        if number is not None:
            yield number


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
