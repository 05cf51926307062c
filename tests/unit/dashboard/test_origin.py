"""Our own name and origin: what a request must have been sent to, and from which page."""

import pytest
from starlette.requests import Request
from starlette.responses import Response

from standfast.dashboard.origin import Cookie, OwnAddress, is_ours

URL = "https://standfast.example.com"


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "server": ("127.0.0.1", 8765)})


@pytest.mark.parametrize(
    ("url", "host", "ours"),
    [
        (None, "127.0.0.1:8765", True),
        (None, "localhost:8765", True),
        (None, "[::1]:8765", True),
        (None, "127.0.0.1", False),
        (None, "standfast.example.com", False),
        (URL, "standfast.example.com", True),
        (URL, "STANDFAST.example.com:443", True),
        (URL, "standfast.example.com:80", False),
        (URL, "127.0.0.1:8765", False),
        (URL, "standfast.example.com.evil.example", False),
        (URL, "user@standfast.example.com", False),
        (URL, "", False),
        (f"{URL}:8443", "standfast.example.com:8443", True),
        (f"{URL}:8443", "standfast.example.com", False),
        ("http://localhost:9000", "localhost:9000", True),
        ("http://localhost:9000", "127.0.0.1:9000", False),
    ],
)
def test_only_our_own_name_is_answered(url: str | None, host: str, *, ours: bool) -> None:
    assert OwnAddress(url).is_host(request(host=host)) is ours


@pytest.mark.parametrize(
    ("url", "origin", "ours"),
    [
        (None, "http://127.0.0.1:8765", True),
        (None, "http://localhost:8765", False),
        (None, "https://127.0.0.1:8765", False),
        (URL, "https://standfast.example.com", True),
        (URL, "http://standfast.example.com", False),
        (URL, "https://standfast.example.com:8443", False),
        (URL, "https://evil.example", False),
        (URL, "null", False),
    ],
)
def test_only_our_own_pages_may_send_forms(url: str | None, origin: str, *, ours: bool) -> None:
    host = "standfast.example.com" if url else "127.0.0.1:8765"
    assert OwnAddress(url).is_origin(request(host=host, origin=origin)) is ours


def test_what_the_browser_says_of_the_page_counts_more_than_its_origin() -> None:
    sent = request(host="standfast.example.com", origin=URL, sec_fetch_site="cross-site")
    assert not OwnAddress(URL).is_origin(sent)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (None, "standfast-session-8765"),
        (URL, "__Host-standfast-session-8765"),
        ("http://localhost:9000", "standfast-session-8765"),
    ],
)
def test_on_https_the_cookie_is_for_this_host_alone(url: str | None, named: str) -> None:
    response = Response()
    Cookie(OwnAddress(url)).put(request(), response, "token", seconds=60)
    (cookie,) = response.headers.getlist("set-cookie")
    assert cookie.startswith(f"{named}=token;")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    assert ("Secure" in cookie.split("; ")) is (url == URL)
    assert "Domain" not in cookie
    assert is_ours(named)


def test_a_cookie_of_this_host_alone_is_taken_away_as_it_was_given() -> None:
    response = Response()
    hint = Cookie(OwnAddress(URL), "hint-")
    hint.put(request(), response, "x", seconds=60)
    hint.remove(request(), response)
    assert [cookie.split("=")[0] for cookie in response.headers.getlist("set-cookie")] == [hint.named(8765)] * 2
    assert all({"Path=/", "Secure"} <= set(cookie.split("; ")) for cookie in response.headers.getlist("set-cookie"))
