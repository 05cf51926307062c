"""This code can go on with every ticket that any released version has begun, on whatever path it is."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path as File

import pytest
from pydantic import SecretStr
from temporalio.client import WorkflowHistory

from standfast.plan import Plan
from standfast.replay import parse_history, replayed
from standfast.settings import Control, Encryption, Planner, Settings
from standfast.steps import Pool
from tests.replay.paths import PATHS, Path
from tests.replay.recordings import FOLDER, VERSION, ending, recorded, steps, text_of

OF_THIS_VERSION = FOLDER / VERSION
FILES = sorted(FOLDER.rglob("*.json.gz"))


async def breaks(histories: Sequence[WorkflowHistory], *, pool: Pool, planner: Planner) -> list[str]:
    """Replay the histories of one pool, and return why they can't be gone on with."""

    async def one_by_one() -> AsyncIterator[WorkflowHistory]:
        for history in histories:
            yield history

    # Nothing is read or asked in a replay: neither the journal nor the model's provider has to be there.
    settings = Settings(
        control=Control(journal=SecretStr("postgresql://nowhere")),
        planner=planner,
        encryption=Encryption(enabled=False),
    )
    return [one.breaks async for one in replayed(pool, settings, one_by_one()) if one.breaks is not None]


def test_every_path_has_a_recording_of_this_version_and_there_is_no_other() -> None:
    assert {file.name.partition(".")[0] for file in OF_THIS_VERSION.iterdir()} == {path.name for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=[path.name for path in PATHS])
def test_a_recording_is_of_the_path_that_its_name_says(path: Path) -> None:
    histories = recorded(path.name, OF_THIS_VERSION)
    end = ending(histories[-1])
    assert isinstance(end, Plan) if path.ends is None else end is path.ends
    counted = steps(histories)
    assert {name: counted[name] for name in path.steps} == path.steps
    assert (len(histories) > 1) is path.continued


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
async def test_a_recorded_history_replays_on_this_code(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    pool, history = parse_history(text_of(file), file.name)
    (planner,) = (path.planner for path in PATHS if path.name == file.name.partition(".")[0])
    assert await breaks([history], pool=pool, planner=planner) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_recording_tells_nothing_of_the_machine_that_made_it(file: File) -> None:
    text = text_of(file)
    assert '"identity"' not in text
    assert '"stackTrace"' not in text
    assert "@" not in text.replace("@example.com", "")
