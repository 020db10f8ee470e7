"""How long `echo hello` takes on Kubernetes from submit to a terminal state read over HTTP, beside a bare pod of the same image.

The bare pod is what a worker's is without the agent; it is made, and its end is waited for on a watch, by the provider's own
client. Jobs and pods take turns, each starting when no worker is left. A real cluster needs HODEI_K8S_TEST=1 and KUBECONFIG.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from support.clusters import Cluster, real_cluster, stand_in_cluster
from support.k8s_stand_in.cluster import WORKERS
from support.platform import E2E_IMAGE
from support.pods import left
from support.waiting import until

from bench.stage import Stage, arguments, open_stage, spread, table, verdict
from hodei.providers.contract import WorkerRequest
from hodei.providers.kubernetes.api import ApiServer
from hodei.providers.kubernetes.config import KubernetesConfig
from hodei.providers.kubernetes.pod import Place, worker_pod

RATIO = 1.3
PODS = f"/api/v1/namespaces/{WORKERS}/pods"
BARE = "hodei-bench"


def main() -> int:
    real = os.environ.get("HODEI_K8S_TEST") == "1"
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=15)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hodei-bench-")))
        cluster = stack.enter_context(real_cluster(folder) if real else stand_in_cluster())
        stage = stack.enter_context(
            open_stage(given.servers, kubernetes_enabled="1", k8s_kubeconfig=str(cluster.control_plane))
        )
        api = ApiServer(cluster.control_plane, None, timeout_s=15)
        stack.callback(api.close)
        return 0 if _measure(stage, cluster, api, given.jobs) else 1


def _measure(stage: Stage, cluster: Cluster, api: ApiServer, count: int) -> bool:
    _job(stage)
    _bare_pod(api)
    jobs, pods, steps = [], [], []
    for _ in range(count):
        until(lambda: not left(cluster, stage.platform), within_s=30, what="no worker left")
        job_id, took = _job(stage)
        jobs.append(took)
        steps.append(_steps(stage, job_id))
        until(lambda: not left(cluster, stage.platform), within_s=30, what="no worker left")
        pods.append(_bare_pod(api))
    ratio = statistics.median(jobs) / statistics.median(pods)
    where = "the stand-in" if cluster.stand_in else "a real cluster"
    table(
        f"Cold start on Kubernetes ({where}): {count} jobs, {count} bare pods, in turns",
        ["what", "median (least to most)", "ratio"],
        [
            ["hodei: submit to terminal state over HTTP", spread(jobs), f"{ratio:.2f}"],
            ["a bare pod", spread(pods), "1.00"],
        ],
    )
    rows = [[name, f"{statistics.median(one[name] for one in steps) * 1000:.0f} ms"] for name in steps[0]]
    table("Where the time of a job went (medians)", ["stretch", "took"], rows)
    return verdict("cold start / bare pod", ratio, RATIO)


def _job(stage: Stage) -> tuple[str, float]:
    began = time.monotonic()
    job_id = stage.submit(name="bench", provider="kubernetes", command="echo hello")
    job = stage.wait(job_id)
    assert job["status"] == "succeeded", job
    return job_id, time.monotonic() - began


def _steps(stage: Stage, job_id: str) -> dict[str, float]:
    """From what Postgres noted: until the worker was asked for, had registered, and the job had ended."""
    [(asked, registered, ended)] = stage.platform.sql(
        "SELECT extract(epoch FROM s.started_at - j.created_at), extract(epoch FROM e.created_at - s.started_at),"
        " extract(epoch FROM j.completed_at - e.created_at) FROM jobs j"
        " JOIN sagas p ON p.correlation_id = j.id AND p.saga_type = 'PROVISIONING'"
        " JOIN saga_steps s ON s.saga_id = p.id AND s.step_name = 'CreateInfrastructure'"
        " JOIN hodei.executions e ON e.job_id = j.id WHERE j.id = %s",
        job_id,
    )
    return {
        "submit → the pod is asked for": float(asked),
        "→ the agent is ready and has the job": float(registered),
        "→ the job has ended": float(ended),
    }


def _bare_pod(api: ApiServer) -> float:
    """The seconds from its creation to its end on a watch; it is removed afterwards."""
    body = _manifest()
    name = body["metadata"]["name"]
    began = time.monotonic()
    made = api.create(PODS, body)
    for pod in _watched(api, name, made["metadata"]["resourceVersion"]):
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            took = time.monotonic() - began
            assert pod["status"]["phase"] == "Succeeded", pod["status"]
            api.call("DELETE", f"{PODS}/{name}", body={"gracePeriodSeconds": 1})
            return took
    raise TimeoutError(f"the pod {name} did not end")


def _watched(api: ApiServer, name: str, version: str) -> Iterator[dict[str, Any]]:
    query = {
        "watch": "1",
        "fieldSelector": f"metadata.name={name}",
        "resourceVersion": version,
        "timeoutSeconds": 60,
    }
    with api.stream(PODS, query=query, silence_s=60) as stream:
        for event in stream.documents():
            yield event["object"]


def _manifest() -> dict[str, Any]:
    """A worker's pod that runs a shell line, without a token and without our labels."""
    place = Place(
        namespace=WORKERS,
        service_account="hodei-jobs-worker",
        default_image=E2E_IMAGE,
        config=KubernetesConfig(),
    )
    request = WorkerRequest(worker_id=uuid4(), one_time_token="", deployment="bench")
    body = worker_pod(request, place, server_url="http://nobody")
    body["metadata"] |= {"name": f"{BARE}-{request.worker_id.hex[:12]}", "labels": {BARE: "true"}}
    [container] = body["spec"]["containers"]
    container |= {"command": ["/bin/sh", "-c", "echo hello"], "env": []}
    return body


if __name__ == "__main__":
    sys.exit(main())
