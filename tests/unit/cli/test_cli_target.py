from __future__ import annotations

import pytest

from hodei.cli import target
from hodei.cli.target import Target
from hodei.errors import InvalidInput

NOTED = Target(url="http://127.0.0.1:9001", token="noted")
URL = "http://elsewhere:8080"


@pytest.mark.parametrize(
    ("server", "variables", "noted", "expected"),
    [
        ("http://given:1", {"HODEI_URL": URL}, NOTED, "http://given:1"),
        (None, {"HODEI_URL": URL}, NOTED, URL),
        (None, {}, NOTED, "http://127.0.0.1:9001"),
        (None, {"HODEI_URL": ""}, NOTED, "http://127.0.0.1:9001"),
        (None, {}, None, "http://127.0.0.1:8080"),
        ("elsewhere:8080/", {}, None, URL),
    ],
)
def test_the_server_is_the_option_then_the_variable_then_the_noted_one_then_the_default(
    server: str | None, variables: dict[str, str], noted: Target | None, expected: str
) -> None:
    assert target.find(server, None, variables=variables, noted=lambda: noted).url == expected


def test_the_token_is_the_option_then_the_variable_then_the_noted_one() -> None:
    def token(given: str | None, **variables: str) -> str | None:
        return target.find(None, given, variables=variables, noted=lambda: NOTED).token

    assert token("given", HODEI_API_TOKEN="variable") == "given"
    assert token(None, HODEI_API_TOKEN="variable") == "variable"
    assert token(None) == "noted"


def test_the_noted_token_goes_to_no_other_server() -> None:
    assert target.find(URL, None, variables={}, noted=lambda: NOTED).token is None


@pytest.mark.parametrize(
    "typed",
    [
        "ftp://x",
        "http://[::1",
        "[::1",
        "http://[nowhere]",
        "https://",
        "http://:80",
        "http://x:99999",
        "x:port",
        "a..b",
        "x" * 64,
        "xn--zzzzzzz999999",
    ],
)
def test_what_is_no_servers_address_is_a_mistake(typed: str) -> None:
    for server, variables in ((typed, {}), (None, {"HODEI_URL": typed})):
        with pytest.raises(InvalidInput, match="is not a server's address such as"):
            target.find(server, None, variables=variables, noted=lambda: None)


def test_an_address_of_ipv6_stays_as_it_is() -> None:
    assert target.find("[::1]:80", None, variables={}, noted=lambda: None).url == "http://[::1]:80"
