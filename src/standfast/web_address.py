"""Addresses of the web that people or providers have."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Names of this machine that nobody else can reach."""


def is_loopback(address: str) -> bool:
    """Tell whether nobody but this machine can reach an address."""
    return urlsplit(address).hostname in LOOPBACK


def origin(host: str, port: int) -> str:
    """Return the address of a web server of ours."""
    return f"http://{_netloc(host, port)}"


def by_the_name(host: str | None, address: str) -> str:
    """Return an address of this machine by another one of its names; of any other machine, or name, as it is."""
    parts = urlsplit(address)
    if host not in LOOPBACK or parts.hostname not in LOOPBACK:
        return address
    return parts._replace(netloc=_netloc(host, parts.port)).geturl()


def _netloc(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _address(text: str) -> str:
    """Return an address of the web without its last slash; people's sign-in must not go over an open network."""
    parts = urlsplit(text)
    whole = parts.hostname and parts.port != 0 and "@" not in parts.netloc and not parts.query and not parts.fragment
    if parts.scheme not in {"https", "http"} or not whole:
        msg = f"{text!r} is no address such as https://standfast.example.com"
        raise ValueError(msg)
    if parts.scheme == "http" and not is_loopback(text):
        msg = f"{text!r} is not encrypted; begin it with https:// (http:// is for {', '.join(sorted(LOOPBACK))})"
        raise ValueError(msg)
    return text.rstrip("/")


def _origin(text: str) -> str:
    if urlsplit(text).path:
        msg = f"{text!r} has a path; the dashboard's pages begin at /"
        raise ValueError(msg)
    return text


WebAddress = Annotated[str, AfterValidator(_address)]
WebOrigin = Annotated[WebAddress, AfterValidator(_origin)]
