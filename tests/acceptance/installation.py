"""A running `standfast up`, used as people and machines use it: by its command line."""

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 60.0  # seconds; generous, since machines that run tests are slow at times
PROGRAM = (sys.executable, "-P", "-m", "standfast.cli")


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Installation:
    """`standfast up` in a folder of its own."""

    folder: Path

    @property
    def home(self) -> Path:
        """Its $STANDFAST_HOME."""
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        """For processes that belong to it; nothing of ours that could lead them elsewhere."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STANDFAST_", "TEMPORAL_"))}
        return kept | {"STANDFAST_HOME": str(self.home)}

    def run(self, *arguments: str, stdin: str = "") -> Answer:
        """Run one command to its end."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            input=stdin.encode(),
            capture_output=True,
            cwd=self.folder,
            env=self.environment,
            timeout=LIMIT,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def submit(self, **ticket: Any) -> str:
        """Submit a ticket and return its workflow id."""
        answer = self.run("--json", "submit", "-", stdin=json.dumps({"requester": "ana@example.com"} | ticket))
        assert answer.exit_code == 0, answer
        workflow_id: str = answer.json["workflow_id"]
        return workflow_id

    def view(self, ticket: str) -> Any:
        """Return a ticket as `show` prints it."""
        return self.run("--json", "show", ticket).json

    def state(self, ticket: str) -> str:
        """Return a ticket's state; empty while no worker answers."""
        answer = self.run("--json", "show", ticket)
        return str(answer.json["state"]) if answer.exit_code == 0 else ""

    def pid(self, service: str) -> int | None:
        """Return the process id of a service that is ready."""
        status = json.loads((self.home / "services.json").read_text())
        return next((s["pid"] for s in status if s["service"] == service and s["ready"]), None)

    def setting(self, section: str, name: str) -> Any:
        """Return a setting of the person who runs commands."""
        return tomllib.loads((self.home / "local.toml").read_text())[section][name]

    @property
    def owner_url(self) -> str:
        """URL of the sample shop as its owner, who may look at everything."""
        port = json.loads((self.home / "ports.json").read_text())["postgres"]
        password = (self.home / "postgres/password").read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{port}/shop"

    def url(self, role: str) -> str:
        """Return the URL of a role of the sample shop, from the settings of the process that has it."""
        process = {"writer": "database", "reader": "llm", "rehearser": "core"}[role]
        settings = tomllib.loads((self.home / f"config/{process}.toml").read_text())
        return str(settings["targets"]["shop"][role])


def until(condition: Callable[[], Any]) -> Any:
    """Wait until `condition` holds, and return what it returned."""
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {LIMIT} s in vain"
        time.sleep(0.05)
    return found
