"""The documents stay true: what exists is in them, and what is in them exists."""

import re
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from standfast.cli.program import program
from standfast.local.temporal import TemporalServer
from standfast.safety.rule_book import document
from standfast.safety.rules import RULES
from standfast.settings import Settings, Target
from standfast.sign_in import Oidc, TrustedProxy

ROOT = Path(__file__).parents[2]
CLUSTER = "### A Temporal cluster of your own"


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def names(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Return the dotted names of all settings."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if name == "targets":
            found |= names(Target, "targets.NAME.")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= names(kind, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def first_cells(document: str) -> set[str]:
    """Return what stands in backquotes at the head of each table row."""
    cells = re.findall(r"^\| (`[^|]+`) \|", document, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_setting_is_documented_and_no_other() -> None:
    ours, _, _ = text("docs/settings.md").partition(CLUSTER)
    assert first_cells(ours) == names(Settings)


def test_the_embedded_server_has_what_is_advised_for_a_cluster(tmp_path: Path) -> None:
    _, _, advice = text("docs/settings.md").partition(CLUSTER)
    advised = re.findall(r"^\| (`[^|]+`) \| `([^|]+)` \|", advice, re.MULTILINE)
    started = TemporalServer(tmp_path, port=1, ui_port=2).service().argv
    for keys, value in advised:
        for key in re.findall(r"`([^`]+)`", keys):
            assert f"--dynamic-config-value={key}={value}" in started
    assert len(advised) > 3


def test_every_setting_of_signing_in_is_documented_and_no_other() -> None:
    _, _, ways_in = text("docs/identity.md").partition("### OpenID Connect")
    rows = re.findall(r"^\| (`[^|]+`) \| [^|]*\|", ways_in.partition("## Tokens")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == names(Oidc) | names(TrustedProxy)


def test_the_document_of_the_rules_is_made_from_them() -> None:
    assert text("docs/rules.md") == document(), "run scripts/docs"


def test_every_finding_has_a_rule_with_a_document() -> None:
    sources = [file.read_text() for file in (ROOT / "src/standfast/safety").rglob("*.py")]
    named = {
        name for source in sources for name in re.findall(r'(?:Refused\(|block\(|rule=|RULE = )"([a-z.]+)"', source)
    }
    assert named
    assert named <= {rule.id for rule in RULES}


def test_every_command_is_documented() -> None:
    document = text("docs/settings.md") + text("README.md")
    known = program.list_commands(click.Context(program))
    assert [name for name in known if f"`{name}`" not in document] == []


def test_the_agent_in_the_readme_is_the_tested_example() -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    assert shown.strip() in text("examples/own_agent.py")


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{f.name}" for f in (ROOT / "docs").glob("*.md"))])
def test_links_between_documents_lead_somewhere(document: str) -> None:
    folder = (ROOT / document).parent
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", text(document)):
        assert (folder / link).exists(), link
