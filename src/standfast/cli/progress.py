"""Tickets followed live until they end."""

from collections.abc import Sequence

from rich.live import Live
from rich.table import Table

from standfast.cli.output import Output, text_table
from standfast.cli.pages import outcome_line
from standfast.client import Standfast
from standfast.outcome import Outcome, State
from standfast.together import together
from standfast.view import TicketView

_COLUMNS = ["ticket", "state", "verdict", "what"]


async def follow(client: Standfast, workflow_ids: Sequence[str], output: Output) -> dict[str, Outcome]:
    """Show the tickets as they move, on a terminal in a live table, else a line each; return how they ended.

    Raises:
        ServiceUnavailable: Temporal, or every core worker, is away.
    """
    board = _Board(workflow_ids, output)
    with board.live:
        outcomes = await together(_to_its_end(client, one, board) for one in workflow_ids)
    return dict(zip(workflow_ids, outcomes, strict=True))


async def _to_its_end(client: Standfast, workflow_id: str, board: "_Board") -> Outcome:
    async for view in client.watch(workflow_id):
        board.show(view)
    outcome = await client.wait(workflow_id)
    board.end(workflow_id, outcome)
    return outcome


class _Board:
    def __init__(self, workflow_ids: Sequence[str], output: Output) -> None:
        self._output = output
        self._rows: dict[str, list[str]] = {one: [one, "", "", ""] for one in workflow_ids}
        self._on_terminal = output.people.is_terminal
        self.live = Live(self._table(), console=output.people, auto_refresh=False, transient=not self._on_terminal)

    def show(self, view: TicketView) -> None:
        verdict = view.report.verdict.value if view.report else ""
        if view.outcome is not None:
            self._rows[view.workflow_id][2] = verdict  # `end` shows the rest
        else:
            self._set(view.workflow_id, view.state, verdict, _what(view))

    def end(self, workflow_id: str, outcome: Outcome) -> None:
        self._set(workflow_id, outcome.state, self._rows[workflow_id][2], outcome.reason)
        if not self._on_terminal:
            outcome_line(workflow_id, outcome, self._output)

    def _set(self, workflow_id: str, state: State, verdict: str, what: str) -> None:
        before, now = self._rows[workflow_id], [workflow_id, state.value, verdict, what]
        if now == before:
            return
        self._rows[workflow_id] = now
        if self._on_terminal:
            self.live.update(self._table(), refresh=True)
        elif not state.is_end and state.value != before[1]:
            self._output.line(f"{workflow_id}  {state}")

    def _table(self) -> Table:
        return text_table(_COLUMNS, [list(row) for row in self._rows.values()])


def _what(view: TicketView) -> str:
    match view.state:
        case State.GATHERING:
            return "reads the context"
        case State.PLANNING:
            return f"the agent makes plan {view.plan_number + 1}"
        case State.VALIDATING:
            return f"checks and rehearses plan {view.plan_number}"
        case State.WAITING:
            return "waits for a person"
        case _:
            return "executes the plan"
