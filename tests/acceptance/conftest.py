"""One `standfast up` for all acceptance tests of a run, started on first use; a browser for each module."""

import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.acceptance.installation import LIMIT, PROGRAM, Installation, until


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        await browser.close()


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
