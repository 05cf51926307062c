"""Each process of the local set-up is given the credentials it needs, and none of another process."""

import asyncio
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import InvalidInput
from standfast.local import configuration
from standfast.local.configuration import Document
from standfast.local.stack import Stack
from standfast.settings import Settings
from standfast.steps import Pool

SECRETS = (
    "reader-url",
    "rehearser-url",
    "writer-url",
    "owner-url",
    "control-url",
    "journal-url",
    "control-owner-url",
    "storage-url",
    "signing-key",
    "encryption-key",
)
SHARED = {"storage-url", "encryption-key"}


@pytest.fixture
def settings() -> Settings:
    target = {role: f"{role}-url" for role in ("reader", "rehearser", "writer", "owner")} | {"schemas": ["shop"]}
    return Settings.model_validate(
        {
            "targets": {"shop": target},
            "default_target": "shop",
            "control": {"url": "control-url", "journal": "journal-url", "owner": "control-owner-url"},
            "storage": {"url": "storage-url", "threshold": "1MiB", "s3": {"bucket": "payloads"}},
            "temporal": {"address": "127.0.0.1:1", "environment_configuration": False},
            "planner": {"playbooks": "playbooks", "model": "openai:gpt-5"},
            "review": {"signing_key": "signing-key", "public_keys": {"local": "public-key"}, "solo": True},
            "encryption": {"keys": {"one": "encryption-key"}},
        }
    )


def pool(name: Pool) -> Callable[[Settings], Document]:
    return lambda settings: configuration.pool(settings, name)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (configuration.operator, {"reader-url", "rehearser-url", "control-url", "signing-key"} | SHARED),
        (configuration.owner, {"owner-url", "control-owner-url"} | SHARED),
        (configuration.dashboard, {"control-url", "signing-key"} | SHARED),
        (configuration.model_server, set()),
        (pool(Pool.CORE), {"reader-url", "rehearser-url", "control-url"} | SHARED),
        (pool(Pool.LLM), {"reader-url", "journal-url"} | SHARED),
        (pool(Pool.DATABASE), {"writer-url"} | SHARED),
    ],
)
def test_a_process_gets_its_own_credentials(
    settings: Settings, document: Callable[[Settings], Document], expected: set[str]
) -> None:
    text = configuration.to_toml(document(settings))
    assert {secret for secret in SECRETS if f'"{secret}"' in text} == expected


@pytest.mark.parametrize("name", [Pool.LLM, Pool.DATABASE])
def test_no_pool_gets_the_control_database_in_place_of_what_is_not_set(settings: Settings, name: Pool) -> None:
    control = settings.control.model_copy(update={"journal": None})
    storage = settings.storage.model_copy(update={"url": None})
    open_ones = settings.model_copy(update={"control": control, "storage": storage})
    assert "control-url" not in configuration.to_toml(configuration.pool(open_ones, name))


def test_up_with_a_control_database_of_ones_own_wants_the_roles_of_the_pools(tmp_path: Path) -> None:
    chosen = Settings.model_validate({"control": {"url": "control-url"}})
    with pytest.raises(InvalidInput, match=r"control\.url is set, .*: set storage\.url and control\.journal"):
        asyncio.run(Stack(chosen, home=tmp_path, on_event=lambda _: None).__aenter__())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", list(Pool))
def test_a_file_reads_back_as_settings(settings: Settings, name: Pool) -> None:
    read: dict[str, Any] = tomllib.loads(configuration.to_toml(configuration.pool(settings, name)))
    back = Settings.model_validate(read)
    assert (back.temporal, back.storage) == (settings.temporal, settings.storage)
    assert back.default_target == "shop"
    assert back.targets["shop"].schemas == ("shop",)
    if name is Pool.CORE:
        assert back.review.expire_after == settings.review.expire_after
        assert (back.review.solo, back.review.public_keys) == (True, {"local": "public-key"})
    if name is Pool.LLM:
        assert (back.planner.model, back.planner.playbooks) == ("openai:gpt-5", Path("playbooks").absolute())


def test_the_rehearser_defaults_to_the_writer(settings: Settings) -> None:
    target = settings.targets["shop"].model_copy(update={"rehearser": None})
    core = configuration.pool(settings.model_copy(update={"targets": {"shop": target}}), Pool.CORE)
    assert tomllib.loads(configuration.to_toml(core))["targets"]["shop"]["rehearser"] == "writer-url"
