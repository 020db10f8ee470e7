"""Only workers that were made here register, each once: any other token is refused with 401, and an event says so."""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.platform import RunningPlatform
from support.waiting import until

from hodei.vault import Vault


class Worker:
    """A live worker that has registered, and the one-time token that it was given."""

    def __init__(self, platform: RunningPlatform, job_id: str) -> None:
        with platform.client() as client:
            job = until(
                lambda: (one := client.job(job_id)).status == "running" and one, what="the job's start"
            )
        self.id: str = job.worker_id
        self.token = Vault(platform.env["HODEI_SECRET_KEY"]).derive(f"one-time-token:{self.id}")


@contextlib.contextmanager
def live_workers(platform: RunningPlatform, folder: Path, count: int) -> Iterator[list[Worker]]:
    """Workers whose jobs run until the block is left."""
    flag = folder / "go"
    job = {"command": f"until [ -e {flag} ]; do sleep 0.05; done", "provider": "process"}
    with platform.client() as client:
        jobs = client.create_jobs([job] * count)
        try:
            yield [Worker(platform, one.id) for one in jobs]
        finally:
            flag.touch()
            ended = [client.wait(one.id) for one in jobs]
    assert [one.status for one in ended] == ["succeeded"] * count, "the real agents went on undisturbed"


def register(platform: RunningPlatform, worker_id: str, token: str | None, **more: Any) -> httpx.Response:
    """What an agent asks first."""
    body = {
        "worker_id": worker_id, "protocol": 1, "agent_version": "0.1.0", "session_token": secrets.token_urlsafe(32),
        "hostname": "elsewhere", "pid": 1, "boot_id": "", "python": "3.11.2", "shells": ["sh"], "cgroup": 2,
    } | more  # fmt: skip
    headers = {"Hodei-Protocol": "1"} | ({"Authorization": f"Bearer {token}"} if token else {})
    url = f"{platform.service_url('worker-manager')}/api/v1/agent"
    answer = httpx.post(f"{url}/register", json=body, headers=headers, timeout=10)
    session = {"Hodei-Protocol": "1", "Authorization": f"Bearer {body['session_token']}"}
    inbox = httpx.get(f"{url}/inbox", params={"after": 0, "wait_s": 0}, headers=session, timeout=10)
    assert inbox.status_code == 401, "whoever was refused has no session"
    return answer


def known(platform: RunningPlatform) -> tuple[Any, ...]:
    """All that a registration could change."""
    return (
        platform.sql("SELECT count(*) FROM workers"),
        platform.sql("SELECT count(*) FROM domain_events WHERE event_type = 'WorkerRegistered'"),
        platform.sql(
            "SELECT token_hash, worker_id, kind, used_at, session_hash FROM hodei.worker_tokens ORDER BY 1"
        ),
        platform.sql("SELECT id, agent, registered_at FROM workers ORDER BY id"),
    )


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("wrong", "the token is not one of ours"),
        ("used", "the token was used before"),
        ("expired", "the token has expired"),
        ("another worker's", "the token is another worker's"),
        ("of a worker that nobody made", "the token is not one of ours"),
    ],
)
def test_a_token_that_is_not_good_registers_nobody_and_an_event_says_so(
    running: RunningPlatform, tmp_path: Path, how: str, reason: str
) -> None:
    with live_workers(running, tmp_path, 2) as (one, other):
        # given
        worker_id, token = {
            "wrong": (one.id, secrets.token_urlsafe(32)),
            "used": (one.id, one.token),
            "expired": (one.id, one.token),
            "another worker's": (other.id, one.token),
            "of a worker that nobody made": (str(uuid.uuid4()), secrets.token_urlsafe(32)),
        }[how]
        if how == "expired":
            running.sql(
                "UPDATE hodei.worker_tokens SET used_at = NULL, session_hash = NULL, "
                "expires_at = clock_timestamp() - interval '1 s' WHERE worker_id::text = %s AND kind = 'one_time'",
                one.id,
            )
        before = known(running)

        # when
        answer = register(running, worker_id, token)

        # then
        assert answer.status_code == 401
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthorized" and reason in answer.json()["detail"]
        assert known(running) == before
        events = running.sql(
            "SELECT payload ->> 'reason' FROM domain_events "
            "WHERE event_type = 'WorkerRegistrationRefused' AND aggregate_id::text = %s",
            worker_id,
        )
        assert events == [(reason,)]


def test_without_a_token_nobody_registers(running: RunningPlatform) -> None:
    # when
    answer = register(running, str(uuid.uuid4()), None)

    # then
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_worker_that_has_ended_cannot_come_back(running: RunningPlatform, tmp_path: Path) -> None:
    # given
    with live_workers(running, tmp_path, 1) as (worker,):
        pass
    until(
        lambda: running.sql("SELECT 1 FROM workers WHERE id::text = %s AND state = 'TERMINATED'", worker.id),
        what="the worker's end",
    )

    # when
    answer = register(running, worker.id, worker.token)

    # then
    assert answer.status_code == 401


def test_tokens_are_stored_hashed_and_are_in_no_table_event_or_log(
    running: RunningPlatform, tmp_path: Path
) -> None:
    # given
    with live_workers(running, tmp_path, 1) as (worker,):
        pass

    # then
    tables = running.sql(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', 'hodei')"
    )
    for (table,) in tables:
        query = f"SELECT count(*) FROM {table} AS row WHERE to_jsonb(row)::text LIKE %s"
        assert running.sql(query, f"%{worker.token}%") == [(0,)], table
    for name in running.processes:
        assert worker.token not in running.log_file(name).read_text()
