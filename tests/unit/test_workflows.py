"""What every workflow of ours keeps to, whatever it does."""

import pytest
from pydantic import SecretStr
from temporalio.common import VersioningBehavior
from temporalio.workflow import _Definition

from standfast.settings import Control, Planner, Settings
from standfast.steps import PLANNER, Pool
from standfast.store.databases import Databases
from standfast.worker import registrations


@pytest.fixture(scope="module")
def definitions() -> list[_Definition]:
    """Return all workflows that any pool serves."""
    planner = Planner(agent="tests.integration.scripted_planner:plan")
    settings = Settings(control=Control(journal=SecretStr("postgresql://nowhere")), planner=planner)
    databases = Databases(settings, application="test")
    return [
        _Definition.must_from_class(one) for pool in Pool for one in registrations(pool, settings, databases).workflows
    ]


def test_no_workflow_says_its_versioning_behavior(definitions: list[_Definition]) -> None:
    """The server would refuse every task of it where workers have no version, and its tickets would hang."""
    assert {d.name: d.versioning_behavior for d in definitions} == dict.fromkeys(
        (d.name for d in definitions), VersioningBehavior.UNSPECIFIED
    )


def test_every_workflow_but_the_planner_runs_in_the_sandbox(definitions: list[_Definition]) -> None:
    assert {d.name for d in definitions if not d.sandboxed} == {PLANNER}
