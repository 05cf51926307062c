"""Who says who people are, if not a login link of this machine: the settings of a provider and of a trusted proxy."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator

from standfast.domain import Submission
from standfast.scope import Scope
from standfast.web_address import WebAddress

Groups = Annotated[dict[str, tuple[Scope, ...]], Field(min_length=1)]
"""Group -> what its members may do; `*` is everybody who is signed in. Who is in none of them is turned away."""


class Oidc(Submission):
    """A provider of OpenID Connect that signs people in."""

    issuer: WebAddress
    client_id: Annotated[str, StringConstraints(min_length=1)]
    client_secret: SecretStr | None = None
    """Of the dashboard alone; the codec server and commands do without."""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    """What is asked of the provider; many need one more to tell groups."""
    user_claim: str = "email"
    """Under which name people are known: as requesters, as approvers, on record."""
    groups_claim: str = "groups"
    groups: Groups

    @field_validator("scopes")
    @classmethod
    def _of_openid(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            msg = f"{list(scopes)!r} has no 'openid', without which the provider names nobody"
            raise ValueError(msg)
        return scopes


class TrustedProxy(Submission):
    """A proxy in front of the dashboard that signs people in, and names them in a header."""

    addresses: Annotated[tuple[IPv4Network | IPv6Network, ...], Field(min_length=1)]
    """Where it connects from; the header of anybody else is refused."""
    user_header: Annotated[str, StringConstraints(min_length=1)]
    groups_header: str | None = None
    """Groups, with commas between them."""
    groups: Groups

    @field_validator("addresses")
    @classmethod
    def _not_everywhere(cls, addresses: tuple[IPv4Network | IPv6Network, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
        for network in addresses:
            if network.prefixlen == 0:
                msg = f"{network} is every address there is, so anybody could be anybody"
                raise ValueError(msg)
        return addresses
