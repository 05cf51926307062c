"""Settings are typed, layered and say which key is wrong; an explicit file keeps other processes' secrets out."""

from pathlib import Path

import pytest

from standfast.errors import InvalidInput, UnknownTarget
from standfast.layers import home_folder, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("STANDFAST_CONFIG", "STANDFAST_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_the_project_file_is_stronger_than_the_local_set_up(clean: Path) -> None:
    write(clean / ".standfast/local.toml", '[planner]\nmodel = "local"\nlocal_url = "http://127.0.0.1:1/v1"\n')
    write(clean / "standfast.toml", '[planner]\nmodel = "openai:gpt-5"\n')
    planner = load_settings().planner
    assert (planner.model, planner.local_url) == ("openai:gpt-5", "http://127.0.0.1:1/v1")


def test_what_people_chose_can_be_read_without_the_local_set_up(clean: Path) -> None:
    write(clean / ".standfast/local.toml", '[planner]\nlocal_url = "http://127.0.0.1:1/v1"\n')
    write(clean / "standfast.toml", '[planner]\nmodel = "openai:gpt-5"\n')
    assert load_settings(local=False).planner.model_fields_set == {"model"}


def test_the_environment_is_stronger_than_files(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(clean / "standfast.toml", '[targets.shop]\nreader = "postgresql://a"\nwriter = "postgresql://b"\n')
    monkeypatch.setenv("STANDFAST_TARGETS__SHOP__WRITER", "postgresql://c")
    target = load_settings().target("shop")
    assert target.writer is not None
    assert target.reader is not None
    assert (target.reader.get_secret_value(), target.writer.get_secret_value()) == ("postgresql://a", "postgresql://c")


def test_an_explicit_file_replaces_the_others(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(clean / "standfast.toml", '[targets.shop]\nwriter = "postgresql://secret"\n')
    core = write(clean / "core.toml", '[targets.shop]\nreader = "postgresql://a"\n')
    assert load_settings(core).target("shop").writer is None
    monkeypatch.setenv("STANDFAST_CONFIG", str(core))
    assert load_settings().target("shop").writer is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[planer]\n", r"planer: Extra inputs"),
        ('[dashboard]\nport = "x"\n', r"dashboard\.port: .*got 'x'"),
        ('[planner]\nagent = "nocolon"\n', r"planner\.agent: .*got 'nocolon'"),
        ("[targets.Shop]\n", r"targets\.Shop"),
        ("[planner\n", r"standfast\.toml: not valid TOML"),
        pytest.param(f"a = {'[' * 5000}", r"standfast\.toml: not valid TOML", id="nested too deeply"),
    ],
)
def test_a_wrong_setting_is_named(clean: Path, text: str, message: str) -> None:
    write(clean / "standfast.toml", text)
    with pytest.raises(InvalidInput, match=message):
        load_settings()


@pytest.mark.parametrize(
    "name", ["STANDFAST_TARGETS", "standfast_review__reminders", "STANDFAST_TARGETS__SHOP__SCHEMAS"]
)
def test_a_variable_that_is_not_the_json_it_has_to_be_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(InvalidInput, match=rf"settings \(the environment\): {name}: expected JSON") as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)


