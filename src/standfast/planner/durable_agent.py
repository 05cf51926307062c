"""A pydantic-ai agent as the planner of a worker: it runs in the workflow, each of its I/O calls in an activity."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_ai import Agent, ModelSettings, UsageLimits
from pydantic_ai.capabilities import AgentCapability, WrapperCapability
from pydantic_ai.durable_exec.temporal import TemporalDurability
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAuthenticationError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import ModelMessage, UserContent
from pydantic_ai.models import Model
from pydantic_ai.usage import RunUsage
from temporalio.exceptions import ApplicationError
from temporalio.workflow import ActivityConfig

from standfast import steps
from standfast.errors import InvalidInput
from standfast.plan import Plan
from standfast.planner.playbooks import NONE, PlaybookChoice
from standfast.planner.prompt import objection, prompt
from standfast.steps import PlanRequest

MAX_CHOICES = 3  # a playbook's arguments may be mended twice
MAX_REQUESTS = 30  # model requests of one plan; an agent that needs more goes round in circles
MAX_TOOL_CALLS = 60
FAILED = "PlannerFailed"

_ADVICE: dict[type[AgentRunError], str] = {
    ModelAuthenticationError: "check the API key that the llm pool was given",
    ModelNotFoundError: "check planner.model and the provider's base URL",
    ModelQuotaExceededError: "the provider's account has no credit left",
    UsageLimitExceeded: f"a plan may take {MAX_REQUESTS} model requests and {MAX_TOOL_CALLS} tool calls",
    UnexpectedModelBehavior: "the model's answers don't fit the form of a plan; a stronger model may do",
}
_MODEL = ActivityConfig(
    start_to_close_timeout=steps.MODEL_REQUEST,
    schedule_to_close_timeout=steps.MODEL_GIVE_UP,
    heartbeat_timeout=steps.HEARTBEAT,
    retry_policy=steps.MODEL_RETRY,
)
_TOOL = ActivityConfig(
    start_to_close_timeout=steps.TOOL_CALL,
    schedule_to_close_timeout=steps.TOOL_GIVE_UP,
    heartbeat_timeout=steps.HEARTBEAT,
    retry_policy=steps.TOOL_RETRY,
)


@dataclass
class _Bound(WrapperCapability[Any]):
    """Durability that is bound to its agent already: binding it once more, in a workflow, is refused by the library."""

    def for_agent(self, agent: Any) -> "_Bound":
        del agent
        return self


class DurableAgent:
    """A planner whose every model request and tool call is an activity of its own."""

    def __init__(
        self,
        agent: Agent[Any, Any],
        *,
        name: str,
        instructions: str,
        deps: Callable[[PlanRequest], Any] = lambda _: None,
    ) -> None:
        """Make `agent` durable, unless it has a TemporalDurability of its own.

        `name` stands in the names of its activities, hence in histories: it has to stay the same. `deps` are copied
        into every activity, so they should be small.

        Raises:
            InvalidInput: the library can't make this agent durable.
        """
        self._agent = agent
        self._instructions = instructions
        self._deps = deps
        self._capabilities: Sequence[AgentCapability[Any]] = ()
        try:
            durability = TemporalDurability.from_agent(agent)
            if durability is None:
                durability = _bind(agent, name)
                self._capabilities = (_Bound(durability),)
            self.activities: Sequence[Callable[..., Any]] = durability.temporal_activities
            """What a worker has to serve for this agent."""
        except UserError as error:
            raise InvalidInput(f"agent {name!r} can't be made durable: {error}") from error

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Keep the model's connections for as long as a worker runs, and close them then."""
        async with AsyncExitStack() as stack:
            if isinstance(self._agent.model, Model):
                await stack.enter_async_context(self._agent.model)
            yield

    async def plan(self, request: PlanRequest) -> Plan:
        """Return the agent's plan, or the plan that its choice of a playbook makes."""
        messages: list[ModelMessage] = []
        usage = RunUsage()
        question = prompt(request)
        for _ in range(MAX_CHOICES):
            messages, answer = await self._ask(question, messages, usage, request)
            if isinstance(answer, Plan):
                return answer
            if answer.playbook == NONE:
                return Plan(declined=True, summary="No playbook fits this ticket.")
            filling = await steps.FILL_PLAYBOOK(answer, summary=f"fill playbook: {answer.playbook:.80}")
            if filling.plan is not None:
                return filling.plan
            question = objection(filling.refused)
        return Plan(declined=True, summary=f"The agent found no arguments for the playbook: {filling.refused}")

    async def _ask(
        self, question: Sequence[UserContent], messages: list[ModelMessage], usage: RunUsage, request: PlanRequest
    ) -> tuple[list[ModelMessage], Plan | PlaybookChoice]:
        try:
            result = await self._agent.run(
                question,
                message_history=messages,
                instructions=self._instructions,
                deps=self._deps(request),
                model_settings=self._settings(),
                usage=usage,
                usage_limits=UsageLimits(request_limit=MAX_REQUESTS, tool_calls_limit=MAX_TOOL_CALLS),
                capabilities=self._capabilities,
            )
        except (AgentRunError, UserError) as error:
            raise ApplicationError(_explained(error), type=FAILED, non_retryable=True) from None
        if not isinstance(result.output, Plan | PlaybookChoice):
            message = f"the agent answered {result.output!r:.200} instead of a standfast.plan.Plan"
            raise ApplicationError(message, type=FAILED, non_retryable=True)
        return result.all_messages(), result.output

    def _settings(self) -> ModelSettings:
        # Retrying is Temporal's: retries hidden in the provider's library would be neither seen nor bounded.
        settings = ModelSettings(max_retries=0, timeout=steps.MODEL_ANSWER.total_seconds())
        if isinstance(self._agent.model, Model):
            for name in self._agent.model.unsupported_settings & {"max_retries", "timeout"}:
                del settings[name]
        return settings


def _bind(agent: Agent[Any, Any], name: str) -> TemporalDurability[Any]:
    bound = TemporalDurability[Any](name=name, activity_config=_TOOL, model_activity_config=_MODEL).for_agent(agent)
    if not isinstance(bound, TemporalDurability):
        raise UserError("give it `capabilities=[pydantic_ai.durable_exec.temporal.TemporalDurability(...)]` and a name")
    return bound


def _explained(error: AgentRunError | UserError) -> str:
    """Return one line: what to do, what happened, and the library's own details, which may be long and are cut."""
    details = error.__cause__ if isinstance(error, UnexpectedModelBehavior) else None
    what = " ".join(f"{error}: {details}".split()) if details else " ".join(str(error).split())
    advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), "")
    return f"no plan: {advice}: {what:.400}" if advice else f"no plan: {what:.400}"
