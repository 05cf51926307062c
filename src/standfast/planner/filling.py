"""Filling a playbook: from the agent's choice to the plan that the playbook makes of it."""

from collections.abc import Iterable

from temporalio import activity

from standfast.errors import InvalidInput
from standfast.planner.playbooks import Playbook, PlaybookChoice
from standfast.steps import FILL_PLAYBOOK, Filling


class Filler:
    """Fills playbooks in an activity, so that the history has the plan that a playbook made at the time."""

    def __init__(self, playbooks: Iterable[Playbook]) -> None:
        self._playbooks = {playbook.name: playbook for playbook in playbooks}

    @activity.defn(name=FILL_PLAYBOOK.name)
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
