"""The program `standfast`: its commands, loaded when they are used, and how errors become exit codes.

Exit codes: 0 done, 1 the ticket or plan did not go through, 2 wrong usage or invalid input, 3 a service can't be
reached, 4 not permitted, 70 a defect, 130 interrupted, 141 nobody reads the output any more.
"""

import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, NoReturn

import click

from standfast.cli.invocation import Invocation
from standfast.cli.output import Output, OutputUnread, OutputUnwritable, checked_stdout, visible
from standfast.errors import StandfastError

USAGE = 2
DEFECT = 70  # as sysexits.h has it
INTERRUPTED = 130  # as shells say that SIGINT ended a program


class _Command(NamedTuple):
    module: str
    summary: str


_COMMANDS: Mapping[str, _Command] = {
    "up": _Command("services", "Run everything on this machine: services, workers, dashboard."),
    "demo": _Command("demo", "Run everything and submit the sample tickets."),
    "chaos": _Command("chaos", "Prove durability: faults on purpose in a set-up of its own."),
    "submit": _Command("tickets", "Submit tickets from a file of JSON or JSON lines."),
    "batch": _Command("batch", "Hand out thousands of tickets, a few at a time."),
    "list": _Command("tickets", "List tickets, newest first."),
    "show": _Command("tickets", "Show one ticket whole."),
    "history": _Command("tickets", "Show what happened to one ticket, step by step."),
    "stats": _Command("stats", "Show waiting times, recoveries, retries, and what models cost."),
    "approve": _Command("decisions", "Approve the plan of a waiting ticket."),
    "reject": _Command("decisions", "Reject the plan of a waiting ticket; the ticket ends."),
    "revise": _Command("decisions", "Ask the agent for another plan."),
    "cancel": _Command("decisions", "End a ticket."),
    "undo": _Command("decisions", "Take back what a ticket has changed."),
    "check": _Command("check", "Print the safety report of a plan; nothing is executed."),
    "constraints": _Command("constraints", "List and change constraints, and try changes."),
    "audit": _Command("audit", "Show, verify and export what was decided and done."),
    "worker": _Command("services", "Run one worker pool."),
    "dashboard": _Command("services", "Run the dashboard."),
    "codec-server": _Command("services", "Decrypt payloads for Temporal's UI and command line."),
    "login-link": _Command("services", "Print a one-time link that signs a person in to the dashboard."),
    "sessions": _Command("sessions", "List who is signed in at the dashboard, and end sessions."),
    "tokens": _Command("tokens", "Create, list and revoke the tokens of programs."),
    "model-server": _Command("services", "Serve the language model of this machine."),
    "keys": _Command("keys", "Make, list and rotate the keys of encryption."),
    "migrate": _Command("administration", "Create or upgrade our schemas and roles."),
    "purge": _Command("purge", "Remove the content of tickets that ended before a date."),
    "replay": _Command("replay", "Tell whether this code can go on with what is under way."),
    "deploy": _Command("deploy", "Bring a version of the workers into use, or out of it."),
    "doctor": _Command("administration", "Check connections, roles, rights, and what slows recovery."),
}

_NAMES = {"list": "list_"}  # where a command's name is taken in Python

_EPILOG = """\b
Examples:
  standfast up                                everything on this machine, until Ctrl-C
  standfast submit ticket.json --wait         a ticket, until its end
  standfast list --state waiting              what waits for a person
  standfast show SUP-1042                     what would happen, and why it waits
  standfast approve SUP-1042 --digest 3f2a9c61d2b8.9be01f6a77c4
  standfast check plan.json --database postgresql://localhost/shop
\b
Exit codes: 0 done, 1 it did not go through, 2 wrong usage or input, 3 a service is away, 4 not permitted,
70 a defect of Standfast: please report what it says.
"""


class _Program(click.Group):
    """Commands are imported when they are used, so that `--help` and errors come at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        known = _COMMANDS.get(cmd_name)
        if known is None:
            return None
        module = import_module(f"standfast.cli.{known.module}")
        command = getattr(module, _NAMES.get(cmd_name, cmd_name.replace("-", "_")))
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in _COMMANDS.items()])


@click.command(cls=_Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="standfast", message="standfast %(version)s")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file; replaces all others.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout and nothing else; text goes to stderr.")
@click.pass_context
def program(ctx: click.Context, config: Path | None, as_json: bool) -> None:
    """Durable AI agents that may touch production data."""
    ctx.obj = Invocation(config=config, output=Output(as_json=as_json))


def main() -> NoReturn:
    """Run the command line, and exit with its code."""
    sys.stdout = checked_stdout()
    code = _run()
    try:
        sys.stdout.flush()
    except OutputUnwritable as error:
        code = code or _unwritable(error)
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.flush()
    # Not by way of Python's own end: threads of Temporal's client are in its way then, and abort every third process
    # on a busy machine, with its work done (https://github.com/temporalio/sdk-python/issues/300).
    os._exit(code)


def _run() -> int:
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    if as_json:  # wherever it stands
        arguments = ["--json", *(argument for argument in arguments if argument != "--json")]
    try:
        code = program.main(arguments, standalone_mode=False, prog_name="standfast")
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        advice = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "standfast"
        return _report(f"{error.format_message()} (see `{advice} --help`)", "usage", USAGE, as_json=as_json)
    except click.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OutputUnwritable as error:
        return _unwritable(error)
    except StandfastError as error:
        return _report(str(error), error.code, error.exit_code, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - what nobody foresaw is shown as it is
        traceback.print_exc()
        message = f"a defect of Standfast: {type(error).__name__}, with its traceback on stderr"
        return _report(message, "defect", DEFECT, as_json=as_json)
    return code if isinstance(code, int) else 0


def _unwritable(error: OutputUnwritable) -> int:
    """Say so, but not to those who have read enough."""
    return error.exit_code if isinstance(error, OutputUnread) else _report(str(error), error.code, error.exit_code)


def _report(message: str, code: str, exit_code: int, *, as_json: bool = False) -> int:
    """Say on one line what went wrong; machines get it as a document, too."""
    line = visible(" ".join(message.split()))
    with suppress(OSError):  # the exit code says it, too
        click.echo(f"standfast: {line}", err=True)
    if as_json:
        with suppress(OutputUnwritable):
            Output(as_json=True).document({"error": {"code": code, "message": line}})
    return exit_code
