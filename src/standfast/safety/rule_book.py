"""The book of rules as a document: `python -m standfast.safety.rule_book` writes docs/rules.md."""

import json
import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from textwrap import fill

from standfast.safety.rules import RULES, Example, Rule

_HEAD = """# Rules

What each rule looks at, and examples on the [sample shop](../src/standfast/local/shop/schema.sql) with
[its constraints](../src/standfast/local/shop/constraints.yaml). `auto` is information only, `approval` needs a person,
`block` never runs; what others may mend goes back to the agent. This page is made from the rules by `scripts/docs`.
"""
_WIDTH = 120
_CONTROL_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}


def document() -> str:
    """Return the document: all rules in a table, then each with its reason and its examples."""
    rows = [f"| [`{rule.id}`](#{_anchor(rule)}) | {rule.verdict} | {_first_sentence(rule)} |" for rule in RULES]
    table = "\n".join(["| rule | usually | why |", "|---|---|---|", *rows])
    return "\n".join([_HEAD, table, *(f"\n{_section(rule)}" for rule in RULES)]) + "\n"


def _anchor(rule: Rule) -> str:
    return re.sub(r"[^\w-]", "", rule.id)


def _first_sentence(rule: Rule) -> str:
    return re.split(r"(?<=[^.]\.)\s", rule.rationale)[0]


def _section(rule: Rule) -> str:
    examples = "\n\n".join("\n".join(_lines(example)) for example in rule.examples)
    shown = f"\n\n```sql\n{examples}\n```" if examples else ""
    return f"## {rule.id}\n\n{fill(rule.rationale, _WIDTH)}{shown}"


def _lines(example: Example) -> Iterator[str]:
    """Yield an example as SQL whose comments say everything about it that is none."""
    yield f"-- {example.finds or 'nothing found'}: {example.why}"
    for what, said in (("ticket", example.ticket), ("constraints", example.constraints)):
        if said:
            yield f"-- {what}: {said}"
    for fields in (example.plan, example.operation):
        yield from (f"-- {name}: {json.dumps(value)}" for name, value in fields.items())
    if example.setup:
        yield from ("-- in the shop:", *(f"--   {line}" for line in cleandoc(example.setup).splitlines()))
    yield from (f"{statement};" for statement in example.earlier)
    yield example.sql.translate(_CONTROL_PICTURES)
    if example.params:
        yield f"-- {', '.join(f'${number} = {value!r}' for number, value in enumerate(example.params, 1))}"


if __name__ == "__main__":
    sys.stdout.write(document())
