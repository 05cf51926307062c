"""A rehearsal beside a waiting ticket: would its plan still do what people are shown? Nothing of it is the ticket's."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import standfast.steps  # noqa: F401 - by its full name first, see standfast.workflow
    from standfast import steps


@workflow.defn(name=steps.REHEARSAL)
class RehearsalWorkflow:
    """One rehearsal."""

    @workflow.run
    async def run(self, request: steps.RehearseRequest) -> steps.Rehearsed:
        """Return what the plan would do now."""
        return await steps.REHEARSE(request, summary="rehearse a waiting plan once more")
