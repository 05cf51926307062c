"""Addresses that we write can be opened, whatever name or protocol this machine is reached by."""

from pathlib import Path

import pytest

from standfast.local.stack import Stack
from standfast.settings import Dashboard, Settings
from standfast.web_address import by_the_name, origin


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:8765"),
        ("localhost", "http://localhost:8765"),
        ("::1", "http://[::1]:8765"),
    ],
)
def test_an_address_of_ours_can_be_opened(tmp_path: Path, host: str, expected: str) -> None:
    assert origin(host, 8765) == expected
    settings = Settings(dashboard=Dashboard(host=host, port=8765))
    assert Stack(settings, home=tmp_path, on_event=lambda _: None).dashboard_url == expected


@pytest.mark.parametrize(
    ("host", "address", "expected"),
    [
        ("localhost", "http://127.0.0.1:8233/x?y=z", "http://localhost:8233/x?y=z"),
        ("127.0.0.1", "http://localhost/", "http://127.0.0.1/"),
        ("localhost", "https://[::1]:8233/x", "https://localhost:8233/x"),
        ("::1", "http://localhost:8233/x", "http://[::1]:8233/x"),
        ("::1", "http://localhost/x", "http://[::1]/x"),
        ("localhost", "https://ui.example.com/x", "https://ui.example.com/x"),
        ("standfast.example.com", "http://localhost:8233/x", "http://localhost:8233/x"),
        (None, "http://localhost:8233/x", "http://localhost:8233/x"),
    ],
)
def test_a_link_to_this_machine_is_by_the_name_that_the_reader_uses(
    host: str | None, address: str, expected: str
) -> None:
    assert by_the_name(host, address) == expected
