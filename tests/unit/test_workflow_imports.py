"""A run of the ticket workflow loads its own module anew and nothing else: every ticket pays for what it loads."""

import sys

from temporalio.worker.workflow_sandbox import SandboxRestrictions
from temporalio.worker.workflow_sandbox._importer import Importer
from temporalio.worker.workflow_sandbox._restrictions import RestrictionContext

import standfast.workflow


def test_the_sandbox_shares_all_our_modules_but_the_workflow() -> None:
    importer = Importer(SandboxRestrictions.default, RestrictionContext())
    with importer.applied():
        __import__(standfast.workflow.__name__)
    ours = {name: module for name, module in importer.new_modules.items() if name.startswith("standfast.")}
    assert "standfast.ticket" in ours
    assert [name for name, module in ours.items() if module is not sys.modules[name]] == ["standfast.workflow"]
