"""One thing that the doctor looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    """The setting it is about, and what was looked at."""
    ok: bool
    message: str
    """What was found; if it isn't ok, what to do."""
