"""What model calls cost, and what the journal of their answers saved: from the table `standfast.model_call`."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from standfast.domain import Record
from standfast.store.databases import Databases
from standfast.store.sql import statements

_SQL = statements(__package__, "spending.sql")


class Bill(Record):
    """A number of model calls."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    """Of the calls whose price is known."""
    unpriced: int = 0
    """Calls whose price isn't known: of a local model, or of an agent function of one's own."""

    def __add__(self, other: "Bill") -> "Bill":
        return Bill(**{name: getattr(self, name) + getattr(other, name) for name in Bill.model_fields})


class Spending(Record):
    """What one model took, or all of them."""

    spent: Bill = Bill()
    """Answers that were received and recorded. A call that was cut before its answer came isn't known here."""
    not_spent_again: Bill = Bill()
    """What retries would have paid again, had the answers not been on record."""


class ModelCall(Record):
    """One answer that is on record, and what it took. None: not known."""

    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    usd: float | None
    reused: int
    """How often it spared another call."""


async def model_calls(databases: Databases, planner_workflows: Sequence[str]) -> dict[tuple[str, str], ModelCall]:
    """Return the calls of these planner workflows, by their run ids and activity ids.

    Raises:
        NotPermitted: this process has no URL of the control database.
        ServiceUnavailable: the control database can't be reached.
    """
    async with databases.control() as connection:
        rows = await (await connection.execute(_SQL["calls"], {"workflows": list(planner_workflows)})).fetchall()
    return {(row["run_id"], row["activity_id"]): ModelCall.model_validate(row) for row in rows}


async def spending(databases: Databases, planner_workflows: Sequence[str]) -> dict[str, Spending]:
    """Return what these planner workflows spent, by model, the most used first.

    A planner function of one's own stands under the name of its activity: which models it asks, only it knows.

    Raises:
        NotPermitted: this process has no URL of the control database.
        ServiceUnavailable: the control database can't be reached.
    """
    async with databases.control() as connection:
        rows = await (await connection.execute(_SQL["spent"], {"workflows": list(planner_workflows)})).fetchall()
    return {row["model"]: Spending(spent=_bill(row), not_spent_again=_bill(row, prefix="reused_")) for row in rows}


async def spending_by_day(databases: Databases, planner_workflows: Sequence[str]) -> dict[date, tuple[float, float]]:
    """Return the USD that these planner workflows spent and did not spend again, by the day of the answer in UTC.

    Raises:
        NotPermitted: this process has no URL of the control database.
        ServiceUnavailable: the control database can't be reached.
    """
    async with databases.control() as connection:
        rows = await (await connection.execute(_SQL["by_day"], {"workflows": list(planner_workflows)})).fetchall()
    return {row["day"]: (row["usd"], row["usd_not_spent_again"]) for row in rows}


def _bill(row: Mapping[str, Any], prefix: str = "") -> Bill:
    return Bill(**{name: row[prefix + name] for name in Bill.model_fields})
