"""The command line: `standfast [--config FILE] [--json] COMMAND`."""

from standfast.cli.program import main

__all__ = ["main"]
