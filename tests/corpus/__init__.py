"""Plans that a clinic's database should stop, and plans that it should let pass, by the kind of the attack."""

from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from standfast.plan import Operation, Plan
from standfast.report import Verdict
from standfast.safety.constraints import parse_constraints

_FOLDER = Path(__file__).parent
SCHEMA = (_FOLDER / "clinic.sql").read_text("utf-8")
CONSTRAINTS = parse_constraints((_FOLDER / "constraints.yaml").read_text("utf-8"), source="constraints.yaml")


class Entry(BaseModel):
    """One plan, and the best verdict that it may get."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    expect: Verdict
    rule: str | None = None
    """One of the rules that must speak against it."""
    oldest: Annotated[int, Field(alias="from")] = 14
    """The first major version whose server understands it."""
    operations: tuple[Operation, ...]

    @property
    def plan(self) -> Plan:
        return Plan(operations=self.operations)


def entries(*kinds: str) -> list[Entry]:
    """Return the entries of the files named after `kinds`, of all files without any."""
    files = [_FOLDER / "plans" / f"{kind}.yaml" for kind in kinds] or sorted((_FOLDER / "plans").glob("*.yaml"))
    reader = TypeAdapter(list[Entry])
    return [entry for file in files for entry in reader.validate_python(yaml.safe_load(file.read_text("utf-8")))]


def parameters(*kinds: str) -> pytest.MarkDecorator:
    """Run a test for each entry."""
    found = entries(*kinds)
    return pytest.mark.parametrize("entry", found, ids=[entry.name for entry in found])
