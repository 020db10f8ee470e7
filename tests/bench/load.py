"""Many jobs at once, eight workers at a time, beside a hand-written Celery task and bare `docker run` doing the same.

100 jobs on the process provider, 30 on Docker: the time until the last one's end is readable, and jobs per second.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from support.platform import CHECKOUT, E2E_IMAGE
from support.waiting import until

from bench.baseline import SHELL_LINE, docker_run
from bench.stage import Stage, arguments, open_stage, table

AT_ONCE = 8


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--process-jobs", type=int, default=100)
    parser.add_argument("--docker-jobs", type=int, default=30)
    parser.add_argument("--image", default=E2E_IMAGE)
    given = parser.parse_args()
    enabled = "1" if given.docker_jobs else "0"
    with open_stage(given.servers, docker_enabled=enabled, worker_image=given.image) as stage:
        stage.platform.sql("UPDATE provider_configs SET max_workers = %s", AT_ONCE)
        if given.process_jobs:
            count = given.process_jobs
            ours = hodei(stage, "process", count)
            with celery_worker(stage) as send:
                theirs = send("run_process", count)
            bare = eight_at_a_time(_bare_process, count)
            _print("process", count, ours, theirs, "bash, eight at a time", bare)
        if given.docker_jobs:
            count = given.docker_jobs
            docker_run(given.image)
            ours = hodei(stage, "docker", count)
            with celery_worker(stage) as send:
                theirs = send("run_container", count, given.image)
            bare = eight_at_a_time(lambda: docker_run(given.image), count)
            _print("Docker", count, ours, theirs, "docker run, eight at a time", bare)
    return 0


def hodei(stage: Stage, provider: str, count: int) -> float:
    """Makespan: from the submit of all to the last one's end read over HTTP; then all workers are awaited."""
    stage.wait(stage.submit(name="warm", provider=provider, command=SHELL_LINE))
    began = time.monotonic()
    ids = stage.submit_batch([{"name": "load", "provider": provider, "command": SHELL_LINE}] * count)
    ended = [stage.wait(job_id, within_s=600) for job_id in ids]
    took = time.monotonic() - began
    assert all(job["status"] == "succeeded" for job in ended), [job["error"] for job in ended]
    left = "SELECT count(*) FROM workers WHERE state <> 'TERMINATED'"
    until(lambda: stage.platform.sql(left)[0][0] == 0, within_s=30, what="no worker left")
    return took


@contextlib.contextmanager
def celery_worker(stage: Stage) -> Iterator[Callable[..., float]]:
    """A prefork worker of eight for the hand-written tasks; yields what sends many and waits for all results."""
    url = stage.servers.redis_url
    env = stage.platform.env | {"BENCH_REDIS_URL": url, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}"}
    command = [sys.executable, "-m", "celery", "-A", "tests.bench.handwritten", "worker", f"-c{AT_ONCE}"]
    worker = subprocess.Popen(
        [*command, "--without-mingle", "--without-gossip", "--loglevel=ERROR"],
        env=env,
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.environ["BENCH_REDIS_URL"] = url
    from bench.handwritten import app

    app.conf.update(broker_url=url, result_backend=url)

    def send(task: str, count: int, *arguments: str) -> float:
        began = time.monotonic()
        results = [app.send_task(task, args=arguments) for _ in range(count)]
        outputs = [result.get(timeout=600) for result in results]
        took = time.monotonic() - began
        assert outputs == ["hello\n"] * count
        return took

    try:
        until(lambda: app.control.inspect(timeout=1).ping(), within_s=30, what="the hand-written worker")
        warm = app.send_task("run_process")
        assert warm.get(timeout=60) == "hello\n"
        yield send
    finally:
        worker.terminate()
        worker.wait(20)


def eight_at_a_time(run: Callable[[], object], count: int) -> float:
    """Makespan of so many runs in eight threads."""
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(run) for _ in range(count)]:
            done.result()
    return time.monotonic() - began


def _bare_process() -> None:
    subprocess.run(["bash", "-c", SHELL_LINE], capture_output=True, check=True)


def _print(where: str, count: int, ours: float, theirs: float, bare_name: str, bare: float) -> None:
    rows = [
        [name, f"{took:.2f} s", f"{count / took:.1f}", f"{ours / took:.2f}"]
        for name, took in (("hodei", ours), ("hand-written Celery task", theirs), (bare_name, bare))
    ]
    title = f"{count} jobs at once on {where}, {AT_ONCE} workers at a time"
    table(title, ["what", "makespan", "jobs/s", "hodei is so many times as long"], rows)


if __name__ == "__main__":
    sys.exit(main())
