"""Filling a playbook: from the agent's choice to the plan that the playbook makes of it."""

from collections.abc import Iterable
from datetime import timedelta

from temporalio import activity

from standfast.domain import Record
from standfast.errors import InvalidInput
from standfast.plan import Plan
from standfast.planner.playbooks import Playbook, PlaybookChoice
from standfast.steps import Pool, Step


class Filling(Record):
    """What became of a choice: a plan, or why there is none."""

    plan: Plan | None = None
    refused: str = ""
    """For the agent, which chooses again."""


FILL: Step[PlaybookChoice, Filling] = Step(
    name="fill_playbook",
    pool=Pool.LLM,
    result=Filling,
    start_to_close=timedelta(seconds=10),  # no I/O: the playbooks were read when the worker started
    give_up_after=timedelta(minutes=10),
)


class Filler:
    """Fills playbooks in an activity, so that the history has the plan that a playbook made at the time."""

    def __init__(self, playbooks: Iterable[Playbook]) -> None:
        self._playbooks = {playbook.name: playbook for playbook in playbooks}

    @activity.defn(name=FILL.name)
    async def fill_playbook(self, choice: PlaybookChoice) -> Filling:
        """Return the plan of the chosen playbook, or what is wrong with the choice."""
        playbook = self._playbooks.get(choice.playbook)
        if playbook is None:
            known = ", ".join(self._playbooks) or "none"
            return Filling(refused=f"there is no playbook {choice.playbook!r:.100}; there are: {known}")
        try:
            return Filling(plan=playbook.fill(choice.arguments))
        except InvalidInput as error:
            return Filling(refused=str(error))
