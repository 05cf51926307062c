"""An agent of one's own is accepted or refused when the worker starts, with words that help."""

from pathlib import Path

import pytest

from standfast.errors import InvalidInput
from standfast.planner.durable_agent import DurableAgent
from standfast.planner.own_agent import OwnFunction, load_agent

AGENTS = "tests.unit.planner.own_agents"


@pytest.mark.parametrize(
    "name",
    [
        "plans",
        "plans_or_playbooks",
        "plans_by_tool",
        "plans_natively",
        "plans_by_function",
        "with_context",
        "durable_itself",
    ],
)
def test_an_agent_that_answers_plans_is_made_durable(name: str) -> None:
    planner = load_agent(f"{AGENTS}:{name}", ())

    assert isinstance(planner, DurableAgent)
    assert f"agent__{name}__model_request" in {
        definition.__temporal_activity_definition.name  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
        for definition in planner.activities
    }


def test_an_async_function_is_a_planner() -> None:
    assert isinstance(load_agent(f"{AGENTS}:function", ()), OwnFunction)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.such.module:plan", "No module named 'no'; install it"),
        (f"{AGENTS}:missing", "has no 'missing'; expected a pydantic-ai Agent, or `async def plan"),
        (f"{AGENTS}:number", "is of type int; expected"),
        (f"{AGENTS}:not_async", "is a function, but not an async one"),
        (f"{AGENTS}:wants_more", "(context: standfast.context.Context, database: str) -> standfast.plan.Plan`"),
        (f"{AGENTS}:text", "is an agent that answers <class 'str'>; give it output_type=Plan"),
        (f"{AGENTS}:reply", "Reply"),
        (f"{AGENTS}:text_by_function", "<class 'str'>"),
        (f"{AGENTS}:with_deps", "deps_type Deps; only Context"),
        (f"{AGENTS}:without_model", "needs to have a `model`"),
        (f"{AGENTS}:nameless_toolset", "unique `id`"),
    ],
)
def test_what_can_not_plan_is_refused_with_advice(name: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_agent(name, ())

    assert words in str(caught.value)
    assert name.partition(":")[2] in str(caught.value)


def test_a_module_that_fails_is_named_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_agent.py").write_text("raise ValueError('no key')\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InvalidInput, match="importing broken_agent failed: ValueError: no key"):
        load_agent("broken_agent:agent", ())


def test_a_module_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agent_of_this_folder.py").write_text("async def plan(context): ...\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")  # restores sys.path afterwards
    monkeypatch.chdir(tmp_path)

    assert isinstance(load_agent("agent_of_this_folder:plan", ()), OwnFunction)
