"""Small changes of constraints, entry by entry, for those who don't want to open an editor."""

from typing import Any

from standfast.documents import read_yaml
from standfast.errors import InvalidInput
from standfast.safety.constraints import Constraints, validate_constraints

_SOURCE = "the changed constraints"


def added(constraints: Constraints, section: str, text: str) -> Constraints:
    """Return the constraints with one more entry in a list such as `tables` or `functions.auto`.

    A section of values by name, such as `limits`, gets those that are given. `text` is YAML, of which JSON is a part.

    Raises:
        InvalidInput: there is no such section, the entry is there already, or something is wrong with it.
    """
    document, holder, key = _opened(constraints, section)
    value = read_yaml(text, source=f"the entry for {section}")
    if isinstance(holder[key], dict):
        if not isinstance(value, dict):
            raise InvalidInput(f"{section} holds values by name, such as {{NAME: VALUE}}; got {text!r}")
        holder[key] |= value
        return validate_constraints(document, source=_SOURCE)
    holder[key].append(value)
    changed = validate_constraints(document, source=_SOURCE)
    entries = _opened(changed, section)[1][key]
    if entries.count(entries[-1]) > 1:
        raise InvalidInput(f"{section} has {text!r} already; nothing was changed")
    return changed


def removed(constraints: Constraints, section: str, name: str) -> Constraints:
    """Return the constraints without the entries of a list that `name` means, or with a value's default again.

    Entries go by their table (and column), by themselves if they are texts, or by their place, from 0 on.

    Raises:
        InvalidInput: there is no such section or entry, or what is left is wrong.
    """
    document, holder, key = _opened(constraints, section)
    present = holder[key]
    names = list(present) if isinstance(present, dict) else [_name(entry) or str(n) for n, entry in enumerate(present)]
    places = list(map(str, range(len(names)))) if isinstance(present, list) else names
    if name not in (*names, *places):
        raise InvalidInput(f"{section} has no {name!r}; it has {', '.join(names) or 'no entries'}")
    if isinstance(present, dict):
        del present[name]
    else:
        holder[key] = [e for e, *known in zip(present, names, places, strict=True) if name not in known]
    return validate_constraints(document, source=_SOURCE)


def _opened(constraints: Constraints, section: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the document, the part of it that holds the section, and the section's key there."""
    document = constraints.model_dump(mode="json", by_alias=True)
    outer, _, inner = section.rpartition(".")
    holder = document.get(outer) if outer else document
    if not isinstance(holder, dict) or not isinstance(holder.get(inner), list | dict):
        raise InvalidInput(
            f"{section!r} is no section of constraints; expected one of {', '.join(_sections(document))}"
        )
    return document, holder, inner


def _sections(document: dict[str, Any]) -> list[str]:
    found = []
    for key, value in document.items():
        if isinstance(value, list | dict):
            found.append(key)
        if isinstance(value, dict):
            found += [f"{key}.{inner}" for inner, entries in value.items() if isinstance(entries, list)]
    return found


def _name(entry: Any) -> str:
    """Return what an entry is called: a text by itself, one about a table or column by that one's name."""
    if isinstance(entry, str):
        return entry
    return ".".join(entry[key] for key in ("table", "name", "column") if key in entry)
