"""The rule `ticket.condition`."""

from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule


class TicketConditions(Rule):
    id = "ticket.condition"
    verdict = Verdict.APPROVAL
    rationale = (
        "What is routine for one customer is not for another: important ones, minors, people in a lawsuit. Who files "
        "the ticket knows, and says so by a label (`conditions`). A plan that is checked without its ticket passes."
    )
    examples = (
        Example(
            sql="SELECT note FROM shop.orders WHERE id = 1042",
            finds=Verdict.APPROVAL,
            why="anybody's ticket is one that needs a person",
            constraints='conditions: [{requesters: ["*"]}]',
            ticket="What does the note on order 1042 say?",
        ),
        Example(
            sql="SELECT note FROM shop.orders WHERE id = 1042",
            why="the ticket has no such label",
            constraints="conditions: [{labels: [vip, legal*], verdict: block}]",
            ticket="What does the note on order 1042 say?",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        if case.ticket is None:
            return
        for condition in case.constraints.conditions:
            if condition.holds(case.ticket):
                named = ", ".join((*condition.requesters, *condition.labels))
                message = condition.reason or f"the ticket is one of those that need more care: {named}"
                yield self.finding(condition.verdict, message, matched=named)
