"""One `standfast up` for all acceptance tests of a run, started on first use."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.acceptance.installation import LIMIT, PROGRAM, Installation, until


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """A running installation; its console is in `up.log`, which is shown if it doesn't come up."""
    with TemporaryDirectory(prefix="standfast acceptance ") as name:
        installed = Installation(Path(name))
        log = installed.folder / "up.log"
        with log.open("wb") as console:
            process = subprocess.Popen(
                [*PROGRAM, "up"],
                cwd=installed.folder,
                env=installed.environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: process.poll() is not None or "Ctrl-C stops everything" in log.read_text())
            assert process.poll() is None, log.read_text()
            yield installed
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0, log.read_text()