def test_a_missing_file_is_named(clean: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nope\.toml: can't be read"):
        load_settings(clean / "nope.toml")


def test_a_wrong_secret_is_not_repeated_in_the_message(clean: Path) -> None:
    write(clean / "standfast.toml", '[targets.shop]\nwriter = ["postgresql://user:hunter2@host/db"]\n')
    with pytest.raises(InvalidInput) as raised:
        load_settings()
    assert "targets.shop.writer" in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        '[targets.shop]\nwritr = "postgresql://u:hunter2@h/d"\n',
        '[targets.shop]\nwritr = "hunter2"\n',
        '[targets]\nshop = "postgresql://u:hunter2@h/d"\n',
        'control = "hunter2"\n',
        'shop = "postgresql://u:hunter2@h/d"\n',
        '[dashboard]\nport = "postgresql://u:hunter2@h/d"\n',
        '[dashboard]\nport = ["u:hunter2@h"]\n',
        '[dashboard]\nurl = "https://u:hunter2@h"\n',
        '[review]\npublic_keys = "hunter2"\n',
        '[encryption]\ncommand = "vault -token=hunter2"\n',
    ],
)
def test_what_may_be_a_secret_in_the_wrong_place_is_not_repeated_either(clean: Path, text: str) -> None:
    write(clean / "standfast.toml", text)
    with pytest.raises(InvalidInput, match=r"settings \(.*standfast\.toml or the environment\): ") as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", ["STANDFAST_CONTROL__ULR", "STANDFAST_TARGETS__SHOP", "STANDFAST_CONTROL"])
def test_nor_is_what_a_variable_holds_that_names_no_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "postgresql://u:hunter2@h/d")
    with pytest.raises(InvalidInput) as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("setting", ["targets.shop.owner", "control.url", "storage.url", "codec_server.token"])
def test_an_empty_secret_in_a_file_is_refused(clean: Path, setting: str) -> None:
    section, _, key = setting.rpartition(".")
    write(clean / "standfast.toml", f'[{section}]\n{key} = " "\n')
    with pytest.raises(InvalidInput, match=rf"{setting}: is empty"):
        load_settings()


def test_an_empty_variable_is_as_good_as_none(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(clean / "standfast.toml", '[control]\nurl = "postgresql://a"\n')
    for name in ("HOME", "CONFIG", "CONTROL__URL", "CONTROL__OWNER", "DEFAULT_TARGET", "PLANNER__AGENT", "OF_NOBODY"):
        monkeypatch.setenv(f"STANDFAST_{name}", "")
    settings = load_settings()
    assert settings.control.url is not None
    assert settings.control.url.get_secret_value() == "postgresql://a"
    assert settings.control.owner is None
    assert home_folder() == settings.home == Path(".standfast")


@pytest.mark.parametrize("name", ["STANDFAST_REVEIW__SOLO", "standfast_targts__shop__writer"])
def test_a_variable_that_passes_for_a_setting_and_is_none_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "8080")
    with pytest.raises(InvalidInput, match=rf"settings \(the environment\): {name}: no such setting"):
        load_settings()


def test_what_kubernetes_says_about_a_service_of_our_name_passes_for_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("STANDFAST", "STANDFAST_DASHBOARD"):
        monkeypatch.setenv(f"{name}_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"{name}_SERVICE_PORT_HTTP", "80")
        monkeypatch.setenv(f"{name}_PORT", "tcp://10.0.0.1:80")
        monkeypatch.setenv(f"{name}_PORT_80_TCP", "tcp://10.0.0.1:80")
        monkeypatch.setenv(f"{name}_PORT_80_TCP_ADDR", "10.0.0.1")
    assert load_settings().dashboard.port == 8765


def test_a_home_folder_in_a_file_is_refused_rather_than_passed_over(clean: Path) -> None:
    write(clean / "standfast.toml", 'home = "/srv/standfast"\n')
    with pytest.raises(InvalidInput, match=r"standfast\.toml\): home: can't be set in a file; .* STANDFAST_HOME"):
        load_settings()


def test_a_home_folder_that_cannot_be_looked_into_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDFAST_HOME", "long" * 100)
    with pytest.raises(InvalidInput, match=r"(long){100}/local\.toml: can't be read: File name too long"):
        load_settings()


def test_an_unknown_target_lists_the_known_ones(clean: Path) -> None:
    write(clean / "standfast.toml", "[targets.shop]\n[targets.crm]\n")
    with pytest.raises(UnknownTarget, match="unknown target 'hr'; the settings name: crm, shop"):
        load_settings().target("hr")
