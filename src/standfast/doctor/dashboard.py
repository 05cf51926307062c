"""Who lets people in to the dashboard: nobody may be let in whom nobody tells apart, and the provider has to answer."""

from importlib.util import find_spec
from typing import Any

import httpx2

from standfast.doctor.check import Check
from standfast.settings import Settings
from standfast.sign_in import Oidc

_PATIENCE = 5.0  # seconds


async def inspect_dashboard(settings: Settings) -> list[Check]:
    """Check the dashboard's address, and the provider that signs people in."""
    ok, message = _address(settings)
    checks = [Check(name="dashboard address", ok=ok, message=message)]
    if settings.dashboard.oidc is not None:
        ok, message = await _provider(settings.dashboard.oidc)
        checks.append(Check(name="dashboard.oidc provider", ok=ok, message=message))
    return checks


def _address(settings: Settings) -> tuple[bool, str]:
    dashboard = settings.dashboard
    if dashboard.sign_in is None:
        if not dashboard.is_local:
            advice = "set dashboard.oidc or dashboard.trusted_proxy, or listen on 127.0.0.1 without dashboard.url"
            return False, f"others can open it, and nobody tells who they are: {advice}"
        return True, "people of this machine get in by a one-time link"
    if settings.review.solo:
        return False, "review.solo lets one person submit and approve in any name; set it to false"
    if dashboard.trusted_proxy is not None:
        listed = ", ".join(map(str, dashboard.trusted_proxy.addresses))
        return True, f"people get in by {dashboard.url}, named by a proxy at {listed}"
    return True, f"people get in by {dashboard.url}, named by a provider"


async def _provider(oidc: Oidc) -> tuple[bool, str]:
    if find_spec("authlib") is None:
        return False, "needs authlib: pip install 'standfast[oidc]'"
    address = f"{oidc.issuer}/.well-known/openid-configuration"
    try:
        async with httpx2.AsyncClient(timeout=_PATIENCE) as client:
            metadata: dict[str, Any] = (await client.get(address)).raise_for_status().json()
    except (httpx2.HTTPError, ValueError) as error:
        return False, f"{address} can't be read: {error}"
    if str(metadata.get("issuer")).rstrip("/") != oidc.issuer:
        return False, f"says that it is {metadata.get('issuer')!r}; set dashboard.oidc.issuer to that, if it is yours"
    methods = metadata.get("code_challenge_methods_supported", ["S256"])  # many offer it and don't say so
    if "S256" not in methods:
        return False, f"offers no PKCE with S256, only {methods!r}; use one that does"
    ends = "and can end sessions" if "end_session_endpoint" in metadata else "but can't end sessions of its own"
    return True, f"{oidc.issuer} answers, {ends}"
