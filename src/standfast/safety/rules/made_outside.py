"""Findings that other parts of validation make, while they parse, rehearse or add up: what there is to say about them.

They have no hooks, but stand in the documents and are tested as all rules are.
"""

from standfast import steps
from standfast.report import Verdict
from standfast.safety.rules.case import Example, Rule


class Characters(Rule):
    id = "statement.characters"
    verdict = Verdict.BLOCK
    rationale = (
        "Control characters other than tab and line ends, NUL first of all, hide from people what the server would run."
    )
    examples = (
        Example(sql="SELECT\n\tnote FROM shop.orders WHERE id = 1042", why="tabs and new lines are fine"),
        Example(sql="SELECT 1\x08\x08\x08", finds=Verdict.BLOCK, why="backspaces take back what is read"),
    )


class Size(Rule):
    id = "statement.size"
    verdict = Verdict.BLOCK
    rationale = "Nobody reads a statement of more bytes than `limits.statement_bytes`, and its parsing takes long."
    examples = (
        Example(sql="SELECT 1", constraints="limits: {statement_bytes: 20}", why="8 bytes"),
        Example(
            sql="SELECT 1 + 1 + 1 + 1 + 1",
            constraints="limits: {statement_bytes: 20}",
            finds=Verdict.BLOCK,
            why="24 bytes",
        ),
    )


class Syntax(Rule):
    id = "statement.syntax"
    verdict = Verdict.BLOCK
    rationale = "What PostgreSQL's own grammar doesn't understand, nobody can judge."
    examples = (
        Example(sql="SELECT note FROM shop.orders WHERE id = 1042", why="valid"),
        Example(sql="SELEKT 1", finds=Verdict.BLOCK, why="a typing error; the agent may mend it"),
    )


class Single(Rule):
    id = "statement.single"
    verdict = Verdict.BLOCK
    rationale = "One statement per operation: a second one could hide behind the first, and none does nothing."
    examples = (
        Example(sql="SELECT 1;", why="one statement and its end"),
        Example(sql="SELECT 1; DROP TABLE shop.orders", finds=Verdict.BLOCK, why="two"),
        Example(sql="-- nothing", finds=Verdict.BLOCK, why="none"),
    )


class Construct(Rule):
    id = "statement.construct"
    verdict = Verdict.BLOCK
    rationale = "A part of the grammar that is not on the list of known ones is refused, whatever it means."
    examples = (
        Example(sql="SELECT coalesce(note, '') FROM shop.orders WHERE id = 1042", why="known parts only"),
        Example(sql="SELECT xmlelement(name note)", finds=Verdict.BLOCK, why="XML is not on the list"),
    )


class Parameters(Rule):
    id = "statement.parameters"
    verdict = Verdict.BLOCK
    rationale = "As many parameters as the statement uses, `$1` to `$n` without a gap: else one of them is not meant."
    examples = (
        Example(sql="SELECT note FROM shop.orders WHERE id = $1", params=(1042,), why="one and one"),
        Example(
            sql="SELECT note FROM shop.orders WHERE id = $1",
            params=(1042, "gift"),
            finds=Verdict.BLOCK,
            why="what is the second one for?",
        ),
    )


class DatabaseNamed(Rule):
    id = "object.database"
    verdict = Verdict.BLOCK
    rationale = "A target is one database: a name of three parts names a database, which no statement has to."
    examples = (
        Example(sql="SELECT note FROM shop.orders WHERE id = 1042", why="schema and table will do"),
        Example(sql="SELECT note FROM other.shop.orders", finds=Verdict.BLOCK, why="names the database `other`"),
    )


class Refused(Rule):
    id = "operation.refused"
    verdict = Verdict.BLOCK
    rationale = (
        "The server itself refuses the operation when the plan is rehearsed, deferred constraints and time-outs "
        "included. Its words go back to the agent."
    )
    examples = (
        Example(sql="UPDATE shop.customers SET credit = 5 WHERE id = 7", why="the server has nothing against it"),
        Example(
            sql="UPDATE shop.customers SET credit = -5 WHERE id = 7",
            finds=Verdict.BLOCK,
            why="a CHECK of the table wants at least 0",
        ),
        Example(
            sql="UPDATE shop.orders SET status = $1 WHERE id = 1042",
            params=("lost",),
            finds=Verdict.BLOCK,
            why="no value of this type",
        ),
    )


