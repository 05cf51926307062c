"""A plan: the database operations that an agent proposes. It is only a proposal."""

import json
from typing import Annotated

from pydantic import Field, model_validator

from standfast.domain import ExactJson, Submission, digest


class Operation(Submission):
    """One PostgreSQL statement with `$1..$n` parameters; checked, shown, digested and executed byte for byte."""

    sql: str
    params: tuple[ExactJson, ...] = ()
    """JSON values, bound by the types that the server infers."""
    reason: str = ""
    """The agent's claim why; shown as a claim, never evidence."""
    expect_rows: Annotated[int, Field(ge=0)] | None = None
    """How many rows of the named table the agent expects to change."""


MAX_PLAN_BYTES = 256 * 1024
"""Of a whole plan as JSON in UTF-8."""


class Plan(Submission):
    """What an agent answers. No operations means: nothing to change."""

    summary: str = ""
    operations: tuple[Operation, ...] = ()
    declined: bool = False
    """True if the agent found no way to do what the ticket asks; a person has to handle it."""

    @model_validator(mode="after")
    def _fits(self) -> "Plan":
        size = len(json.dumps(self.model_dump(), ensure_ascii=False).encode(errors="surrogatepass"))
        if size > MAX_PLAN_BYTES:
            msg = f"the plan has {size} bytes, at most {MAX_PLAN_BYTES} are allowed"
            raise ValueError(msg)
        return self

    def digest(self, target: str) -> str:
        """SHA-256 over target, statements and parameters: what an approval is bound to."""
        return digest(
            {"target": target, "operations": [{"sql": o.sql, "params": list(o.params)} for o in self.operations]}
        )
