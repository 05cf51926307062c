"""A workflow that passes a payload on: made by one activity, measured by another, shown to whoever asks."""

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from standfast import steps


@activity.defn
async def make(size: int) -> str:
    return "x" * size


@activity.defn
async def measure(text: str) -> int:
    return len(text)


@workflow.defn
class Passing:
    def __init__(self) -> None:
        self._text = ""

    @workflow.run
    async def run(self, size: int) -> int:
        self._text = await workflow.execute_activity(
            make, size, start_to_close_timeout=steps.TOOL_CALL, retry_policy=steps.TOOL_RETRY
        )
        return await workflow.execute_activity(
            measure, self._text, start_to_close_timeout=steps.TOOL_CALL, retry_policy=steps.TOOL_RETRY
        )

    @workflow.query
    def text(self) -> str:
        return self._text
