"""How long `echo hello` takes from submit to a terminal state read over HTTP, beside `docker run --rm` of the same container.

Jobs and runs take turns, each starting when no container of the measurement is left.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

from support.platform import E2E_IMAGE
from support.waiting import until

from bench.baseline import docker_run
from bench.stage import Stage, arguments, open_stage, spread, table, verdict

DOCKER_RATIO = 1.5
PROCESS_S = 0.5


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--image", default=E2E_IMAGE)
    parser.add_argument("--only", choices=("docker", "process"))
    given = parser.parse_args()
    good = True
    docker_enabled = "0" if given.only == "process" else "1"
    with open_stage(given.servers, docker_enabled=docker_enabled, worker_image=given.image) as stage:
        if given.only != "process":
            good &= _docker(stage, given.jobs, given.image)
        if given.only != "docker":
            good &= _process(stage, given.jobs)
    return 0 if good else 1


def _docker(stage: Stage, count: int, image: str) -> bool:
    deployment = str(stage.platform.sql("SELECT id FROM hodei.deployment")[0][0])
    docker_run(image)
    _one(stage, "docker")
    jobs, runs, shares = [], [], []
    for _ in range(count):
        _until_none_left(stage, deployment)
        took, parts = _one(stage, "docker")
        jobs.append(took)
        shares.append(parts)
        _until_none_left(stage, deployment)
        runs.append(docker_run(image))
    ratio = statistics.median(jobs) / statistics.median(runs)
    table(
        f"Cold start on Docker: {count} jobs, {count} docker run --rm, in turns",
        ["what", "median (least to most)", "ratio"],
        [["hodei: submit to terminal state over HTTP", spread(jobs), f"{ratio:.2f}"],
         ["docker run --rm", spread(runs), "1.00"]],
    )  # fmt: skip
    _print_shares(shares)
    return verdict("cold start / docker run", ratio, DOCKER_RATIO)


def _process(stage: Stage, count: int) -> bool:
    _one(stage, "process")
    jobs, shares = [], []
    for _ in range(count):
        until(lambda: not _live_workers(stage), what="no worker left")
        took, parts = _one(stage, "process")
        jobs.append(took)
        shares.append(parts)
    table(
        f"Cold start on process: {count} jobs", ["what", "median (least to most)"], [["hodei", spread(jobs)]]
    )
    _print_shares(shares)
    return verdict("cold start on process", statistics.median(jobs), PROCESS_S, " s")


def _one(stage: Stage, provider: str) -> tuple[float, dict[str, float]]:
    """One job: how long it took as its submitter saw it, and where the time went."""
    submitted = datetime.now(UTC)
    began = time.monotonic()
    job_id = stage.submit(name="bench", provider=provider, command="echo hello")
    job = stage.wait(job_id)
    took = time.monotonic() - began
    answered = datetime.now(UTC)
    assert job["status"] == "succeeded", job
    return took, _parts(stage, job_id, submitted, answered)


def _parts(stage: Stage, job_id: str, submitted: datetime, answered: datetime) -> dict[str, float]:
    """The stretches between what Postgres and Docker noted, in seconds; together they are the whole."""
    platform = stage.platform
    steps = {
        name: (started, ended)
        for name, started, ended in platform.sql(
            "SELECT step_name, st.started_at, st.completed_at FROM saga_steps st JOIN sagas s ON s.id = saga_id"
            " WHERE s.correlation_id = %s",
            job_id,
        )
    }
    events = platform.sql(
        "SELECT event_type, payload ->> 'new_state', occurred_at FROM domain_events WHERE aggregate_id = %s",
        job_id,
    )
    at = {kind if state in (None, "SUCCEEDED") else state: when for kind, state, when in events}
    resource, ready, reported = platform.sql(
        "SELECT w.provider_resource_id, w.id, e.reported_at FROM workers w JOIN hodei.executions e ON e.worker_id = w.id"
        " WHERE e.job_id = %s",
        job_id,
    )[0]
    ready = platform.sql(
        "SELECT started_at FROM sagas WHERE saga_type = 'EXECUTION' AND correlation_id = %s", job_id
    )
    docker = _container_events(resource) if len(str(resource)) == 64 else {}
    created, started = docker.get("create"), docker.get("start")
    marks = [
        ("submit: request, row", at["JobCreated"]),
        ("saga: dispatch, row, token", steps["CreateInfrastructure"][0]),
        ("create", created),
        ("start", started or steps["CreateInfrastructure"][1]),
        ("agent: begin, register, poll", ready[0][0]),
        ("saga: assign", steps["ExecuteJob"][0]),
        ("agent: receive, accept, start", at["RUNNING"]),
        ("agent: job, log, result", reported),
        ("saga: complete", at["JobStatusChanged"]),
        ("answer over HTTP", answered),
    ]
    parts, before = {}, submitted
    for name, when in marks:
        if when is not None:
            parts[name] = (when - before).total_seconds()
            before = when
    return parts


def _container_events(container_id: str) -> dict[str, datetime]:
    """When the engine had made and started the container: its events are kept for a while."""
    now = int(time.time())
    command = [
        "docker",
        "events",
        "--since",
        str(now - 60),
        "--until",
        str(now + 1),
        "--format",
        "{{json .}}",
    ]
    done = subprocess.run(
        [*command, "--filter", f"container={container_id}"], capture_output=True, text=True, check=True
    )
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    return {item["Action"]: datetime.fromtimestamp(item["timeNano"] / 1e9, UTC) for item in found}


def _print_shares(all_parts: list[dict[str, float]]) -> None:
    names = list(all_parts[0])
    middle = {name: statistics.median(parts.get(name, 0.0) for parts in all_parts) for name in names}
    whole = sum(middle.values())
    rows = [[name, f"{value * 1000:.0f} ms", f"{value / whole:.0%}"] for name, value in middle.items()]
    table("Where the time went (medians)", ["stretch", "took", "share"], rows)


def _live_workers(stage: Stage) -> int:
    return int(stage.platform.sql("SELECT count(*) FROM workers WHERE state <> 'TERMINATED'")[0][0])


def _until_none_left(stage: Stage, deployment: str) -> None:
    command = ["docker", "ps", "--all", "--quiet", "--filter", f"label=hodei.deployment={deployment}"]

    def none_left() -> bool:
        return (
            not _live_workers(stage) and not subprocess.run(command, capture_output=True, check=True).stdout
        )

    until(none_left, within_s=30, what="no worker's container left")


if __name__ == "__main__":
    sys.exit(main())
