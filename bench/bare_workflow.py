"""The ticket's way without Standfast: a plain Temporal workflow of the same shape, and one without the child workflow.

Plain values in and out. The time-outs are ours, so that the server has the same to do.
"""

from datetime import timedelta
from typing import Any

from temporalio import workflow

Document = dict[str, Any]
_HEARTBEAT = timedelta(seconds=2)
_LIMIT = timedelta(seconds=60)


def queue(pool: str) -> str:
    """Return the task queue of the bare pool."""
    return f"bare-{pool}"


async def _step(name: str, pool: str, request: Document) -> Document:
    result: Document = await workflow.execute_activity(
        name, request, task_queue=queue(pool), start_to_close_timeout=_LIMIT, heartbeat_timeout=_HEARTBEAT, summary=name
    )
    return result


@workflow.defn(name="BarePlanner", sandboxed=False)
class BarePlanner:
    """Without a sandbox, as ours."""

    @workflow.run
    async def run(self, context: Document) -> Document:
        """Return the plan."""
        return await _step("plan", "llm", context)


@workflow.defn(name="Bare")
class Bare:
    """Parent and child, as ours."""

    @workflow.run
    async def run(self, ticket: Document) -> Document:
        """Return what was executed."""
        context = await _step("gather", "core", ticket)
        plan = await workflow.execute_child_workflow(
            "BarePlanner", context, id=f"{workflow.info().workflow_id}/plan", task_queue=queue("llm")
        )
        return await _check_and_execute(context, plan)


@workflow.defn(name="BareFlat")
class BareFlat:
    """The same activities, but no child workflow."""

    @workflow.run
    async def run(self, ticket: Document) -> Document:
        """Return what was executed."""
        context = await _step("gather", "core", ticket)
        return await _check_and_execute(context, await _step("plan", "llm", context))


async def _check_and_execute(context: Document, plan: Document) -> Document:
    report = await _step("validate", "core", {"context": context, "plan": plan})
    request = {"ticket": context["ticket"], "plan": plan, "fingerprint": report["fingerprint"]}
    execution = await _step("execute", "database", request)
    await _step("conclude", "core", {"ticket": context["ticket"], "execution": execution})
    return execution
