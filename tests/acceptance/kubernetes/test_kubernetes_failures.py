"""What goes wrong with a job's pod is known in seconds, and said in the words of those who know."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.clusters import Cluster
from support.images import image_without_agent, image_without_python
from support.k8s_stand_in.cluster import WORKERS
from support.platform import RunningPlatform
from support.pods import JOB, nothing_left, of, running
from support.waiting import until

pytestmark = pytest.mark.docker

NO_SUCH_IMAGE = "127.0.0.1:9/hodei/nothing:1"
SOON_S = 15.0
GONE_S = 10.0
"""After a failure; the kubelet needs its two seconds for a container that does not run."""


def submit(kube: RunningPlatform, **job: Any) -> str:
    with kube.client() as client:
        return client.create_job({"name": "t", "provider": "kubernetes", "command": "true", **job}).id


def test_a_missing_image_fails_within_seconds_with_the_kubelets_message(
    kube: RunningPlatform, cluster: Cluster
) -> None:
    # when
    job_id = submit(kube, image=NO_SUCH_IMAGE)
    began = time.monotonic()
    with kube.client() as client:
        job = client.wait(job_id)

    # then
    assert time.monotonic() - began < SOON_S
    assert job.error and (job.status, job.error.code) == ("failed", "ERR_3001")
    assert f'failed to resolve reference "{NO_SUCH_IMAGE}"' in job.error.message
    nothing_left(cluster, kube, within_s=GONE_S)


def test_a_job_that_fits_on_no_node_says_so_within_seconds_and_waits(
    kube: RunningPlatform, cluster: Cluster
) -> None:
    # when
    job_id = submit(kube, cpu=1000)
    until(
        lambda: "Insufficient cpu" in kube.hodei("job", "why", job_id).stdout,
        within_s=SOON_S,
        what="the reason",
    )

    # then
    with kube.client() as client:
        assert client.job(job_id).status == "scheduled"
        kube.hodei("job", "cancel", job_id)
        assert client.wait(job_id).status == "cancelled"
    nothing_left(cluster, kube, within_s=GONE_S)


def test_a_job_that_fits_on_no_node_fails_when_it_may_not_wait_longer(
    kube: RunningPlatform, cluster: Cluster
) -> None:
    # when
    job_id = submit(kube, cpu=1000, timeouts={"provision_s": 5})
    began = time.monotonic()
    with kube.client() as client:
        job = client.wait(job_id)

    # then
    assert time.monotonic() - began < SOON_S
    assert job.error and (job.status, job.error.code) == ("failed", "ERR_3008")
    assert "Insufficient cpu" in job.error.message
    nothing_left(cluster, kube, within_s=GONE_S)


def test_a_memory_hog_is_out_of_memory(kube: RunningPlatform, cluster: Cluster) -> None:
    # when
    job_id = submit(kube, command="python3 -c 'x = bytearray(600 << 20); print(len(x))'", memory="128m")
    with kube.client() as client:
        job = client.wait(job_id)

    # then
    assert job.error and (job.status, job.error.code) == ("failed", "ERR_1013")
    assert job.attempts == 1, "it is the user's, and tried once"
    nothing_left(cluster, kube, within_s=GONE_S)


def test_somebody_deletes_the_pod_of_a_running_job_and_it_is_tried_again_within_seconds(
    kube: RunningPlatform, cluster: Cluster
) -> None:
    # given
    job_id = submit(kube, command='echo "attempt $HODEI_ATTEMPT"; [ $HODEI_ATTEMPT = 2 ] || sleep 600')
    pod = until(lambda: running(cluster, kube, job_id), within_s=30, what="the pod")
    assert pod
    with kube.client() as client:
        until(lambda: client.log_text(job_id) == "attempt 1\n", what="the job's first line")

        # when
        cluster.core.delete_namespaced_pod(pod.metadata.name, WORKERS)

        # then
        until(lambda: client.job(job_id).attempts == 2, within_s=10, what="attempt 2")
        job = client.wait(job_id)
        assert job.status == "succeeded"
        assert client.log_text(job_id).endswith("attempt 2\n")
    nothing_left(cluster, kube, within_s=GONE_S)


def test_an_image_with_python_and_without_the_agent_runs_a_job(
    kube: RunningPlatform, cluster: Cluster, docker_image: str
) -> None:
    with image_without_agent(docker_image) as image:
        cluster.load(image)
        # when
        job_id = submit(kube, image=image, command="test ! -e /opt/hodei/nothing && echo from my image")
        with kube.client() as client:
            job = client.wait(job_id)

            # then
            assert job.status == "succeeded", job.error
            assert client.log_text(job_id) == "from my image\n"
        nothing_left(cluster, kube, within_s=GONE_S)


def test_an_image_without_python_fails_within_10_s_with_a_sentence(
    kube: RunningPlatform, cluster: Cluster, docker_image: str
) -> None:
    with image_without_python(docker_image) as image:
        cluster.load(image)
        # when
        job_id = submit(kube, image=image)
        began = time.monotonic()
        with kube.client() as client:
            job = client.wait(job_id)

        # then
        assert time.monotonic() - began < 10
        assert job.error and (job.status, job.error.code) == ("failed", "ERR_1010")
        assert "Python 3.8" in job.error.message and image in job.error.message
        nothing_left(cluster, kube, within_s=GONE_S)


def test_limits_of_cpu_and_memory_show_in_the_pod(kube: RunningPlatform, cluster: Cluster) -> None:
    # given
    job_id = submit(kube, cpu=0.5, memory="128m", command="sleep 3")

    # when
    pod = until(lambda: running(cluster, kube, job_id), within_s=30, what="the pod")

    # then
    assert pod
    [worker] = pod.spec.containers
    assert worker.resources.limits["cpu"] == worker.resources.requests["cpu"] == "500m"
    assert worker.resources.limits["memory"] == str(128 * 1024**2)
    assert pod.metadata.labels[JOB] == job_id and of(kube).startswith("hodei-worker")
    with kube.client() as client:
        assert client.wait(job_id).status == "succeeded"
