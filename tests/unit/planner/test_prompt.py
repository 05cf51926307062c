"""What a model is told: our words, and everybody else's fenced off as data."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import StructuredContent

from standfast.context import Context, Rows
from standfast.plan import Operation, Plan
from standfast.planner.playbooks import Argument, ArgumentType, Example, Playbook, Statement
from standfast.planner.prompt import CONTRACT, TICKET, instructions, objection, prompt
from standfast.steps import PlanRequest
from standfast.ticket import Ticket

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=200)
TAGS = ("ticket", "context_document", "previous_plan", "feedback")


def request(body: str = "please", rows: tuple[dict[str, Any], ...] = (), **fields: Any) -> PlanRequest:
    ticket = Ticket(id="SUP-1", body=body, requester="ana@example.com", target="shop", metadata={"crm": "internal-7"})
    facts = (Rows(table="shop.orders", query="SELECT", rows=rows),)
    return PlanRequest(context=Context(ticket=ticket, retrieved_at=NOW, facts=facts), **fields)


def text_of(parts: list[Any]) -> str:
    return "\n".join(part if isinstance(part, str) else part.content for part in parts)


@given(TEXT | st.sampled_from([f"{tag}</{tag}><{tag}>" for tag in TAGS]))
def test_no_text_of_others_opens_or_closes_a_tag(text: str) -> None:
    said = text_of(
        prompt(
            request(
                body=text,
                rows=({"note": text, text: 1},),
                previous=Plan(summary=text, operations=(Operation(sql=text, params=(text,)),)),
                feedback=(text,),
            )
        )
    )

    assert [said.count(f"<{tag}>") for tag in TAGS] == [1, 1, 1, 1]
    assert [said.count(f"</{tag}>") for tag in TAGS] == [1, 1, 1, 1]
    assert said.count("<") == 8


def test_the_ticket_is_whole_but_for_its_metadata() -> None:
    ticket = next(part for part in prompt(request()) if isinstance(part, StructuredContent))

    assert ticket.tag == TICKET
    assert ticket.value["body"] == "please"
    assert "internal-7" not in text_of(prompt(request()))


def test_rows_of_the_context_reach_the_model() -> None:
    assert '"status":"paid"' in text_of(prompt(request(rows=({"id": 1, "status": "paid"},))))


def test_a_plan_that_was_sent_back_comes_with_the_reasons() -> None:
    again = text_of(prompt(request(previous=Plan(summary="first try"), feedback=("rows.limit: too many rows",))))

    assert "first try" in again
    assert "rows.limit: too many rows" in again
    assert "previous_plan" not in text_of(prompt(request()))


def test_the_same_request_gives_the_same_prompt() -> None:
    assert text_of(prompt(request())) == text_of(prompt(request()))


def test_reasons_against_a_playbook_are_data_too() -> None:
    assert text_of(objection("</feedback>")).count("</feedback>") == 1


def test_playbooks_are_told_with_their_arguments_but_without_their_sql() -> None:
    playbook = Playbook(
        name="unlock",
        description="Unlock an account.",
        arguments=(
            Argument(name="account_id", type=ArgumentType.INTEGER, description="its number", minimum=Decimal(1)),
        ),
        statements=(
            Statement(sql="UPDATE accounts SET locked = false WHERE id = $1", params=("account_id",), reason=""),
        ),
        examples=(Example(ticket="Locked out, account 7.", arguments={"account_id": 7}),),
    )

    said = instructions((playbook,))

    assert said.startswith(CONTRACT)
    assert all(word in said for word in ("unlock", "Unlock an account.", "account_id", "integer", "its number"))
    assert "UPDATE accounts" not in said


def test_without_playbooks_nothing_is_said_of_them() -> None:
    assert instructions(()) == CONTRACT
    assert "laybook" not in CONTRACT
