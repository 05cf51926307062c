"""The tickets of a chaos run: what each asks for, how it is planned and decided, and what it must leave behind.

All of it follows from a ticket's number and kind, so that what is found in the end is compared with what was meant
from the beginning. Each change adds to a number and inserts rows that no constraint keeps from being there twice.
"""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from standfast.local.sample import TARGET
from standfast.local.shop.data import CUSTOMERS, rows
from standfast.outcome import State
from standfast.plan import Operation, Plan
from standfast.ticket import Ticket

REQUESTER = "ana@example.com"
REVIEWER = "reviewer@example.com"
PREFIX = "CHAOS"
CREDIT = Decimal("0.01")
"""So little that a customer's credit stays below the shop's limit for changes by themselves."""
_TOWN = ("Graz", "8010", "AT")


class Kind(StrEnum):
    """What happens to a ticket on its way."""

    AUTOMATIC = "automatic"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVISED = "revised"
    """Its first plan is sent back, its second one approved."""
    CANCELLED = "cancelled"
    """While it waits for a person."""
    WITHDRAWN = "withdrawn"
    """Cancelled at any moment, so it ends `cancelled` or `done`, whichever came first."""

    @property
    def ends(self) -> frozenset[State]:
        """How such a ticket may end."""
        return _ENDS[self]


_ENDS = {
    Kind.AUTOMATIC: frozenset({State.DONE}),
    Kind.APPROVED: frozenset({State.DONE}),
    Kind.REJECTED: frozenset({State.REJECTED}),
    Kind.REVISED: frozenset({State.DONE}),
    Kind.CANCELLED: frozenset({State.CANCELLED}),
    Kind.WITHDRAWN: frozenset({State.CANCELLED, State.DONE}),
}
_SHARES = {
    Kind.AUTOMATIC: 40,
    Kind.APPROVED: 20,
    Kind.REJECTED: 10,
    Kind.REVISED: 14,
    Kind.CANCELLED: 8,
    Kind.WITHDRAWN: 8,
}

Row = tuple[str, ...]
"""A table's name, and what is compared of one of its rows."""


@dataclass(frozen=True, kw_only=True)
class ScriptedTicket:
    """One ticket with its script."""

    number: int
    kind: Kind
    withdrawn_after: float = 0.0
    """Seconds from its submission to its cancellation, if it is withdrawn."""

    @property
    def id(self) -> str:
        """The ticket's id."""
        return f"{PREFIX}-{self.number:05}"

    @property
    def customer(self) -> int:
        """Whose rows it changes: tickets that run at the same time have different customers."""
        return 1 + self.number % CUSTOMERS

    @property
    def ticket(self) -> Ticket:
        """What is submitted."""
        body = (
            f"Give customer {self.customer} a credit of {CREDIT} euros and note '{self._note}'."
            f" Addresses to add, if any: {self._street(1)}, {self._street(2)}, {', '.join(_TOWN)}."
        )
        return Ticket(id=self.id, body=body, requester=REQUESTER, target=TARGET, subject={"customer_id": self.customer})

    @property
    def workflow_id(self) -> str:
        """Of its workflow."""
        return self.ticket.workflow_id

    @property
    def waits(self) -> bool:
        """Whether a person has to decide."""
        return self.kind not in (Kind.AUTOMATIC, Kind.WITHDRAWN)

    def plan(self, number: int) -> Plan:
        """Return the agent's plan of this number, counted from 1."""
        operations = [
            Operation(
                sql="UPDATE shop.customers SET credit = credit + $2 WHERE id = $1",
                params=(self.customer, str(CREDIT)),
                expect_rows=1,
            ),
            Operation(
                sql="INSERT INTO shop.support_history (customer_id, text) VALUES ($1, $2)",
                params=(self.customer, self._note),
                expect_rows=1,
            ),
        ]
        if self.waits:  # nobody changes addresses without approval
            operations.append(
                Operation(
                    sql="INSERT INTO shop.addresses (customer_id, street, city, postcode, country)"
                    " VALUES ($1, $2, $3, $4, $5)",
                    params=(self.customer, self._street(number), *_TOWN),
                    expect_rows=1,
                )
            )
        return Plan(summary=f"Plan {number} of {self.id}.", operations=tuple(operations))

    @property
    def last_plan(self) -> int:
        """The number of the plan that stands in the end."""
        return 2 if self.kind is Kind.REVISED else 1

    def executed(self, end: State) -> Plan | None:
        """Return the plan that must have been executed if the ticket ended so; None if nothing may have been."""
        return self.plan(self.last_plan) if end is State.DONE else None

    @property
    def _note(self) -> str:
        return f"credited for {self.id}"

    def _street(self, number: int) -> str:
        return f"Street {number} of {self.id}"


def ticket_number(workflow_id: str) -> int:
    """Return the number of the scripted ticket with this workflow id."""
    return int(workflow_id.rpartition("-")[2])


def scripted(seed: int, number: int) -> ScriptedTicket:
    """Return the ticket of this number: the same one for the same seed."""
    chance = random.Random(f"ticket {seed} {number}")  # noqa: S311 - repeatable, not secret
    (kind,) = chance.choices(list(_SHARES), list(_SHARES.values()))
    return ScriptedTicket(number=number, kind=kind, withdrawn_after=chance.uniform(0, 4))


def expected_rows(executed: Iterable[ScriptedTicket]) -> Counter[Row]:
    """Return the shop's rows after the changes of these tickets, each made once, whatever their order."""
    shop = rows()
    found: Counter[Row] = Counter()
    times: Counter[int] = Counter()
    for one in executed:
        times[one.customer] += 1
        for operation in one.plan(one.last_plan).operations[1:]:
            found[_inserted(operation)] += 1
    for customer in shop["customers"]:
        total = CREDIT * times[customer[0]]
        found["customers", str(customer[0]), f"{total:.2f}"] += 1
    for customer_id, last in times.items():
        for number in range(1, last + 1):  # the shop's own trigger writes down each new value
            found["customers_audit", str(customer_id), f"{CREDIT * number:.2f}"] += 1
    found.update(("addresses", str(address[1]), address[2]) for address in shop["addresses"])
    found.update(("support_history", str(entry[1]), entry[3]) for entry in shop["support_history"])
    return found


def _inserted(operation: Operation) -> Row:
    table = "addresses" if "addresses" in operation.sql else "support_history"
    customer, text, *_ = operation.params
    return (table, str(customer), str(text))
