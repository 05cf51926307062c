"""Commands for the keys that payloads are encrypted with."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.errors import InvalidInput
from standfast.system_user import system_user

if TYPE_CHECKING:
    from standfast.codec.keyring import KeyRing
    from standfast.settings import Settings


@click.group()
def keys() -> None:
    """Make and list the keys that payloads are encrypted with, and change the active one.

    The active key encrypts, all keys of the ring decrypt. Whoever loses a key loses what was encrypted with it.
    """


@keys.command()
@click.option("--file", type=click.Path(path_type=Path), help="Write a new key file, for its owner only.")
@pass_invocation
def new(invocation: Invocation, file: Path | None) -> None:
    """Make a key ring with one new key. Without --file it goes to stdout, for a secret manager to keep."""
    from standfast import private_file  # noqa: PLC0415 - commands import when they run
    from standfast.codec.keyring import KeyRing  # noqa: PLC0415

    ring = KeyRing.new()
    if file is not None:
        if os.path.lexists(file):
            raise InvalidInput(
                f"{file} is there already; `standfast keys rotate` adds a key to the one in the settings"
            )
        private_file.write(file, ring.to_toml())
    if invocation.output.as_json:
        invocation.output.document(_described(ring, ring.active) | ({} if file else {"file": ring.to_toml()}))
    elif file is not None:
        invocation.output.line(f"{file}: key {ring.active}; set encryption.file to it, and keep a copy elsewhere")
    else:
        click.echo(ring.to_toml(), nl=False)


@keys.command(name="list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the keys of the settings by id and fingerprint, and say which one is active. No key is shown."""
    from standfast.codec.keyring import read_ring  # noqa: PLC0415

    ring = read_ring(invocation.settings().encryption)
    if invocation.output.as_json:
        invocation.output.document([_described(ring, key_id) for key_id in sorted(ring.keys)])
        return
    rows = [[key_id, ring.fingerprint(key_id), "yes" * (key_id == ring.active)] for key_id in sorted(ring.keys)]
    invocation.output.table(["key", "fingerprint", "active"], rows)


@keys.command()
@pass_invocation
def rotate(invocation: Invocation) -> None:
    """Add a new key to the key file of the settings and make it the active one; old ones still decrypt.

    Processes that run take the new key up when they meet it, or when they start. It goes on the audit chain.
    """
    from standfast import private_file  # noqa: PLC0415
    from standfast.codec.keyring import read_ring  # noqa: PLC0415

    settings = invocation.settings()
    file = settings.encryption.file
    if file is None:
        raise InvalidInput(
            "the keys of the settings are not in a file of ours (encryption.file): add a key to them where they are, "
            "`standfast keys new` makes one, and name it as the active one"
        )
    read_ring(settings.encryption)  # says what to do where there is none
    with private_file.changing(file):
        old = read_ring(settings.encryption)
        ring = old.rotated()
        run(_record(settings, ring, old.active))
        private_file.rewrite(file, ring.to_toml())
    if invocation.output.as_json:
        invocation.output.document(_described(ring, ring.active) | {"before": old.active})
    else:
        invocation.output.line(f"{file}: key {ring.active} is the active one now, {old.active} still decrypts")


async def _record(settings: "Settings", ring: "KeyRing", before: str) -> None:
    """Put the change on the audit chain first, if there is one: a key that nobody knows of must not be used.

    Raises:
        ServiceUnavailable: the control database can't be reached.
    """
    from standfast import audit  # noqa: PLC0415
    from standfast.store.databases import Databases  # noqa: PLC0415

    if settings.control.url is None:
        return
    async with Databases(settings, application="standfast keys") as databases, databases.control() as connection:
        await audit.append(
            connection,
            key=f"keys/{ring.active}",
            at=datetime.now(UTC),
            kind=audit.Kind.KEYS,
            workflow_id="keys",
            actor=system_user(),
            content=_described(ring, ring.active) | {"before": before},
        )


def _described(ring: "KeyRing", key_id: str) -> dict[str, str | bool]:
    return {"key": key_id, "fingerprint": ring.fingerprint(key_id), "active": key_id == ring.active}
