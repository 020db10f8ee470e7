"""What may not be left of a worker that has ended: no container, no pod."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from uuid import UUID

from e2e.ledger import Off, within
from e2e.records import GONE_WITHIN_S, Submitted
from e2e.system import System


def docker(*arguments: str, limit_s: float = 60.0) -> str:
    """What a docker command prints. Off with its last words."""
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=limit_s, check=False
        )
    except FileNotFoundError:
        raise Off("There is no docker command here: install Docker.") from None
    if done.returncode:
        raise Off(f"docker {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout.strip()


def worker_ids(system: System, jobs: Sequence[Submitted]) -> list[str]:
    rows = system.sql(
        "SELECT DISTINCT worker_id FROM hodei.executions WHERE job_id = ANY(%s)",
        [UUID(job.id) for job in jobs],
    )
    return [str(worker_id) for (worker_id,) in rows if worker_id]


def containers(*filters: str) -> list[str]:
    """Names and states of the containers, running or not, that ``docker ps`` finds."""
    options = [word for one in filters for word in ("--filter", one)]
    return docker("ps", "--all", "--format", "{{.Names}} ({{.Status}})", *options).splitlines()


def check_containers(system: System, jobs: Sequence[Submitted]) -> str:
    """Within five seconds of the jobs' end none of their workers' containers is there."""
    ids = worker_ids(system, jobs)
    left: list[str] = []

    def gone() -> bool:
        left[:] = [one for one in containers("name=hodei-worker-") if any(worker in one for worker in ids)]
        return not left

    try:
        within(GONE_WITHIN_S, "their end", gone)
    except Off:
        raise Off("left over: " + ", ".join(left)) from None
    return f"docker ps --all --filter name=hodei-worker shows none of {len(ids)} workers"


def check_deployment(deployment: str) -> str:
    """Nothing on this engine belongs to a system that was stopped."""
    left = containers(f"label=hodei.deployment={deployment}")
    if left:
        raise Off("left over: " + ", ".join(left))
    return f"no container of deployment {deployment}"


def remove_deployment(deployment: str) -> None:
    """Removes what a system left that could not end it any more."""
    ids = docker("ps", "--all", "--quiet", "--filter", f"label=hodei.deployment={deployment}").split()
    if ids:
        docker("rm", "--force", *ids)
