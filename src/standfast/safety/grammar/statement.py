"""What one statement says, and why a text is none."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class StatementRefused(Exception):  # noqa: N818 - becomes a finding, not an error
    """The text is not one statement that can be understood."""

    def __init__(self, rule: str, message: str, *, mendable: bool = True) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.mendable = mendable


@dataclass(frozen=True)
class Name:
    """A possibly qualified name, as the server folds it."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        """`schema.name`, or the name alone."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


class LiteralKind(StrEnum):
    """What a literal is."""

    TEXT = "text"
    NUMBER = "number"


@dataclass(frozen=True)
class Literal:
    """A constant in the statement; true, false, null and limits are not worth mentioning."""

    kind: LiteralKind
    text: str


@dataclass(frozen=True)
class Write:
    """One place where the statement writes: itself, or a part of its WITH."""

    table: Name
    command: str
    """`insert`, `update`, `delete` or `merge`."""
    columns: frozenset[str] | None
    """Columns that it sets; None for all of them."""
    has_where: bool = True
    means_all: bool = False
    """Its condition holds for every row, whatever is in it."""
    rebuilt: frozenset[str] = frozenset()
    """Columns whose new value is made from the present one."""
    pinned: frozenset[str] = frozenset()
    """Columns that it holds to one given value: by `=` in its AND-ed condition, or as what each new row gets."""
    by_order: bool = False
    """An INSERT that names no columns: its values go by their order in the table."""
    overriding: bool = False
    """An INSERT that gives values to columns which the server fills itself."""


@dataclass
class Statement:
    """What one statement says."""

    kind: str
    bare: str = ""
    """The text with spaces in place of its comments."""
    comments: tuple[str, ...] = ()
    tree: Any = None
    """As parsed, for `standfast.safety.grammar.sources`."""
    reads: set[Name] = field(default_factory=set)
    """Relations named anywhere but as a write's target; names of WITH queries included."""
    with_names: set[str] = field(default_factory=set)
    writes: list[Write] = field(default_factory=list)
    columns: set[tuple[str, ...]] = field(default_factory=set)
    """Column references as written; `*` stands for all columns."""
    returned: set[tuple[str, ...]] = field(default_factory=set)
    """The same, in RETURNING of a write."""
    functions: set[Name] = field(default_factory=set)
    types: set[Name] = field(default_factory=set)
    """Types that are named, but those of the grammar itself, such as `integer`."""
    operators: set[Name] = field(default_factory=set)
    literals: list[Literal] = field(default_factory=list)
    parameters: set[int] = field(default_factory=set)
    named: set[tuple[str, Name]] = field(default_factory=set)
    """By which names the statement refers to relations: their aliases, or their own names."""
    aliases: set[str] = field(default_factory=set)
    """Names given to anything but one relation: joins, queries, functions."""
    locks_rows: bool = False
    clocked: bool = False
    """The clock is read anywhere but in a value that is written."""

    @property
    def fields(self) -> frozenset[Name]:
        """What stands after a dot, where PostgreSQL takes `x.name` for `name(x)` if x has no such column."""
        references = self.columns | self.returned
        names = {name for parts in references for name in (parts[1:] if parts[0] == "?" else parts[1:][-1:])}
        return frozenset(Name(None, name) for name in names - {"*", "?"})
