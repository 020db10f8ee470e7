"""Phase 7: the same in pods, where there is a cluster."""

from __future__ import annotations

from uuid import UUID

from e2e import isolation, pods, providers, remains
from e2e.jobs import Watcher
from e2e.ledger import Off, equal, within
from e2e.records import GONE_WITHIN_S, Submitted, check_job

TYPED = {
    "k8s-echo": (
        r"""hodei job run --name k8s-echo --provider kubernetes --command "echo 'Hello from Hodei Kubernetes Worker!'" --timeout 60""",
        "Hello from Hodei Kubernetes Worker!\n",
    ),
    "k8s-env": (
        r"""hodei job run --name k8s-env --provider kubernetes --command "bash -c 'echo MY_VAR=\$MY_VAR && sleep 2 && echo Done'" --env "MY_VAR=in_a_pod" --timeout 60""",
        "MY_VAR=in_a_pod\nDone\n",
    ),
}  # fmt: skip


def check(watcher: Watcher, docker_jobs: list[Submitted], *, log_files_here: bool) -> None:
    """Nothing to do where there is none; where somebody said that there must be one, that is a failure."""
    ledger, system = watcher.ledger, watcher.system
    if providers.kubernetes_status(system) != "ACTIVE":
        ledger.prove("there is no cluster here, and none was promised", lambda: _none(watcher))
        return
    before = {job.id for job in docker_jobs}
    jobs: list[Submitted] = []
    note = watcher.note
    watcher.note = lambda job: (jobs.append(job), note(job))[1]
    try:
        for name, (line, output) in TYPED.items():
            watcher.run(name, line, output, provider="kubernetes")
    finally:
        watcher.note = note
    for job in jobs:
        check_job(ledger, system, job, log_files_here=log_files_here)
        ledger.prove(
            f"{job.name}: its worker's resource is the pod of its name",
            lambda job=job: _is_a_pod(watcher, job),
        )
    ledger.prove("each job had a worker of its own", lambda: isolation.check_workers(system, jobs))
    ledger.prove(
        "they made no container outside of their pods", lambda: remains.check_containers(system, jobs)
    )
    ledger.prove(
        "no pod is left of them, and the Docker jobs made none", lambda: _no_pods(watcher, jobs, before)
    )


def _none(watcher: Watcher) -> str:
    status = providers.kubernetes_status(watcher.system) or "switched off"
    if providers.wants_kubernetes(watcher.system.env):
        raise Off(f"Kubernetes is {status}. What is wrong: hodei provider health kubernetes")
    return f"Kubernetes is {status}: nothing was run there"


def _is_a_pod(watcher: Watcher, job: Submitted) -> str:
    [(worker_id, resource)] = watcher.system.sql(
        "SELECT worker_id, provider_resource_id FROM jobs JOIN workers ON workers.id = worker_id WHERE jobs.id = %s",
        UUID(job.id),
    )
    equal("pod", resource.rpartition("/")[2], f"hodei-worker-{worker_id}")
    return str(resource)


def _no_pods(watcher: Watcher, jobs: list[Submitted], docker_jobs: set[str]) -> str:
    ours = {job.id for job in jobs}

    def seen() -> dict[str, str]:
        return {
            pod.metadata.labels.get("hodei.io/job-id", ""): pod.metadata.name
            for pod in pods.pods(watcher.system.env)
        }

    wrong = [name for job, name in seen().items() if job in docker_jobs]
    if wrong:
        raise Off(f"pods of Docker jobs: {', '.join(wrong)}")
    within(GONE_WITHIN_S, f"the end of the pods of {', '.join(ours)}", lambda: not ours & seen().keys())
    return f"kubectl get pods --selector hodei-worker shows none of {len(ours) + len(docker_jobs)} jobs"
