"""Databases that were never migrated, or are not migrated yet: each says what to do, and work waits for it."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import tomli_w
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from standfast.cli.program import program
from standfast.client import Standfast
from standfast.codec.keyring import KeyRing
from standfast.errors import NotMigrated
from standfast.outcome import State
from standfast.retention.purge import purge
from standfast.settings import Control, Settings
from standfast.steps import Pool
from standfast.store.migrate import migrate_control, migrate_target
from tests.integration.installation import CONSTRAINTS, Installation, prepare, serving
from tests.processes import eventually


@pytest.mark.parametrize(
    "command",
    [
        ["audit", "head"],
        ["audit", "export"],
        ["constraints", "list"],
        ["constraints", "export", "--target", "shop"],
        ["keys", "rotate"],
        ["sessions", "list"],
        ["tokens", "list"],
        ["login-link"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_command_says_that_the_control_database_was_never_migrated(
    command: list[str], database: str, tmp_path: Path
) -> None:
    keys, settings = tmp_path / "keys.toml", tmp_path / "standfast.toml"
    keys.write_text(KeyRing.new().to_toml(), "utf-8")
    content = {
        "targets": {"shop": {"reader": database}},
        "control": {"url": database, "owner": database},
        "encryption": {"file": str(keys)},
    }
    settings.write_text(tomli_w.dumps(content), "utf-8")
    with pytest.raises(NotMigrated, match=r"^PostgreSQL at .*standfast.* does not exist; run `standfast migrate`$"):
        program.main(["--config", str(settings), *command], standalone_mode=False)


async def test_a_purge_says_which_database_was_never_migrated(postgres: str, temporal_server: str) -> None:
    settings, _, control = await _never_migrated(postgres, temporal_server)
    owned = settings.model_copy(update={"control": Control(owner=SecretStr(control))})
    with pytest.raises(
        NotMigrated, match=r"_control: the control schema is at version 0 of \d+; run `standfast migrate`"
    ):
        await purge(
            owned, before=datetime(2026, 1, 1, tzinfo=UTC), by="ana", histories=False, dry_run=True, progress=print
        )


async def test_a_ticket_waits_until_the_databases_were_migrated(postgres: str, temporal_server: str) -> None:
    settings, owner, control = await _never_migrated(postgres, temporal_server)
    async with Standfast.connect(settings) as client, serving(settings, *Pool):
        installation = Installation(settings, client, owner)
        sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
        plan = {"operations": [{"sql": sql, "params": ["please", 1000], "expect_rows": 1}]}
        workflow_id = await installation.submit(plan, subject={"order_id": 1000})
        await eventually(lambda: client.history(workflow_id), lambda seen: "run `standfast migrate`" in str(seen))
        await migrate_control(control)
        await installation.constrain(CONSTRAINTS)
        await eventually(lambda: client.view(workflow_id), lambda view: view.state is State.EXECUTING)
        await migrate_target(owner, "shop", ("shop",))
        assert (await client.wait(workflow_id)).state is State.DONE


async def _never_migrated(postgres: str, temporal: str) -> tuple[Settings, str, str]:
    """Return settings, and the URLs of the owner of target and control database, where our schema is missing."""
    name = f"t{uuid4().hex[:8]}"
    settings, owner = await prepare(postgres, temporal, name)
    control = make_conninfo(postgres, dbname=f"{name}_control")
    for url in (owner, control):
        with psycopg.connect(url) as connection:
            connection.execute("DROP SCHEMA standfast CASCADE")
    return settings, owner, control
