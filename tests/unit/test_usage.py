"""The command line does what was asked for, or says what is wrong with it; it never does half of it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from standfast.cli.program import program
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.local.ports import free_port


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STANDFAST_CONFIG", raising=False)
    monkeypatch.setenv("STANDFAST_HOME", str(tmp_path / "home"))
    yield tmp_path
    logging.disable(logging.NOTSET)  # some commands log nothing, in a process of their own


def standfast(*arguments: str) -> str:
    done = CliRunner().invoke(program, arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.mark.parametrize("command", [("stats",), ("audit", "export")])
def test_an_age_beyond_all_dates_is_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"^--since '999999d': no date is so long ago$"):
        standfast(*command, "--since", "999999d")


def test_a_worker_of_two_pools_is_refused_rather_than_one_of_them_left_out() -> None:
    with pytest.raises(click.UsageError, match="one process serves one pool, got core and llm"):
        standfast("worker", "--pool", "core", "--pool", "llm")


@pytest.mark.parametrize("options", [(), ("--open",), ("--all",)])
def test_a_replay_of_no_files_asks_the_cluster(folder: Path, options: tuple[str, ...]) -> None:
    address = f"127.0.0.1:{free_port()}"
    (folder / "standfast.toml").write_text(
        f'[temporal]\naddress = "{address}"\nenvironment_configuration = false\n[encryption]\nenabled = false\n'
    )
    with pytest.raises(ServiceUnavailable, match=f"Temporal at {address} can't be reached"):
        standfast("replay", *options)


def test_a_home_in_which_a_file_has_the_place_of_a_folder_is_named(folder: Path) -> None:
    (folder / "home").mkdir()
    (folder / "home/postgres").touch()
    with pytest.raises(InvalidInput, match=r"home can't be used: .*home/postgres'; set STANDFAST_HOME to another"):
        standfast("up")


@pytest.mark.parametrize("option", ["--open", "--all"])
def test_a_replay_of_files_and_of_the_cluster_at_once_is_refused(option: str) -> None:
    with pytest.raises(click.UsageError, match="exclude files"):
        standfast("replay", "history.json", option)


def test_a_history_that_is_nested_too_deeply_is_refused(folder: Path) -> None:
    (folder / "deep.json").write_text('{"events":' + "[" * 100_000)
    with pytest.raises(InvalidInput, match=r"deep\.json: is no history"):
        standfast("replay", "deep.json")


@pytest.mark.parametrize("command", [("chaos", "--minutes"), ("deploy", "ramp")])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_what_is_in_no_range_is_refused(command: tuple[str, ...], number: str) -> None:
    with pytest.raises(click.BadParameter, match=f"{number} is not in the range"):
        standfast(*command, number)


@pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1:x/v1", "http://model.example.com:80/v1"])
def test_a_model_server_is_not_served_at_an_address_of_nobody(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("STANDFAST_PLANNER__LOCAL_URL", address)
    with pytest.raises(InvalidInput, match=r"planner\.local_url = .*: expected an address of this machine"):
        standfast("model-server")


def test_in_an_empty_folder_nobody_is_led_to_a_second_key_first() -> None:
    with pytest.raises(
        InvalidInput, match=r"no key: .* is this the folder of your standfast\.toml or `standfast up`\?"
    ):
        standfast("list")


@pytest.mark.parametrize("option", [("--ticket", "SUP-1"), ("--last", "5")])
@pytest.mark.parametrize("command", ["verify", "head", "export"])
def test_an_option_of_the_newest_records_is_refused_elsewhere(option: tuple[str, str], command: str) -> None:
    with pytest.raises(click.UsageError, match=f"{option[0]} is not for `audit {command}`"):
        standfast("audit", *option, command)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--database", "{database}", "--schema", "public"), "--schema and --constraints exclude each other"),
        (("--target", "shop"), "crm.yaml: these constraints are for target 'crm', not for 'shop'"),
        (
            ("--database", "{database}", "--ticket", "ticket.json"),
            "ticket.json, line 1: field target: the plan is for 'crm', got 'shop'",
        ),
    ],
)
def test_a_check_against_what_does_not_belong_together_is_refused(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    (folder / "plan.json").write_text("[]")
    (folder / "crm.yaml").write_text("version: 1\ntarget: crm\n")
    (folder / "ticket.json").write_text('{"id": "A-1", "body": "a", "requester": "ana@example.com", "target": "shop"}')
    (folder / "standfast.toml").write_text("[targets.shop]\n[targets.crm]\n")
    database = f"postgresql://127.0.0.1:{free_port()}/crm"
    with pytest.raises(InvalidInput, match=f"^{message}"):
        standfast(
            "check", "plan.json", "--constraints", "crm.yaml", *(one.format(database=database) for one in arguments)
        )


@pytest.fixture
def invalid(folder: Path) -> str:
    """A file that holds nothing but invalid tickets."""
    (folder / "standfast.toml").write_text("[targets.shop]\n")
    (folder / "invalid.jsonl").write_text('{"id": "A-1", "requester": "ana@example.com"}\n{"id": 7}\n')
    return "invalid.jsonl"


def test_a_batch_of_invalid_tickets_says_what_is_wrong_with_them(invalid: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        standfast("batch", invalid)
    assert str(refused.value) == (
        "invalid.jsonl, line 1: field body: is required; 1 further tickets are invalid; "
        "nothing was started, --skip-invalid leaves them out"
    )


def test_a_batch_of_which_nothing_is_left_says_what_it_has_skipped(invalid: str) -> None:
    done = CliRunner().invoke(program, ("batch", invalid, "--skip-invalid"), standalone_mode=False)
    assert str(done.exception) == "invalid.jsonl: holds no valid ticket"
    assert "skipped: invalid.jsonl, line 1: field body: is required" in done.stdout
    assert "skipped: invalid.jsonl, line 2: field " in done.stdout


@pytest.mark.parametrize(("command", "who"), [("undo", "Who asks for it"), ("reject", "Who decides")])
def test_help_says_whose_name_is_wanted(command: str, who: str) -> None:
    assert who in standfast(command, "--help")
