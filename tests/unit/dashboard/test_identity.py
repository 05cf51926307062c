"""Who asks may do what his groups and the kind of the request say."""

import pytest
from starlette.requests import Request

from standfast.dashboard.identity import SignInRefused, admitted, required
from standfast.dashboard.tokens import Tokens
from standfast.decision import Mode
from standfast.errors import InvalidInput
from standfast.scope import Scope
from standfast.settings import Settings
from standfast.store.databases import Databases

TABLE = {"support": (Scope.VIEW, Scope.SUBMIT), "approvers": (Scope.DECIDE,)}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/", Scope.VIEW),
        ("HEAD", "/tickets/ticket/shop/1", Scope.VIEW),
        ("GET", "/api/tickets", Scope.VIEW),
        ("POST", "/api/tickets", Scope.SUBMIT),
        ("POST", "/api/tickets/", Scope.DECIDE),
        ("POST", "/tickets/ticket/shop/1/decision", Scope.DECIDE),
        ("POST", "/api/tickets/ticket/shop/1/decision", Scope.DECIDE),
        ("POST", "/tickets/ticket/shop/1/undo", Scope.DECIDE),
        ("DELETE", "/api/tickets", Scope.DECIDE),
        ("PUT", "/what/comes/next", Scope.DECIDE),
    ],
)
def test_whatever_changes_something_and_is_no_submission_is_a_decision(method: str, path: str, scope: Scope) -> None:
    scope_of = {"type": "http", "method": method, "path": path, "headers": [], "server": ("127.0.0.1", 8765)}
    assert required(Request(scope_of)) is scope


async def test_a_wrong_token_is_told_by_its_field_and_by_no_line_as_it_stands_in_no_file() -> None:
    with pytest.raises(InvalidInput, match=r"^the token: field name: "):
        await Tokens(Databases(Settings(), application="test")).create(
            "-x", user="ana@example.com", scopes=[Scope.VIEW], lasts=None, created_by="ben@example.com"
        )


def test_scopes_of_several_groups_add_up_and_unknown_groups_count_for_nothing() -> None:
    session = admitted(" ana@example.com ", ["approvers", "x", "support"], TABLE, Mode.SESSION)
    assert (session.user, session.scopes, session.groups) == (
        "ana@example.com",
        frozenset(Scope),
        ("approvers", "support"),
    )


def test_a_group_of_everybody_needs_no_group() -> None:
    assert admitted("ana", [], {"*": (Scope.VIEW,)}, Mode.PROXY).scopes == {Scope.VIEW}


@pytest.mark.parametrize("groups", [[], ["x"], ["*"], ["APPROVERS"]])
def test_who_is_in_no_known_group_is_refused_by_name(groups: list[str]) -> None:
    with pytest.raises(SignInRefused, match=r"ana is in no group .* approvers, support") as raised:
        admitted("ana", groups, TABLE, Mode.SESSION)
    assert raised.value.user == "ana"


@pytest.mark.parametrize("name", ["", " ", "a" * 321, "a\u202eb", "a\x00b", "a\nb"])
def test_a_name_that_cannot_go_on_record_is_refused(name: str) -> None:
    with pytest.raises(SignInRefused, match="under this name"):
        admitted(name, ["support"], TABLE, Mode.SESSION)
