"""The rule `trigger.outside`."""

import re
from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.resolution import Trigger
from standfast.safety.rules.case import Case, Example, Rule

_OUTSIDE = re.compile(
    r"(?<!\bnet\.)\b(dblink\w*|http\w*|lo_(?:im|ex)port|pg_(?:read|ls|cancel|terminate|switch|sleep|logical)\w*)\s*\("
    r"|\b(copy)\b[^;]*\b(?:from|to)\s+program\b",
    re.IGNORECASE,
)
_AT_COMMIT = re.compile(r"\bpg_notify\s*\(|\bnotify\s+\"?\w+\"?\s*[;,]|\bnet\.http\w*\s*\(", re.IGNORECASE)
_NOTIFY_SETUP = """
    CREATE FUNCTION shop.tell() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_notify('orders', NEW.id::text); RETURN NULL; END $$;
    CREATE TRIGGER tell AFTER UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.tell()
"""


class OutsideTriggers(Rule):
    """Looks at the source of the triggers' own functions, not at what those call in turn."""

    id = "trigger.outside"
    verdict = Verdict.APPROVAL
    rationale = (
        "What a trigger does to rows is measured; that it tells others is not. One that reaches out of the transaction "
        "would do so in the rehearsal already, so nothing that fires it is rehearsed, unless `functions.auto` of the "
        "constraints vouches for it."
    )
    examples = (
        Example(
            sql="UPDATE shop.customers SET locked = false WHERE id = 13", why="its trigger writes an audit row, no more"
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            setup=_NOTIFY_SETUP,
            finds=Verdict.APPROVAL,
            why="whoever listens acts on it, and can't be rolled back",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            setup=_NOTIFY_SETUP,
            constraints="functions: {auto: [shop.tell]}",
            why="the constraints vouch for the trigger",
        ),
        Example(
            sql="UPDATE shop.orders SET note = 'gift' WHERE id = 1042",
            setup="""
                CREATE FUNCTION shop.bill() RETURNS trigger LANGUAGE plpgsql
                    AS $$ BEGIN PERFORM dblink_exec('billing', 'DELETE FROM bills'); RETURN NULL; END $$;
                CREATE TRIGGER bill AFTER UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.bill()
            """,
            finds=Verdict.BLOCK,
            why="what is done on another server stays done",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        fired = {
            trigger.function: trigger
            for write, relation in case.writes
            for table in relation.tables
            for trigger in case.resolution.triggers.get(table, ())
            if write.command in trigger.events
        }
        for trigger in fired.values():
            if trigger.function not in case.constraints.functions.auto:
                yield from self._judge(trigger)

    def _judge(self, trigger: Trigger) -> Iterator[Finding]:
        if not trigger.trusted:
            message = f"trigger {trigger.function} may do whatever the server's account may"
            yield self.finding(Verdict.BLOCK, message, function=trigger.function)
        elif call := _OUTSIDE.search(trigger.source):
            message = f"trigger {trigger.function} reaches out of the transaction with {call[1] or call[2]}"
            yield self.finding(Verdict.BLOCK, message, function=trigger.function)
        elif _AT_COMMIT.search(trigger.source):
            message = f"trigger {trigger.function} tells others, who can't be rolled back"
            yield self.finding(Verdict.APPROVAL, message, function=trigger.function)
