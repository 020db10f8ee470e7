from __future__ import annotations

import pytest

from hodei import settings
from hodei.cli import environment


def test_the_names_are_those_of_the_settings() -> None:
    expected = {name.upper() for name in settings.Settings.model_fields} | settings.NOT_SETTINGS
    assert expected == environment.KNOWN


@pytest.mark.parametrize(
    "variable",
    ["HODEI_DATABSE_URL", "HODEI_XYZZY", "HODEI_URL", "HODEI_BIND", "HODEI_ORCHESTRATOR_SERVICE_HOST",
     "HODEI_API_PORT_80_TCP_ADDR", "PATH", "HODEI_"],
)  # fmt: skip
def test_a_variable_is_warned_of_exactly_when_a_server_would_stop(variable: str) -> None:
    given = {variable: "1"}
    assert bool(environment.warnings(given)) == bool(settings.unknown_variables(given))


def test_a_misspelt_variable_gets_the_nearest_name() -> None:
    assert environment.warnings({"HODEI_DATABSE_URL": "x"}) == [
        "HODEI_DATABSE_URL is not a setting: did you mean HODEI_DATABASE_URL?"
    ]
