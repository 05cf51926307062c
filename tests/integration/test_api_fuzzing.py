"""Schemathesis against the real API, over HTTP: nothing that it sends is answered otherwise than the document says."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from standfast.context import Context
from standfast.plan import Plan
from standfast.settings import Settings
from tests.integration.installation import Installation, installed
from tests.integration.test_dashboard import about, browser, dashboard, refund, sign_in, waiting

EXAMPLES = 10
"""Of each operation and each way to make them."""

# The same requests each time. What a page begins after, no document can say.
EVERYWHERE = """
seed = 1
[generation]
deterministic = true
database = "none"
max-examples = {examples}
[[operations]]
include-operation-id = "listTickets"
parameters = {{ "query.after" = "{after}" }}
"""
# Nor which tickets there are.
KNOWN = """
[[operations]]
include-operation-id = ["getTicket", "getHistory", "decide"]
parameters = {{ "path.target" = "shop", "path.id" = "{waiting}" }}
[[operations]]
include-operation-id = "cancelTicket"
parameters = {{ "path.target" = "shop", "path.id" = "{cancelled}" }}
"""


async def plan(context: Context) -> Plan:
    """The agent of these tests: tickets that schemathesis makes up have nothing to do."""
    return Plan.model_validate(context.ticket.metadata.get("plan", {}))


def open_to_all(settings: Settings) -> Settings:
    """Settings with which a signed-in person may submit tickets of anybody."""
    return settings.model_copy(update={"review": settings.review.model_copy(update={"solo": True})})


async def schemathesis(folder: Path, configuration: str, *arguments: str) -> tuple[int | None, str]:
    file = folder / "schemathesis.toml"
    file.write_text(configuration)
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("schemathesis"), "--config-file", file, "run"),
        *arguments,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def known(installation: Installation) -> dict[str, Any]:
    first, second = [await waiting(installation, refund(order), **about(order)) for order in (1040, 1041)]
    page = await installation.client.lists.page(limit=1)
    return {"waiting": first.ticket.id, "cancelled": second.ticket.id, "after": page.next}


@pytest.mark.timeout(300)  # some seven hundred requests; half a minute on a machine that has nothing else to do
@pytest.mark.parametrize(
    ("configuration", "arguments"),
    [
        (EVERYWHERE, ("--phases", "coverage", "--include-path-regex", "{id}")),
        (EVERYWHERE + KNOWN, ("--phases", "coverage,fuzzing,stateful")),
    ],
    ids=["tickets that are made up", "tickets that are there"],
)
async def test_whatever_is_sent_is_answered_as_the_document_says(
    postgres: str, temporal_server: str, tmp_path: Path, configuration: str, arguments: tuple[str, ...]
) -> None:
    async with (
        installed(postgres, temporal_server, planner={"agent": f"{__name__}:plan"}) as installation,
        dashboard(open_to_all(installation.settings)) as url,
        browser(url) as client,
    ):
        await sign_in(installation.settings, client)
        ((name, value),) = client.cookies.items()
        text = configuration.format(examples=EXAMPLES, **await known(installation))
        signed_in = ("-H", f"Cookie: {name}={value}")
        status, output = await schemathesis(
            tmp_path,
            text,
            f"{url}/api/openapi.json",
            *signed_in,
            "--checks",
            "all",
            "--continue-on-failure",
            *arguments,
        )
    assert status == 0, output
