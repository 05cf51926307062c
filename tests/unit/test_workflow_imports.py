"""A run of a workflow loads its own module anew and nothing else: every ticket pays for what it loads."""

import sys

import pytest
from temporalio.worker.workflow_sandbox import SandboxRestrictions
from temporalio.worker.workflow_sandbox._importer import Importer
from temporalio.worker.workflow_sandbox._restrictions import RestrictionContext

import standfast.batching.workflow
import standfast.rehearsal
import standfast.workflow


@pytest.mark.parametrize(
    "workflow", [standfast.workflow.__name__, standfast.rehearsal.__name__, standfast.batching.workflow.__name__]
)
def test_the_sandbox_shares_all_our_modules_but_the_workflow(workflow: str) -> None:
    importer = Importer(SandboxRestrictions.default, RestrictionContext())
    with importer.applied():
        __import__(workflow)
    ours = {name: module for name, module in importer.new_modules.items() if name.startswith("standfast.")}
    assert "standfast.steps" in ours
    anew = {name for name, module in ours.items() if module is not sys.modules[name]}
    assert anew - {workflow.rpartition(".")[0]} == {workflow}  # its package is empty
