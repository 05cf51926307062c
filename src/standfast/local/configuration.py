"""Settings files of the local set-up: each process gets what it needs, and no credential of another one."""

from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, SecretStr, TypeAdapter

from standfast.settings import Dashboard, Settings, Target
from standfast.steps import Pool
from standfast.store.databases import Role

Document = dict[str, Any]
_DURATION = TypeAdapter(timedelta)


def operator(settings: Settings) -> Document:
    """For the commands that a person runs: looks, submits and decides, but writes to no target."""
    return {
        **_everybody(settings),
        "targets": _targets(settings, Role.READER, Role.REHEARSER),
        "control": {"url": settings.control.url},
        "planner": settings.planner,
        "review": settings.review,
        "dashboard": _without_secret(settings),
        "codec_server": settings.codec_server,
    }


def owner(settings: Settings) -> Document:
    """For `standfast purge` and `standfast migrate`: as the owner of the databases."""
    owned = {name: {"owner": target.owner, "schemas": target.schemas} for name, target in settings.targets.items()}
    return {**_everybody(settings), "targets": owned, "control": {"owner": settings.control.owner}}


def pool(settings: Settings, pool: Pool) -> Document:
    """For a worker process; the credentials are those that `standfast.steps.Pool` names."""
    match pool:
        case Pool.CORE:
            own: Document = {
                "targets": _targets(settings, Role.READER, Role.REHEARSER),
                "control": {"url": settings.control.url},
                "review": settings.review.model_copy(update={"signing_key": None}),
                "planner": {"playbooks": settings.planner.playbooks},  # whose own values are grounded
            }
        case Pool.LLM:
            own = {
                "targets": _targets(settings, Role.READER),
                "control": {"journal": settings.control.journal},
                "planner": settings.planner,
            }
        case Pool.DATABASE:
            own = {"targets": _targets(settings, Role.WRITER)}
    return _everybody(settings) | own


def dashboard(settings: Settings) -> Document:
    """For the web page: signs decisions and keeps sessions; reads no target itself."""
    return {
        **_everybody(settings),
        "targets": _targets(settings),
        "control": {"url": settings.control.url},
        "review": settings.review,
        "dashboard": settings.dashboard,
    }


def codec_server(settings: Settings) -> Document:
    """For the codec server: it looks for sessions of the dashboard, and decrypts for them."""
    return {
        **_everybody(settings),
        "control": {"url": settings.control.url},
        "dashboard": _without_secret(settings),
        "codec_server": settings.codec_server,
    }


def model_server(settings: Settings) -> Document:
    """For the local model: it is told where to listen."""
    return {"planner": settings.planner}


def temporal_program(settings: Settings) -> Document:
    """For the program `temporal`: a profile in its own form, with the codec server that lets it read payloads."""
    codec = {"endpoint": f"{settings.temporal.ui}/codec"}
    if (token := settings.codec_server.token) is not None:
        codec["auth"] = f"Bearer {token.get_secret_value()}"
    profile = {"address": settings.temporal.address, "namespace": settings.temporal.namespace, "codec": codec}
    return {"profile": {"default": profile}}


def to_toml(document: Document) -> str:
    """Return the TOML text of a document of settings, secrets included."""
    return tomli_w.dumps(_plain(document))


def _everybody(settings: Settings) -> Document:
    return {
        "default_target": settings.default_target,
        "storage": settings.storage,
        "temporal": settings.temporal,
        "encryption": settings.encryption,
    }


def _without_secret(settings: Settings) -> Dashboard:
    """Return where the dashboard is and who names people there, without what it proves itself to the provider by."""
    oidc = settings.dashboard.oidc
    public = oidc and oidc.model_copy(update={"client_secret": None})
    return settings.dashboard.model_copy(update={"oidc": public})


def _targets(settings: Settings, *roles: Role) -> Document:
    return {name: _only(target, *roles) for name, target in settings.targets.items()}


def _only(target: Target, *roles: Role) -> Document:
    urls: Document = {role.value: getattr(target, role.value) for role in roles}
    if Role.REHEARSER in roles:
        urls["rehearser"] = target.rehearser or target.writer
    return urls | {"schemas": target.schemas}


def _plain(value: Any) -> Any:
    """Return `value` in TOML's own types, without what is not set."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case BaseModel():
            return _plain(dict(iter(value)))  # by its fields, one of which may be called `keys`
        case Mapping():
            return {name: _plain(item) for name, item in value.items() if item is not None}
        case tuple() | list():
            return [_plain(item) for item in value]
        case IPv4Network() | IPv6Network():
            return str(value)
        case Path():
            return str(value.absolute())
        case timedelta():
            return _DURATION.dump_python(value, mode="json")
        case _:
            return value
