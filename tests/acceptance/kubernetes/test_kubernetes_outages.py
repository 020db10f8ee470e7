"""The platform or the API server fails while pods run: every job ends right, and nothing of any is left."""

from __future__ import annotations

import time

import pytest
from support.clusters import Cluster
from support.k8s_stand_in.cluster import WORKERS, StandInCluster
from support.platform import RunningPlatform
from support.pods import left, nothing_left, running
from support.waiting import until

pytestmark = pytest.mark.docker

DOWN_S = 6.0
AWAY_S = 18.0
"""Longer than the provider waits for any answer of the API server."""


@pytest.fixture
def harmed(own_cluster: Cluster) -> StandInCluster:
    assert own_cluster.stand_in is not None
    return own_cluster.stand_in


def test_the_platform_is_killed_while_pods_run_and_every_job_ends_right(
    own_kube: RunningPlatform, cluster: Cluster
) -> None:
    # given
    commands = ["echo one; sleep 4; echo end", "echo two; sleep 12; echo end", "echo three; sleep 12; exit 3"]
    with own_kube.client() as client:
        jobs = [{"name": "t", "provider": "kubernetes", "command": command} for command in commands]
        ids = [job.id for job in client.create_jobs(jobs)]
        for job_id in ids:
            until(lambda job_id=job_id: client.log_text(job_id) != "", within_s=60, what="the job's start")
        deleted = until(lambda: running(cluster, own_kube, ids[1]), within_s=30, what="the second job's pod")

    # when
    for name in ("controller", "serve", "beat"):
        own_kube.kill(name)
    assert deleted
    cluster.core.delete_namespaced_pod(deleted.metadata.name, WORKERS)
    time.sleep(DOWN_S)  # jobs end, and a pod is deleted, while nobody is there to see it
    for name in ("serve", "controller", "beat"):
        own_kube.start(name)
    own_kube.wait_until_ready()

    # then
    with own_kube.client() as client:
        ended = [client.wait(job_id) for job_id in ids]
        assert [job.status for job in ended] == ["succeeded", "succeeded", "failed"]
        assert [job.attempts for job in ended] == [1, 2, 1]
        assert (ended[2].exit_code, client.log_text(ids[0])) == (3, "one\nend\n")
    nothing_left(cluster, own_kube, within_s=60)


def test_the_api_server_is_away_and_running_jobs_go_on(
    on_own_cluster: RunningPlatform, own_cluster: Cluster, harmed: StandInCluster
) -> None:
    # given
    platform = on_own_cluster
    with platform.client() as client:
        short = client.create_job(
            {"name": "t", "provider": "kubernetes", "command": "echo up; sleep 5; echo end"}
        ).id
        long = client.create_job(
            {"name": "t", "provider": "kubernetes", "command": f"echo up; sleep {AWAY_S + 5}; echo end"}
        ).id
        for job_id in (short, long):
            until(
                lambda job_id=job_id: client.log_text(job_id) == "up\n", within_s=60, what="the job's start"
            )

        # when
        harmed.server.go_away()
        began = time.monotonic()
        late = client.create_job({"name": "t", "provider": "kubernetes", "command": "echo late"}).id
        ended_meanwhile = client.wait(short)
        until(lambda: time.monotonic() - began > AWAY_S, within_s=AWAY_S + 5, what="the outage's length")
        assert client.job(long).status == "running"
        harmed.server.come_back()

        # then
        ended = [ended_meanwhile, client.wait(long), client.wait(late)]
        assert [(job.status, job.attempts) for job in ended] == [("succeeded", 1)] * 3
        assert client.log_text(long) == "up\nend\n"
    until(lambda: left(own_cluster, platform) == [], within_s=60, what="nothing left")
