"""Our SQL: named statements in .sql files, typed as the literals that they are: never built from other strings.

A statement starts with its name and its purpose:

    -- name --
    -- What it is for, in one line.
    SELECT ...
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import LiteralString

_HEADING = re.compile(r"^-- (\w+) --\n-- \S.*\n", re.MULTILINE)


def read(package: str, file: str) -> LiteralString:
    """Return the text of a .sql file that ships with `package`.

    It counts as a literal because it is code of ours, reviewed as such; nothing else may say so.
    """
    text: LiteralString = files(package).joinpath(file).read_text("utf-8")
    return text


def statements(package: str, file: str) -> Mapping[str, LiteralString]:
    """Return the named statements of a .sql file that ships with `package`.

    Raises:
        ValueError: text stands before the first heading, or a name is used twice.
    """
    before, *parts = _HEADING.split(read(package, file))
    names, texts = parts[::2], parts[1::2]
    if before.strip() or len(set(names)) != len(names):
        msg = f"{package}/{file}: each statement needs a name of its own and a line that says its purpose"
        raise ValueError(msg)
    return MappingProxyType({name: text.strip() for name, text in zip(names, texts, strict=True)})
