"""Names in PostgreSQL, which cuts those that are too long without a word."""

_MAX_BYTES = 63


def too_many_bytes(name: str) -> int:
    """Return how many bytes a name has that PostgreSQL would cut off."""
    return max(len(name.encode()) - _MAX_BYTES, 0)
