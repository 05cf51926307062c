"""What is wrong with the planner's settings is said when the worker starts."""

from pathlib import Path
from typing import Any

import pytest

from standfast.errors import InvalidInput
from standfast.planner.registrations import planner_registrations
from standfast.settings import Settings
from standfast.store.databases import Databases


def serve(**planner: Any) -> None:
    settings = Settings.model_validate({"planner": planner, "control": {"journal": "postgresql://127.0.0.1:1/control"}})
    planner_registrations(settings, Databases(settings, application="standfast-test"))


def test_a_pool_that_could_not_record_what_it_pays_for_does_not_start() -> None:
    settings = Settings.model_validate({"planner": {"model": "test"}})
    with pytest.raises(InvalidInput, match=r"control\.journal is not set"):
        planner_registrations(settings, Databases(settings, application="standfast-test"))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("openai:gpt-5", "planner.model = 'openai:gpt-5': Set the `OPENAI_API_KEY`"),
        ("gpt-5", "planner.model = 'gpt-5': Unknown model"),
        ("nobody:gpt-5", "planner.model = 'nobody:gpt-5': Unknown model"),
        ("groq:llama", "planner.model = 'groq:llama': Please install"),
    ],
)
def test_a_model_that_can_not_be_used_is_named(model: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InvalidInput) as caught:
        serve(model=model)

    assert words in str(caught.value)


def test_a_folder_of_playbooks_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no-such-folder"):
        serve(model="test", playbooks=tmp_path / "no-such-folder")
