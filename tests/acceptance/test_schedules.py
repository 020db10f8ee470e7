"""Schedules through the front door, on a whole platform; and three clocks that are killed at random."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.pipelines import plain_pipeline
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.waiting import until

SCHEDULES, MINUTES, KILLS = 40, 30, 5
CLOCKS = ("beat-1", "beat-2", "beat-3")


def call(platform: RunningPlatform, method: str, path: str, **more: Any) -> httpx.Response:
    address = f"{platform.service_url('scheduler')}/api/v1{path}"
    return httpx.request(method, address, timeout=30, trust_env=False, **more)


def submit(platform: RunningPlatform, **job: Any) -> str:
    answer = httpx.post(f"{platform.url}/api/v1/jobs", json=job, timeout=30, trust_env=False)
    return answer.json()["id"]


def finished(platform: RunningPlatform, command: str) -> str:
    return platform.hodei(
        "job", "run", "--provider", "process", "--command", command, "--wait"
    ).stdout.strip()


def jobs_of(platform: RunningPlatform, schedule_id: str) -> list[tuple[UUID, datetime, str]]:
    return platform.sql(
        "SELECT id, scheduled_for, state FROM jobs WHERE schedule_id = %s ORDER BY scheduled_for", schedule_id
    )


def events(platform: RunningPlatform, schedule_id: str) -> list[str]:
    happened = platform.sql(
        "SELECT event_type FROM domain_events WHERE aggregate_id = %s ORDER BY occurred_at", schedule_id
    )
    return [kind for (kind,) in happened]


def test_a_time_that_comes_runs_the_definition_and_the_job_says_which_time(running: RunningPlatform) -> None:
    # given
    job_id = finished(running, "echo scheduled")
    at = datetime.now(UTC) + timedelta(seconds=2)

    # when
    answer = call(running, "POST", "/schedule", json={"job_id": job_id, "schedule_time": at.isoformat()})

    # then
    made = answer.json()
    assert (answer.status_code, made["job_id"], made["status"]) == (201, job_id, "scheduled")
    [(fired, scheduled_for, _)] = until(lambda: jobs_of(running, made["id"]), what="the firing")
    assert abs(scheduled_for - at) < timedelta(milliseconds=1)
    with running.client() as client:
        job = client.wait(str(fired)).document
        assert client.log_text(str(fired)) == "scheduled\n"
        assert any(made["id"] in detail for detail in client.why(str(fired)).details)
    assert (job["status"], job["schedule_id"]) == ("succeeded", made["id"])
    assert datetime.fromisoformat(job["scheduled_for"]) == scheduled_for
    assert call(running, "GET", f"/scheduled/{made['id']}").json()["status"] == "ended"
    assert events(running, made["id"]) == ["ScheduleCreated", "ScheduleFired", "ScheduleEnded"]


def test_a_definition_without_a_command_is_accepted_and_its_firing_skipped_with_an_event(
    running: RunningPlatform,
) -> None:
    with running.client() as client:
        pipeline_id = plain_pipeline(client)
    job_id = submit(running, name="held", pipeline_id=pipeline_id, provider="process")
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()

    made = call(running, "POST", "/schedule", json={"job_id": job_id, "schedule_time": soon}).json()

    until(lambda: "ScheduleEnded" in events(running, made["id"]), what="the schedule's end")
    assert events(running, made["id"]) == ["ScheduleCreated", "ScheduleFiringSkipped", "ScheduleEnded"]
    assert jobs_of(running, made["id"]) == []
    [firing] = call(running, "GET", f"/scheduled/{made['id']}/firings").json()
    assert (firing["outcome"], firing["job_id"]) == ("skipped", None)
    assert "no command" in firing["reason"]


def test_the_routes_answer_in_their_shapes_and_unknown_ids_are_404(running: RunningPlatform) -> None:
    job_id = finished(running, "true")
    body = {"job_id": job_id, "cron": "@daily", "timezone": "Europe/Berlin", "overlap": "allow"}
    once = {"Idempotency-Key": str(uuid4())}

    first, again = (call(running, "POST", "/schedule", json=body, headers=once) for _ in range(2))

    made = first.json()
    path = f"/scheduled/{made['id']}"
    assert again.json() == made
    assert first.headers["Location"] == f"/api/v1{path}"
    assert made["id"] in [item["id"] for item in call(running, "GET", f"/scheduled?job_id={job_id}").json()]
    assert call(running, "PATCH", path, json={"status": "paused"}).json()["status"] == "paused"
    assert len(call(running, "GET", f"{path}/upcoming?count=3").json()) == 3
    fired = call(running, "POST", f"{path}/trigger", headers={"Idempotency-Key": str(uuid4())})
    assert (fired.status_code, fired.json()["outcome"]) == (201, "fired")
    said = call(running, "POST", "/schedule/validate", json={"cron": "0 25 * * *"}).json()
    assert (said["valid"], said["field"]) == (False, "cron") and "'25' is not an hour" in said["message"]
    few = call(running, "POST", "/schedule/validate", json={"cron": "* * * *"}).json()
    assert (few["valid"], few["field"]) == (False, "cron") and "this one has 4" in few["message"]
    assert call(running, "DELETE", path).status_code == 204
    with running.client() as client:
        assert client.wait(fired.json()["job_id"]).status == "succeeded"  # its jobs stay, and run
    unknown = f"/scheduled/{uuid4()}"
    asked = [
        call(running, "POST", "/schedule", json=body | {"job_id": str(uuid4())}),
        call(running, "PATCH", unknown, json={"status": "paused"}),
        call(running, "POST", f"{unknown}/trigger"),
        *(call(running, "GET", unknown + part) for part in ("", "/upcoming", "/firings")),
        call(running, "DELETE", path),
    ]
    assert [(one.status_code, one.json()["code"]) for one in asked] == [(404, "not_found")] * len(asked)


def test_the_command_line_makes_watches_and_ends_a_schedule(running: RunningPlatform) -> None:
    job_id = finished(running, "exit 0")

    made = running.hodei("schedule", "create", "--job", job_id, "--cron", "30 2 * * *", "--overlap", "queue")
    schedule_id = made.stdout.strip()

    assert str(UUID(schedule_id)) == schedule_id, made.stderr
    assert schedule_id in running.hodei("schedule", "list", "--job", job_id).stdout
    times = running.hodei("schedule", "next", schedule_id, "--count", "2").stdout.splitlines()
    assert [time.split()[1] for time in times] == ["02:30:00", "02:30:00"]
    assert running.hodei("schedule", "pause", schedule_id).stdout == "Status: PAUSED\n"
    assert running.hodei("schedule", "resume", schedule_id).stdout.startswith("Status: SCHEDULED\nNext: ")
    run = running.hodei("schedule", "trigger", schedule_id).stdout.strip()
    assert running.hodei("job", "wait", run).returncode == 0
    refused = running.hodei("schedule", "create", "--job", job_id, "--cron", "0 0 31 2 *")
    assert refused.returncode == 3 and "it would never fire" in refused.stderr
    assert running.hodei("schedule", "delete", schedule_id).returncode == 0
    assert running.hodei("schedule", "next", schedule_id).returncode == 3


@pytest.fixture
def clocks(servers: Servers, tmp_path: Path) -> Iterator[RunningPlatform]:
    """HTTP alone; the test starts the clocks. Nothing is dispatched: jobs stay in the queue."""
    with fresh_database(servers) as url:
        with RunningPlatform(tmp_path, url, servers.redis_url, names=["serve"]) as started:
            yield started


def _more_than(clocks: RunningPlatform, number: int) -> int:
    """How many firings there are, once there are more than that."""

    def fired() -> int:
        found = clocks.sql("SELECT count(*) FROM jobs WHERE schedule_id IS NOT NULL")[0][0]
        return found if found > number else 0

    return until(fired, within_s=60, what=f"more than {number} firings")


def test_three_clocks_killed_at_random_fire_each_time_once(clocks: RunningPlatform) -> None:
    # given schedules of each minute, that nobody attended to for half an hour
    job_id = submit(clocks, name="each-minute", command="true", provider="process")
    body = {
        "job_id": job_id, "cron": "* * * * *", "overlap": "allow", "catch_up": "all", "catch_up_limit": 1000,
    }  # fmt: skip
    made = [call(clocks, "POST", "/schedule", json=body).json()["id"] for _ in range(SCHEDULES)]
    [(first,)] = clocks.sql("SELECT date_trunc('minute', now()) - make_interval(mins => %s)", MINUTES)
    clocks.sql("UPDATE hodei.schedules SET next_at = %s, next_due_at = %s", first, first)
    draw = random.Random(20260801)
    for name in CLOCKS:
        clocks.start(name)

    # when one of them is killed again and again while they fire, each second time the one that does it
    fired = 0
    for kill in range(KILLS):
        fired = _more_than(clocks, fired)
        owner = clocks.sql("SELECT split_part(owner, ':', 2)::int FROM hodei.loops WHERE name = 'schedules'")[
            0
        ][0]
        at_work = [name for name in CLOCKS if clocks.processes[name].pid == owner]
        name = at_work[0] if at_work and kill % 2 == 0 else draw.choice(CLOCKS)
        clocks.kill(name)
        clocks.start(name)
    until(
        lambda: clocks.sql("SELECT min(next_at) > now() FROM hodei.schedules")[0][0],
        within_s=90,
        what="the present",
    )

    # then each schedule has one job for each minute
    times: dict[str, list[datetime]] = {each: [] for each in made}
    for schedule_id, scheduled_for in clocks.sql(
        "SELECT schedule_id, scheduled_for FROM jobs WHERE schedule_id IS NOT NULL ORDER BY scheduled_for"
    ):
        times[str(schedule_id)].append(scheduled_for)
    for each in times.values():
        assert len(each) > MINUTES
        assert each == [first + timedelta(minutes=n) for n in range(len(each))]
    told = Counter(
        clocks.sql(
            "SELECT aggregate_id, payload ->> 'scheduled_for' FROM domain_events WHERE event_type = 'ScheduleFired'"
        )
    )
    assert set(told.values()) == {1}
    assert len(told) == sum(map(len, times.values()))
    with clocks.client() as client:
        assert client.health().checks["clock"].ok
