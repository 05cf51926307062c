"""Commands that prepare an installation and check it."""

from typing import TYPE_CHECKING

import click

from standfast.cli.invocation import Invocation, pass_invocation, run
from standfast.cli.output import Output
from standfast.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from standfast.safety.constraints import Constraints
    from standfast.settings import Settings, Target
    from standfast.store.migrate import Migrated

NOT_WELL = 1


@click.command()
@pass_invocation
def migrate(invocation: Invocation) -> None:
    """Create or upgrade our schemas and roles, in the control database and in every target.

    Needs the URLs `control.owner` and `targets.NAME.owner`; what has none is left alone. A target without constraints
    gets strict ones: reading is automatic, every write needs a person. Its roles get the rights that its newest
    constraints leave open, and no others: run it again after they or the tables changed.
    """
    settings = invocation.settings()
    owners = {name: target.owner for name, target in settings.targets.items() if target.owner is not None}
    if settings.control.owner is None and not owners:
        raise InvalidInput("no owner's URL is set; set control.owner and targets.NAME.owner, for this command alone")

    async def work() -> None:
        from standfast.safety.access import constrained  # noqa: PLC0415 - commands import late
        from standfast.store.migrate import migrate_control, migrate_target  # noqa: PLC0415

        if settings.control.owner is not None:
            _told(await migrate_control(settings.control.owner.get_secret_value()), "control", invocation.output)
            for name in await _constrain(settings.control.owner.get_secret_value(), settings.targets):
                _told_constrained(name, invocation.output)
        for name, owner in owners.items():
            constraints = await _constraints(settings, name, invocation.output)
            accesses = constrained(constraints)
            schemas = settings.target(name).schemas
            done = await migrate_target(owner.get_secret_value(), name, schemas, accesses=accesses)
            _told(done, f"target {name}", invocation.output)

    run(work())


@click.command()
@pass_invocation
def doctor(invocation: Invocation) -> int:
    """Check connections, roles, rights, and whatever makes recovery slow or unsafe: late timers, pools without a spare
    worker, clocks that differ, commits that may be lost. Says what to do; exit code 1 if something is not well."""  # noqa: D205, D209 - click shows it as one paragraph
    from standfast.doctor.examination import examine  # noqa: PLC0415 - commands import late

    checks = run(examine(invocation.settings()))
    output = invocation.output
    if output.as_json:
        output.document([vars(check) for check in checks])
    else:
        for check in checks:
            mark, style = ("ok  ", "green") if check.ok else ("WRONG", "red")
            output.line(f"{mark:<6}{check.name}: {check.message}", style)
    return 0 if all(check.ok for check in checks) else NOT_WELL


async def _constrain(owner: str, targets: "Mapping[str, Target]") -> list[str]:
    """Store the default constraints of targets that have none, and return which."""
    from standfast.safety.constraints import default_constraints  # noqa: PLC0415 - commands import late
    from standfast.safety.versions import append_first  # noqa: PLC0415
    from standfast.store.connections import open_connection  # noqa: PLC0415

    async with await open_connection(owner, application="standfast migrate") as connection:
        return [
            name
            for name, target in targets.items()
            if await append_first(connection, default_constraints(name, target.schemas), created_by="standfast migrate")
        ]


def _told_constrained(name: str, output: Output) -> None:
    if output.as_json:
        output.document({"constraints": name, "version": 1})
    else:
        output.line(f"target {name}: got strict constraints, `standfast constraints export --target {name}` shows them")


async def _constraints(settings: "Settings", target: str, output: Output) -> "Constraints":
    """Return the target's newest constraints, the default ones where there are none or no control database is set.

    Where it is set it has to answer: rights by other constraints than the target's own could be wider.
    """
    from standfast.safety.constraints import default_constraints  # noqa: PLC0415 - commands import late
    from standfast.safety.versions import read_latest  # noqa: PLC0415
    from standfast.store.connections import open_connection  # noqa: PLC0415
    from standfast.store.migrate import Kind, schema_version  # noqa: PLC0415

    schemas = settings.target(target).schemas
    url = settings.control.owner or settings.control.url
    if url is None:
        output.line(
            f"target {target}: no control.url is set, so its rights follow from the default constraints", "yellow"
        )
        return default_constraints(target, schemas)
    async with await open_connection(url.get_secret_value(), application="standfast migrate") as connection:
        if not await schema_version(connection, Kind.CONTROL):
            raise InvalidInput("the control database has no schema of ours; set control.owner, so that it is created")
        return await read_latest(connection, target, schemas)


def _told(done: "Migrated", what: str, output: Output) -> None:
    if output.as_json:
        output.document({"schema": what} | vars(done))
        return
    output.line(f"{what}: {', '.join(done.applied) if done.applied else 'is current'}")
    for role in done.created:
        output.line(f"  created role {role}")
    for role in done.without_password:
        output.line(f"  role {role} has no password yet: \\password {role} in psql sets one", "yellow")
