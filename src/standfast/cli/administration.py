"""Commands that prepare an installation and check it."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output
from standfast.errors import InvalidInput, StandfastError

if TYPE_CHECKING:
    from standfast.settings import Settings
    from standfast.store.doctor import Check
    from standfast.store.migrate import Migrated

NOT_WELL = 1


@click.command()
@pass_invocation
def migrate(invocation: Invocation) -> None:
    """Create or upgrade our schemas and roles, in the control database and in every target.

    Needs the URLs `control.owner` and `targets.NAME.owner`; what has none is left alone.
    """
    settings = invocation.settings()
    owners = {name: target.owner for name, target in settings.targets.items() if target.owner is not None}
    if settings.control.owner is None and not owners:
        raise InvalidInput("no owner's URL is set; set control.owner and targets.NAME.owner, for this command alone")

    async def work() -> None:
        from standfast.store.migrate import migrate_control, migrate_target  # noqa: PLC0415 - commands import late

        if settings.control.owner is not None:
            _told(await migrate_control(settings.control.owner.get_secret_value()), "control", invocation.output)
        for name, owner in owners.items():
            done = await migrate_target(owner.get_secret_value(), name, settings.target(name).schemas)
            _told(done, f"target {name}", invocation.output)

    run(work())


@click.command()
@pass_invocation
def doctor(invocation: Invocation) -> int:
    """Check settings, connections, roles and rights, and say what to do. Exit code 1 if something is not well."""
    settings = invocation.settings()

    async def work() -> list["Check"]:
        from standfast.store.doctor import inspect_control, inspect_target  # noqa: PLC0415

        looks = [_inspect_temporal(settings), inspect_control(settings.control)]
        looks += [inspect_target(name, target) for name, target in settings.targets.items()]
        return [check for found in await asyncio.gather(*looks) for check in found]

    checks = run(work())
    output = invocation.output
    if output.as_json:
        output.document([vars(check) for check in checks])
    else:
        for check in checks:
            mark, style = ("ok  ", "green") if check.ok else ("WRONG", "red")
            output.line(f"{mark:<6}{check.name}: {check.message}", style)
    return 0 if all(check.ok for check in checks) else NOT_WELL


def _told(done: "Migrated", what: str, output: Output) -> None:
    if output.as_json:
        output.document({"schema": what} | vars(done))
        return
    output.line(f"{what}: {', '.join(done.applied) if done.applied else 'is current'}")
    for role in done.created:
        output.line(f"  created role {role}")
    for role in done.without_password:
        output.line(f"  role {role} has no password yet: \\password {role} in psql sets one", "yellow")


async def _inspect_temporal(settings: "Settings") -> list["Check"]:
    from temporalio.api.enums.v1 import IndexedValueType  # noqa: PLC0415
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest  # noqa: PLC0415

    from standfast import cluster, visibility  # noqa: PLC0415
    from standfast.store.doctor import Check  # noqa: PLC0415

    try:
        client = await cluster.connect(settings)
        request = ListSearchAttributesRequest(namespace=client.namespace)
        known: dict[str, Any] = dict((await client.operator_service.list_search_attributes(request)).custom_attributes)
    except StandfastError as error:
        return [Check(name="temporal connection", ok=False, message=str(error))]
    found = f"namespace {client.namespace} at {client.service_client.config.target_host}"
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    missing = [
        key.name for key in (visibility.STATE, visibility.TARGET, visibility.RISK) if known.get(key.name) != keyword
    ]
    advice = f"lacks {', '.join(missing)}: temporal operator search-attribute create --type Keyword --name NAME"
    return [
        Check(name="temporal connection", ok=True, message=found),
        Check(name="temporal search attributes", ok=not missing, message=advice if missing else "are there"),
    ]
