"""The start of a process: it finds the built-in providers, or writes them, whoever else is at it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal
from uuid import uuid4

import psycopg2
import pytest
from structlog.testing import capture_logs
from support.servers import Servers

from hodei import bootstrap
from hodei.bootstrap import open_platform
from hodei.domain.ids import DOCKER_PROVIDER_ID, PROCESS_PROVIDER_ID
from hodei.settings import Settings, load_settings
from hodei.storage import migrate

AT_ONCE = 8
ROUNDS = 5


@pytest.fixture
def settings(servers: Servers, database_url: str, tmp_path: Path) -> Settings:
    return load_settings(
        {},
        database_url=database_url,
        redis_url=servers.redis_url,
        data_dir=tmp_path / "data",
        log_dir=tmp_path / "logs",
        secret_key="a key of the tests, long enough",
        docker_enabled="1",
        kubernetes_enabled="0",
        process_enabled=True,
    )


ID_AND_NAME = "SELECT id::text, name FROM provider_configs ORDER BY name"
CHECKED_AT = "SELECT id::text, checked_at::text FROM provider_configs WHERE name = 'docker'"


def providers(database_url: str, statement: str = "", select: str = ID_AND_NAME) -> list[tuple[str, str]]:
    """Id and name of each, or what is selected, after the statement."""
    connection = psycopg2.connect(database_url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(f"{statement}; {select}")
            return cursor.fetchall()
    finally:
        connection.close()


def start(settings: Settings, role: str = "orchestrator") -> None:
    open_platform(settings, role=role).close()


def test_many_that_start_at_once_write_each_built_in_provider_once(
    settings: Settings, database_url: str
) -> None:
    migrate.upgrade(database_url)
    built_in = [(str(DOCKER_PROVIDER_ID), "docker"), (str(PROCESS_PROVIDER_ID), "process")]
    for _ in range(ROUNDS):
        # given
        assert providers(database_url, "DELETE FROM provider_configs") == []
        together = threading.Barrier(AT_ONCE)

        def begin(together: threading.Barrier = together) -> None:
            together.wait(30)
            start(settings)

        # when
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for begun in [pool.submit(begin) for _ in range(AT_ONCE)]:
                begun.result()

        # then
        assert providers(database_url) == built_in


def test_a_provider_that_somebody_gave_a_built_in_ones_name_stays(
    settings: Settings, database_url: str
) -> None:
    # given one from when Docker was switched off here
    migrate.upgrade(database_url)
    own = str(uuid4())
    providers(
        database_url,
        "INSERT INTO provider_configs (id, name, provider_type, status, config, max_workers) "
        f"VALUES ('{own}', 'docker', 'docker', 'UNHEALTHY', '{{}}', 1)",
    )

    # when
    start(settings)

    # then
    assert (own, "docker") in providers(database_url)
    assert str(DOCKER_PROVIDER_ID) not in dict(providers(database_url))


@pytest.mark.parametrize(
    ("seconds_ago", "role", "docker_enabled", "looked_at"),
    [
        (20, "orchestrator", "auto", False),
        (120, "orchestrator", "auto", True),
        (20, "beat", "auto", True),
        (20, "orchestrator", "1", True),
    ],
    ids=["well just now", "well long ago", "for one that uses providers", "must be reachable"],
)
def test_a_service_does_not_look_again_at_what_was_found_well_just_now(
    settings: Settings,
    database_url: str,
    seconds_ago: int,
    role: str,
    docker_enabled: Literal["auto", "1"],
    looked_at: bool,
) -> None:
    # given
    settings = settings.model_copy(update={"docker_enabled": docker_enabled})
    start(settings)
    ((_, before),) = providers(
        database_url,
        "UPDATE provider_configs SET status = 'ACTIVE', "
        f"checked_at = clock_timestamp() - interval '{seconds_ago} s'",
        CHECKED_AT,
    )

    # when
    start(settings, role)

    # then
    ((_, after),) = providers(database_url, "", CHECKED_AT)
    assert (after != before) is looked_at


def test_a_provider_that_was_away_is_looked_at_by_every_start(settings: Settings, database_url: str) -> None:
    start(settings)
    statement = "UPDATE provider_configs SET status = 'UNHEALTHY'"
    ((_, before),) = providers(database_url, statement, CHECKED_AT)

    start(settings)

    ((_, after),) = providers(database_url, "", CHECKED_AT)
    assert after != before


def test_a_folder_of_logs_that_hangs_stops_no_start(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    answers = threading.Event()

    class Hung(type(settings.log_dir)):  # type: ignore[misc]
        def mkdir(self, *_: object, **__: object) -> None:
            answers.wait()

    settings = settings.model_copy(update={"log_dir": Hung(settings.log_dir), "docker_enabled": "0"})
    monkeypatch.setattr(bootstrap, "LOG_FOLDER_WAITS_S", 0.2)

    # when
    starting = threading.Thread(target=start, args=(settings,), daemon=True)
    starting.start()
    starting.join(30)

    # then
    hung = starting.is_alive()
    answers.set()
    assert not hung


def test_a_folder_of_logs_that_cannot_be_made_is_said_and_stops_no_start(
    settings: Settings, database_url: str
) -> None:
    settings.log_dir.write_text("in the way")
    with capture_logs() as said:
        start(settings.model_copy(update={"docker_enabled": "0"}))

    [line] = [line for line in said if "HODEI_LOG_DIR" in line["event"]]
    assert line["path"] == str(settings.log_dir)
    assert line["reason"] == "File exists"
