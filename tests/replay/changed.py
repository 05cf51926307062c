"""The ticket workflow with a line more, as a careless or a careful person would add it."""

from importlib import import_module, invalidate_caches
from pathlib import Path
from uuid import uuid4

import standfast.workflow

MORE = 'await steps.GATHER(self._view.ticket, summary="once more")'
"""A step that tickets under way have never made."""
_BEFORE = "        report = await steps.VALIDATE(\n"


def changed(folder: Path, line: str) -> type:
    """Return a ticket workflow that runs `line` before each validation; `folder` is on the path of imports."""
    source = Path(standfast.workflow.__file__).read_text("utf-8")
    assert source.count(_BEFORE) == 1
    name = f"workflow_{uuid4().hex}"
    (folder / f"{name}.py").write_text(source.replace(_BEFORE, f"        {line}\n{_BEFORE}"), "utf-8")
    invalidate_caches()
    workflow: type = import_module(name).TicketWorkflow
    return workflow
