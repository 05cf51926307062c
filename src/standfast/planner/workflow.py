"""The planner workflow: a short child of the ticket workflow on a task queue of its own, where pydantic-ai may live."""

from typing import Protocol

from temporalio import workflow

from standfast import steps
from standfast.plan import Plan
from standfast.steps import PlanRequest

PLANNER_OF_WORKER = "standfast_planner"
"""Under this name a worker gives its planner to the workflow; see standfast.planner.registrations."""


class Planner(Protocol):
    """Who makes the plans of a worker: an agent or a function."""

    async def plan(self, request: PlanRequest) -> Plan:
        """Make a plan. Runs in the workflow, so everything outside of it is an activity.

        Raises:
            temporalio.exceptions.FailureError: there is no plan, and why.
        """


# Any error ends the run, in words. By default one in workflow code is tried again until its cause is deployed away,
# which suits a ticket that waits for days; here it would be an hour of silence about an agent's bug.
# No sandbox: it guards the code that it imports itself, and here that would be these few lines; the agent comes from
# outside, and what it imports late would only trip over it.
@workflow.defn(name=steps.PLANNER, failure_exception_types=[Exception], sandboxed=False)
class PlannerWorkflow:
    """Makes one plan."""

    @workflow.run
    async def run(self, request: PlanRequest) -> Plan:
        """Return the plan, which may be declined or empty."""
        planner: Planner = workflow.extern_functions()[PLANNER_OF_WORKER]()
        return await planner.plan(request)
