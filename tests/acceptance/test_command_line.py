"""The command line: one clear line and the right exit code for every wrong input, pure JSON for machines."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.installation import Installation, until

UNREACHABLE = "postgresql://nobody@127.0.0.1:9/none"
QUESTION = "How long does delivery to Austria take?"
AWAY = '[temporal]\naddress = "127.0.0.1:9"\n[targets.shop]\n[encryption]\nfile = "{keys}"\n'
TICKET = {"id": "CLI-1", "body": QUESTION, "requester": "ana@example.com"}
PLAN = {"operations": [{"sql": "UPDATE shop.orders SET note = $1 WHERE id = $2", "params": ["hello", 1010]}]}


def file(installation: Installation, name: str, content: Any) -> str:
    path = installation.folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def lines(*tickets: Any) -> str:
    return "\n".join(ticket if isinstance(ticket, str) else json.dumps(ticket) for ticket in tickets)


# --- wrong input -------------------------------------------------------------------------------------------------

WRONG_TICKETS = {
    "not JSON": ("{", "line 1, column 2: not valid JSON"),
    "nothing": ("", "is empty"),
    "no ticket": ("[]", "holds no ticket"),
    "a missing field": (lines({"id": "X-1", "requester": "a"}), "line 1: field body: is required"),
    "an unknown field": (lines(TICKET | {"prio": 1}), "field prio: unknown field, got 1"),
    "a wrong id": (lines(TICKET | {"id": "../x"}), "field id: String should match pattern"),
    "an unknown target": (
        lines(TICKET | {"target": "moon"}),
        "line 1: field target: unknown target 'moon'; the settings",
    ),
    "a long body": (lines(TICKET | {"body": "x" * 65537}), "the body has 65537 bytes, at most 65536 are allowed"),
    "a key twice": ('{"id": "a", "id": "b"}', "the key 'id' occurs twice"),
    "an invalid second line": (lines(TICKET, "{"), "line 2, column 2: not valid JSON"),
    "an id twice": (lines(TICKET, TICKET | {"body": "other"}), "line 2: ticket/shop/CLI-1 is in this file with other"),
}


@pytest.mark.parametrize("case", WRONG_TICKETS)
def test_a_wrong_ticket_is_refused_with_its_place(installation: Installation, case: str) -> None:
    text, expected = WRONG_TICKETS[case]
    name = file(installation, "wrong.jsonl", text)
    answer = installation.run("submit", name)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"standfast: {name}")
    assert expected in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert installation.run("show", "CLI-1").exit_code == 2, "something was started"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "expected"),
    [
        (("submit", "missing.json"), 2, "missing.json: can't be read: No such file or directory"),
        (("submit", "."), 2, ".: can't be read: Is a directory"),
        (("show", "NOPE-1"), 2, "unknown ticket ticket/shop/NOPE-1; `standfast list` shows all"),
        (("history", "NOPE-1"), 2, "unknown ticket"),
        (("cancel", "NOPE-1"), 2, "unknown ticket"),
        (("approve", "NOPE-1", "--digest", "0" * 64), 2, "unknown ticket"),
        (("reject", "NOPE-1", "--comment", " "), 2, "say why"),
        (("show", "a/b/c/d"), 2, "'a/b/c/d' is no ticket; expected an id such as SUP-1042"),
        (("list", "--state", "sleeping"), 2, "expected one of gathering, planning"),
        (("list", "--target", "moon"), 2, "unknown target 'moon'; the settings name: shop"),
        (("check", "missing.json"), 2, "missing.json: can't be read"),
        (("constraints", "import", "missing.yaml"), 2, "missing.yaml: can't be read"),
        (("constraints", "export", "--target", "moon"), 2, "unknown target 'moon'"),
        (("migrate",), 2, "no owner's URL is set; set control.owner and targets.NAME.owner"),
        (("purge", "--before", "yesterday"), 2, "expected a date such as 2026-10-01 or 2026-10-01T12:00"),
        (("purge", "--before", "9999-01-01"), 2, "is not over; only what ended in the past can be purged"),
        (("purge", "--before", "2020-01-01"), 4, "only a database's owner may remove what is kept there"),
        (("worker", "--pool", "gpu"), 2, "'gpu' is not one of 'core', 'llm', 'database'"),
        (("nonsense",), 2, "No such command 'nonsense'. (see `standfast --help`)"),
        (("--config", "missing.toml", "list"), 2, "missing.toml: can't be read"),
    ],
)
def test_wrong_usage_is_one_line(
    installation: Installation, arguments: tuple[str, ...], exit_code: int, expected: str
) -> None:
    answer = installation.run(*arguments)
    assert (answer.exit_code, answer.stdout) == (exit_code, "")
    assert expected in answer.stderr
    assert answer.stderr.startswith("standfast: ")
    assert answer.stderr.count("\n") == 1
    for_machines = installation.run(*arguments, "--json")
    assert for_machines.exit_code == exit_code
    assert expected in for_machines.json["error"]["message"]


def test_a_service_that_is_away_has_an_exit_code_of_its_own(installation: Installation) -> None:
    settings = file(installation, "away.toml", AWAY.format(keys=installation.home / "keys.toml"))
    for command in (("list",), ("show", "X-1"), ("submit", file(installation, "one.json", TICKET))):
        answer = installation.run("--config", settings, *command)
        assert answer.exit_code == 3, answer
        assert "Temporal at 127.0.0.1:9 can't be reached" in answer.stderr
    answer = installation.run("check", file(installation, "plan.json", PLAN), "--database", UNREACHABLE)
    assert answer.exit_code == 3, answer
    assert "127.0.0.1:9" in answer.stderr
    rehearser = installation.url("rehearser")
    for schema in ("nope", "'a b'", "shop,public"):
        answer = installation.run(
            "check", file(installation, "plan.json", PLAN), "--database", rehearser, "--schema", schema
        )
        assert (answer.exit_code, answer.stderr.count("\n")) == (2, 1)
        assert "the database has no schema" in answer.stderr
    answer = installation.run("check", file(installation, "plan.json", PLAN), "--database", "no url")
    assert answer.exit_code == 2, answer


def test_wrong_settings_name_key_and_value(installation: Installation) -> None:
    settings = file(installation, "wrong.toml", "[dashboard]\nport = 70000\n")
    answer = installation.run("--config", settings, "list")
    assert answer.exit_code == 2
    assert "dashboard.port" in answer.stderr
    assert "70000" in answer.stderr


# --- tickets -----------------------------------------------------------------------------------------------------


def test_a_ticket_is_submitted_followed_and_shown(installation: Installation) -> None:
    name = file(installation, "question.json", TICKET | {"id": "CLI-2"})
    answer = installation.run("submit", name, "--wait")
    assert answer.exit_code == 0, answer
    assert "ticket/shop/CLI-2  done  Nothing to change." in answer.stdout
    assert installation.view("CLI-2") == installation.view("shop/CLI-2") == installation.view("ticket/shop/CLI-2")
    assert installation.view("CLI-2")["outcome"]["state"] == "done"
    assert QUESTION in installation.run("show", "CLI-2").stdout
    steps = [entry["step"] for entry in installation.run("--json", "history", "CLI-2").json]
    in_order = ["start", "context", "model", "validation", "end"]
    assert [step for step in dict.fromkeys(steps) if step in in_order] == in_order
    listed = until(lambda: [t for t in installation.run("--json", "list").json if t["workflow_id"].endswith("CLI-2")])
    assert listed[0]["target"] == "shop"


def test_the_same_ticket_again_is_the_same_workflow_and_another_one_is_refused(installation: Installation) -> None:
    ticket = TICKET | {"id": "CLI-3"}
    first = installation.run("--json", "submit", file(installation, "a.json", ticket)).json
    again = installation.run("--json", "submit", file(installation, "a.json", ticket)).json
    assert (first["started"], again["started"]) == (True, False)
    assert first["workflow_id"] == again["workflow_id"]
    other = installation.run("submit", file(installation, "b.json", ticket | {"body": "Something else."}))
    assert (other.exit_code, other.stdout) == (2, "")
    assert "ticket/shop/CLI-3 was submitted before with other content; use another id" in other.stderr


def test_a_used_id_in_a_file_keeps_the_others_from_starting(installation: Installation) -> None:
    installation.submit(**TICKET | {"id": "CLI-4"})
    both = lines(TICKET | {"id": "CLI-5"}, TICKET | {"id": "CLI-4", "body": "Something else."})
    assert installation.run("submit", file(installation, "both.jsonl", both)).exit_code == 2
    assert "unknown ticket" in installation.run("show", "CLI-5").stderr


def test_valid_tickets_of_a_file_are_started_on_demand(installation: Installation) -> None:
    mixed = lines("{", TICKET | {"id": "CLI-6"}, TICKET | {"id": "?"})
    answer = installation.run("submit", file(installation, "mixed.jsonl", mixed), "--skip-invalid")
    assert answer.exit_code == 0
    assert "ticket/shop/CLI-6" in answer.stdout
    assert answer.stdout.count("skipped: ") == 2


def test_an_end_that_is_not_done_is_exit_code_1(installation: Installation) -> None:
    ticket = {"id": "CLI-7", "body": "Please merge the accounts 12 and 45 into one.", "requester": "ana@example.com"}
    answer = installation.run("--json", "submit", file(installation, "no.json", ticket), "--wait")
    assert answer.exit_code == 1
    assert answer.json["outcome"]["state"] == "blocked"


def test_text_of_others_cannot_steer_the_terminal(installation: Installation) -> None:
    installation.submit(**TICKET | {"id": "CLI-8", "title": "\x1b[2J\u202egnihton", "body": QUESTION + "\x07\r"})
    shown = installation.run("show", "CLI-8").stdout
    assert "<U+001B>[2J<U+202E>gnihton" in shown
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)


# --- decisions ---------------------------------------------------------------------------------------------------


def waiting(installation: Installation, number: int) -> str:
    body = f"Customer {number} has a new address, please set the email to cli{number}@example.com"
    ticket = installation.submit(id=f"CLI-D{number}", body=body, subject={"customer_id": number})
    until(lambda: installation.state(ticket) == "waiting")
    return ticket


def test_an_undo_is_a_ticket_of_its_own_that_waits_for_a_person(installation: Installation) -> None:
    ticket = waiting(installation, 230)
    assert installation.run("undo", ticket).exit_code == 2  # nothing was changed yet
    digest = installation.view(ticket)["report"]["plan_digest"]
    assert installation.run("approve", ticket, "--digest", digest).exit_code == 0
    until(lambda: installation.state(ticket) == "done")
    answer = installation.run("--json", "undo", ticket)
    assert answer.exit_code == 0, answer
    undo = answer.json["workflow_id"]
    until(lambda: installation.state(undo) == "waiting")
    report = installation.view(undo)["report"]
    assert [finding["rule"] for finding in report["findings"]] == ["undo.asked"]
    assert installation.run("approve", undo, "--digest", report["plan_digest"]).exit_code == 0
    until(lambda: installation.state(undo) == "done")
    assert installation.run("undo", ticket).exit_code == 1  # it was taken back


def test_a_stale_digest_changes_nothing_and_the_right_one_executes(installation: Installation) -> None:
    ticket = waiting(installation, 201)
    stale = installation.run("approve", ticket, "--digest", "0" * 64)
    assert stale.exit_code == 2
    assert "the ticket has another plan now" in stale.stderr
    assert installation.run("approve", ticket, "--digest", "abc").exit_code == 2
    assert installation.state(ticket) == "waiting"
    other_rows = installation.view(ticket)["report"]["plan_digest"] + "." + "0" * 12
    stale = installation.run("approve", ticket, "--digest", other_rows)
    assert (stale.exit_code, "the rows have changed" in stale.stderr) == (2, True)
    shown = installation.run("show", ticket).stdout
    digest = shown.partition("--digest ")[2].strip()
    assert installation.run("approve", ticket, "--digest", digest).exit_code == 0
    until(lambda: installation.state(ticket) == "done")
    late = installation.run("approve", ticket, "--digest", digest)
    assert late.exit_code == 1
    assert late.stderr.count("\n") == 1


def test_reject_revise_and_cancel(installation: Installation) -> None:
    ticket = waiting(installation, 202)
    assert installation.run("revise", ticket, "--comment", "Look again.").exit_code == 0
    until(lambda: installation.view(ticket)["plan_number"] == 2 and installation.state(ticket) == "waiting")
    rejected = installation.run("--json", "reject", ticket, "--comment", "Not his address.", "--by", "eve@example.com")
    assert rejected.json["by"] == "eve@example.com"
    until(lambda: installation.state(ticket) == "rejected")
    other = waiting(installation, 203)
    assert installation.run("cancel", other).exit_code == 0
    until(lambda: installation.state(other) == "cancelled")
    assert installation.run("cancel", other).exit_code == 1


@pytest.mark.parametrize(
    ("customer", "options", "expected"),
    [
        (205, ("--comment", "x" * 5000), "the decision: field comment: at most 4000 characters are allowed"),
        (206, ("--comment", "no", "--by", "x" * 400), "field by: at most 320 characters are allowed"),
        (207, ("--comment", "no", "--by", ""), "field by: at least 1 character is required"),
    ],
)
def test_a_decision_that_is_too_long_is_refused(
    installation: Installation, customer: int, options: tuple[str, ...], expected: str
) -> None:
    ticket = waiting(installation, customer)
    answer = installation.run("reject", ticket, *options)
    assert answer.exit_code == 2
    assert expected in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_the_requester_may_not_decide(installation: Installation) -> None:
    ticket = waiting(installation, 204)
    answer = installation.run("reject", ticket, "--comment", "mine", "--by", "ana@example.com")
    assert answer.exit_code == 4
    assert "the requester of a ticket may not decide on it" in answer.stderr


# --- check, constraints, doctor ----------------------------------------------------------------------------------


def test_check_reports_and_executes_nothing(installation: Installation) -> None:
    name = file(installation, "plan.json", PLAN)
    answer = installation.run("--json", "check", name)
    assert answer.exit_code == 0
    assert answer.json["verdict"] == "auto"
    (row,) = answer.json["operations"][0]["rows"]
    assert (row["table"], row["key"], row["via"]) == ("shop.orders", {"id": 1010}, "statement")
    assert installation.run("--json", "check", name).json["fingerprint"] == answer.json["fingerprint"]
    ticket = file(installation, "t.json", TICKET)
    assert installation.run("--json", "check", name, "--ticket", ticket).json["verdict"] == "approval"
    dangerous = file(installation, "drop.json", {"operations": [{"sql": "DROP TABLE shop.orders"}]})
    answer = installation.run("check", dangerous)
    assert answer.exit_code == 1
    assert "verdict: block" in answer.stdout
    wrong = installation.run("check", file(installation, "typo.json", {"operation": []}))
    assert (wrong.exit_code, "field operation: unknown field" in wrong.stderr) == (2, True)


def test_constraints_travel_through_a_file(installation: Installation) -> None:
    exported = installation.run("constraints", "export")
    assert exported.exit_code == 0
    name = file(installation, "constraints.yaml", exported.stdout)
    before = installation.run("--json", "constraints", "list").json[0]["version"]
    imported = installation.run("--json", "constraints", "import", name, "--note", "the same")
    assert imported.json == {"target": "shop", "version": before + 1, "moves_rights": False}
    assert installation.run("constraints", "export").stdout == exported.stdout
    typo = file(installation, "typo.yaml", exported.stdout.replace("shop.staff", "shop.stuff"))
    refused = installation.run("constraints", "import", typo)
    assert refused.exit_code == 2
    assert "no table 'shop.stuff'" in refused.stderr


def test_constraints_are_changed_entry_by_entry_and_each_change_is_a_version(installation: Installation) -> None:
    before = installation.run("constraints", "export").stdout
    version = installation.run("--json", "constraints", "list").json[0]["version"]
    entry = '{"name": "shop.products", "writes": "auto", "block": ["delete"]}'
    added = installation.run("constraints", "add", "tables", entry, "--note", "prices", "--json")
    assert added.json == {"target": "shop", "version": version + 1, "moves_rights": False}
    tables = installation.run("--json", "constraints", "export").json["tables"]
    assert [table["block"] for table in tables if table["name"] == "shop.products"] == [["delete"]]
    newest = installation.run("--json", "constraints", "list").json[0]
    assert (newest["version"], newest["note"]) == (version + 1, "prices")
    assert installation.run("constraints", "remove", "tables", "shop.products").exit_code == 0
    assert installation.run("constraints", "export").stdout == before
    for arguments, message in (
        (("add", "tables", "{name: shop.stuff}"), "no table 'shop.stuff' in the target's schemas"),
        (("add", "tabels", "{name: shop.orders}"), "'tabels' is no section of constraints"),
        (("remove", "tables", "shop.stuff"), "tables has no 'shop.stuff'; it has shop.customers"),
        (("remove", "tables", "shop.orders", "--last", "3"), "--last goes with --dry-run"),
        (("add", "tables", "{}", "--target", "moon"), "unknown target 'moon'"),
    ):
        refused = installation.run("constraints", *arguments)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused
        assert message in refused.stderr
    assert installation.run("--json", "constraints", "list").json[0]["version"] == version + 2


def test_a_dry_run_shows_what_a_change_would_have_decided_and_stores_nothing(installation: Installation) -> None:
    ticket = waiting(installation, 208)
    listed = until(lambda: [t for t in installation.run("--json", "list").json if t["workflow_id"] == ticket])
    assert listed[0]["risk"] == "approval"
    exported = installation.run("constraints", "export").stdout
    change = ("constraints", "add", "columns", "{table: shop.customers, name: email, protected: true}", "--dry-run")
    tried = installation.run("--json", *change, "--last", "20").json
    assert (tried["target"], tried["stored"]) == ("shop", False)
    (difference,) = [one for one in tried["differences"] if one["workflow_id"] == ticket]
    assert (difference["before"], difference["after"]) == ("approval", "block")
    assert difference["why"] == ["column.protected: shop.customers.email is written, and is protected"]
    assert tried["assessed"] == sum(tried["before"].values()) == sum(tried["after"].values())
    assert installation.run("constraints", "export").stdout == exported
    shown = installation.run(*change, "--last", "1").stdout
    assert f"{ticket}  approval  block" in shown
    assert "1 of 1 tickets on shop would be judged otherwise (now: 1 approval; then: 1 block)" in shown
    assert "Judged on the rows of now" in shown
    name = file(installation, "same.yaml", exported)
    same = installation.run("--json", "constraints", "import", name, "--dry-run").json
    assert (same["differences"], same["stored"]) == ([], False)
    assert installation.run("reject", ticket, "--comment", "no").exit_code == 0


def test_the_doctor_finds_the_local_set_up_well(installation: Installation) -> None:
    answer = installation.run("--json", "doctor")
    assert [check for check in answer.json if not check["ok"]] == []
    assert answer.exit_code == 0


def test_migrate_creates_what_is_missing_and_the_doctor_says_what_to_do_next(
    installation: Installation, database: str
) -> None:
    text = AWAY.format(keys=installation.home / "keys.toml").replace("[targets.shop]\n", "")
    text += f'[control]\nowner = "{database}"\n[targets.crm]\nowner = "{database}"\n'
    settings = file(installation, "own.toml", text)
    answer = installation.run("--config", settings, "migrate")
    assert answer.exit_code == 0, answer
    assert "control: control" in answer.stdout
    assert "created role standfast_crm_writer" in answer.stdout
    assert "target crm: got strict constraints" in answer.stdout
    again = installation.run("--config", settings, "migrate")
    assert (again.exit_code, again.stdout) == (0, "control: is current\ntarget crm: is current\n")
    checks = installation.run("--config", settings, "doctor", "--json")
    assert checks.exit_code == 1
    messages = {check["name"]: check["message"] for check in checks.json if not check["ok"]}
    assert "can't be reached" in messages["temporal connection"]
    assert messages["control.url"] == "is not set; set the URL of the control database"
    assert "set at least one role's" in messages["targets.crm"]


def ended(installation: Installation, state: str) -> Any:
    """Return the figures once they have a ticket that ended so: they lag a little behind."""
    figures = installation.run("--json", "stats").json
    return figures if figures["tickets"].get(state) else None


def test_the_owner_purges_and_is_told_what_was_removed(installation: Installation) -> None:
    owner = ("--config", str(installation.home / "config/owner.toml"), "purge", "--before", "2020-01-01")
    until(lambda: installation.run(*owner, "--dry-run").exit_code == 0)  # a worker has noted the namespace by then
    answer = installation.run("--json", *owner, "--histories")
    assert answer.exit_code == 0, answer
    assert answer.json["before"] == "2020-01-01T00:00:00Z"
    assert (answer.json["dry_run"], answer.json["tickets"], answer.json["left"]) == (False, 0, [])
    assert "0 tickets ended before 2020-01-01 00:00:00Z" in installation.run(*owner).stdout


def test_figures_are_read_by_people_and_by_machines(installation: Installation) -> None:
    ticket = waiting(installation, 206)
    assert installation.run("reject", ticket, "--comment", "no").exit_code == 0
    figures = until(lambda: ended(installation, "rejected"))
    assert figures["waiting"]["number"] >= 1
    assert figures["waiting"]["median"] <= figures["waiting"]["max"]
    assert figures["model_calls"]["spent"]["calls"] >= 1
    assert figures["model_calls"]["spent"]["input_tokens"] > 0
    text = installation.run("stats", "--target", "shop", "--since", "7d").stdout
    for line in ("waiting for a person", "submission to decision", "recoveries", "model calls", "not paid again"):
        assert line in text
    assert installation.run("stats", "--since", "0s").stdout.startswith("0 tickets since ")
    for wrong, message in ((("--since", "soon"), "expected a number with s, m, h or d"), (("--target", "x"), "'x'")):
        refused = installation.run("stats", *wrong)
        assert (refused.exit_code, message in refused.stderr) == (2, True)


# --- the program itself ------------------------------------------------------------------------------------------


def test_help_needs_no_service_and_lists_every_command(tmp_path: Path) -> None:
    program = [sys.executable, "-P", "-m", "standfast.cli"]
    answer = subprocess.run([*program, "--help"], capture_output=True, text=True, cwd=tmp_path, check=True)
    names = [
        line.split()[0] for line in answer.stdout.partition("Commands:\n")[2].splitlines() if line.startswith("  ")
    ]
    for name in names[: names.index("Examples:")]:
        subprocess.run([*program, name, "--help"], capture_output=True, cwd=tmp_path, check=True)


def test_output_that_nobody_reads_to_the_end_is_no_error_message(installation: Installation) -> None:
    command = f"'{sys.executable}' -P -m standfast.cli --json list | true"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, cwd=installation.folder, env=installation.environment, check=False
    )
    assert done.stderr == b""


def test_without_a_command_it_shows_its_help(installation: Installation) -> None:
    answer = installation.run()
    assert answer.exit_code == 2
    assert "Commands:\n  up " in answer.stderr


def test_a_second_up_in_the_same_folder_is_refused(installation: Installation) -> None:
    answer = installation.run("up")
    assert answer.exit_code == 2
    assert "is in use by another `standfast up`" in answer.stderr


def test_what_dies_is_started_again(installation: Installation) -> None:
    pid = until(lambda: installation.pid("dashboard"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: installation.pid("dashboard") not in (None, pid))
