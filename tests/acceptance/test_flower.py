"""Flower: to look, behind credentials, with names that mean something; and it remembers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.waiting import until

from hodei.embedded.ports import free_port

WHO = ("operator", "a password, with a comma")


@pytest.fixture(scope="module")
def watched(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with fresh_database(servers) as url:
        running = RunningPlatform(
            tmp_path_factory.mktemp("flower"),
            url,
            servers.redis_url,
            names=("serve", "controller", "beat", "flower"),
            flower_port=str(free_port()),
            flower_basic_auth=":".join(WHO),
        )
        with running:
            until(lambda: answers(running), within_s=40, what="Flower's answer")
            yield running


def ask(platform: RunningPlatform, path: str, *, method: str = "GET", auth: Any = WHO) -> httpx.Response:
    address = f"http://127.0.0.1:{platform.env['HODEI_FLOWER_PORT']}{path}"
    return httpx.request(method, address, auth=auth, timeout=30)


def answers(platform: RunningPlatform) -> bool:
    try:
        return ask(platform, "/healthcheck").status_code == 200
    except httpx.TransportError:
        return False


def task_names(platform: RunningPlatform) -> set[str]:
    found = ask(platform, "/api/tasks?limit=1000")
    found.raise_for_status()
    return {task["name"] for task in found.json().values()}


@pytest.mark.parametrize("path", ["/", "/tasks", "/workers", "/api/tasks", "/api/workers"])
def test_whoever_has_no_credentials_sees_nothing(watched: RunningPlatform, path: str) -> None:
    assert ask(watched, path, auth=None).status_code == 401
    assert ask(watched, path, auth=("operator", "guessed")).status_code == 401


def test_it_only_looks(watched: RunningPlatform) -> None:
    for path in ("/api/worker/shutdown/any", "/api/task/revoke/any", "/api/task/apply/dispatch.look"):
        assert ask(watched, path, method="POST").status_code == 403, path


def test_tasks_have_the_names_of_the_steps_and_a_restart_forgets_none(watched: RunningPlatform) -> None:
    # when
    done = watched.hodei("job", "run", "--provider", "process", "--command", "true", "--wait")
    assert done.returncode == 0, done.stderr

    # then
    steps = {
        "provisioning.validate_provider_capacity",
        "provisioning.register_worker",
        "provisioning.create_infrastructure",
        "execution.assign_worker",
        "execution.execute_job",
        "execution.complete_job",
        "dispatch.look",
        "workers.destroy",
    }
    until(lambda: steps <= task_names(watched), within_s=30, what="the steps in Flower")

    # and when it is started again while nothing happens
    watched.kill("flower", signal.SIGTERM)
    watched.start("flower")
    until(lambda: answers(watched), within_s=40, what="Flower's answer")

    # then
    assert steps <= task_names(watched)