class Grounding(Rule):
    id = "grounding"
    verdict = Verdict.APPROVAL
    rationale = (
        "Every value must come from the ticket, from what was read for it, or from a playbook's own text: a made-up "
        "id, amount or address never runs by itself, however plausible it looks."
    )
    examples = (
        Example(
            sql="UPDATE shop.customers SET locked = false WHERE id = $1",
            params=(13,),
            ticket="Customer 13 can't sign in any more.",
            why="the ticket says 13",
        ),
        Example(
            sql="UPDATE shop.customers SET locked = false WHERE id = $1",
            params=(31,),
            ticket="Customer 13 can't sign in any more.",
            finds=Verdict.APPROVAL,
            why="nobody said 31",
        ),
    )


class Declined(Rule):
    id = "plan.declined"
    verdict = Verdict.BLOCK
    rationale = "The agent found no way to do what the ticket asks; a person has to handle it."
    examples = (
        Example(sql="SELECT 1", why="a plan"),
        Example(
            sql="SELECT 1",
            plan={"declined": True, "summary": "There is no order 9."},
            finds=Verdict.BLOCK,
            why="none, and it says so",
        ),
    )


class PlanSize(Rule):
    id = "plan.size"
    verdict = Verdict.BLOCK
    rationale = "A plan of more operations than `limits.operations_per_plan` is more than anybody looks through."
    examples = (
        Example(sql="SELECT 1", constraints="limits: {operations_per_plan: 1}", why="one operation"),
        Example(
            sql="SELECT 2",
            earlier=("SELECT 1",),
            constraints="limits: {operations_per_plan: 1}",
            finds=Verdict.BLOCK,
            why="two, where one is allowed",
        ),
    )


class PlanTime(Rule):
    id = "plan.time"
    verdict = Verdict.BLOCK
    rationale = (
        f"A plan that takes more than {steps.LONGEST_REHEARSAL.seconds} s to rehearse keeps others waiting for its "
        "rows. It runs twice, then its undo does, and all of it is rolled back."
    )


class PlanRows(Rule):
    id = "rows.plan"
    verdict = Verdict.APPROVAL
    rationale = "Many small operations are a large one: rows are added up over the whole plan."
    examples = (
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1043",
            earlier=("UPDATE shop.orders SET note = 'gift' WHERE id = 1042",),
            constraints="limits: {auto_rows_per_plan: 2}",
            why="two rows",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id IN (1043, 1044)",
            earlier=("UPDATE shop.orders SET note = 'gift' WHERE id = 1042",),
            constraints="limits: {auto_rows_per_plan: 2}",
            finds=Verdict.APPROVAL,
            why="three rows, where two change by themselves",
        ),
    )


class UndoUnproved(Rule):
    id = "undo.unproved"
    verdict = Verdict.APPROVAL
    rationale = (
        "What takes a plan back is made from the images of its rows and tried right after it, before both are rolled "
        "back. Where that fails, a person decides whether the plan is worth what can't be taken back."
    )
    examples = (
        Example(sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042", why="the old note can be put back"),
        Example(
            sql="ALTER TABLE shop.orders ADD COLUMN gift text",
            constraints="statements: {approval: [add_column]}",
            finds=Verdict.APPROVAL,
            why="rows can be put back, the schema can't",
        ),
    )


class UndoAsked(Rule):
    id = "undo.asked"
    verdict = Verdict.APPROVAL
    rationale = "To take an executed plan back is a person's decision, as small as the plan may have been."


class UndoMoved(Rule):
    id = "undo.moved"
    verdict = Verdict.BLOCK
    rationale = (
        "Rows that somebody has changed since the plan are not as it left them: to take it back would undo what others "
        "did, too."
    )
