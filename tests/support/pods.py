"""A platform's pods, as its operator sees them with ``kubectl``."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import urllib3
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from support.clusters import Cluster
from support.containers import deployment
from support.k8s_stand_in.cluster import WORKERS
from support.platform import RunningPlatform
from support.waiting import until

LOOK_EVERY_S = 0.05
DEPLOYMENT = "hodei.io/deployment"
JOB = "hodei.io/job-id"


def of(platform: RunningPlatform) -> str:
    """The label selector of this platform's pods and Secrets: other deployments may use the cluster too."""
    return f"hodei-worker,{DEPLOYMENT}={deployment(platform)}"


def left(cluster: Cluster, platform: RunningPlatform) -> list[str]:
    """What there is of this platform in the cluster now."""
    found = [f"pod {one.metadata.name}" for one in cluster.pods(of(platform))]
    return found + [f"Secret {one.metadata.name}" for one in cluster.secrets(of(platform))]


def nothing_left(cluster: Cluster, platform: RunningPlatform, *, within_s: float) -> None:
    """Wait until nothing of this platform is in the cluster."""
    until(
        lambda: not left(cluster, platform),
        within_s=within_s,
        what=f"no end of {left(cluster, platform)}: nothing left",
    )


@dataclass
class Followed:
    """One pod whose log is followed from its start to its end, as with ``kubectl logs --follow``."""

    name: str
    job_id: str
    log: bytes = b""
    over: threading.Event = field(default_factory=threading.Event)


class Follower:
    """All pods of a platform that came since, by the job that they were made for."""

    def __init__(self, cluster: Cluster, selector: str) -> None:
        self.by_job: dict[str, Followed] = {}
        self._cluster = cluster
        self._selector = selector
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def of(self, job_id: str, *, within_s: float = 15.0) -> Followed:
        """The job's pod, once its log was read to its end."""
        one = until(lambda: self.by_job.get(job_id), within_s=within_s, what="the pod")
        assert one is not None
        assert one.over.wait(within_s), "the log goes on"
        return one

    def look(self) -> None:
        """Until :meth:`stop`: notice new pods."""
        while not self._stopping.wait(LOOK_EVERY_S):
            for pod in self._cluster.pods(self._selector):
                job_id = pod.metadata.labels.get(JOB)
                statuses = pod.status.container_statuses or ()
                if job_id and job_id not in self.by_job and any(not one.state.waiting for one in statuses):
                    one = self.by_job[job_id] = Followed(pod.metadata.name, job_id)
                    thread = threading.Thread(target=self._follow, args=(one,))
                    thread.start()
                    self._threads.append(thread)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(15)

    def _follow(self, one: Followed) -> None:
        try:
            answer: urllib3.HTTPResponse = self._cluster.core.read_namespaced_pod_log(
                one.name,
                WORKERS,
                container="worker",
                follow=True,
                _preload_content=False,
                _request_timeout=120,
            )
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                for block in answer.stream(amt=None):
                    one.log += block
            answer.close()
        except ApiException as error:
            assert error.status in (400, 404), error  # it was gone already
        finally:
            one.over.set()


@contextlib.contextmanager
def followed(cluster: Cluster, platform: RunningPlatform) -> Iterator[Follower]:
    """Follow every pod that this platform makes meanwhile, as somebody at a terminal does."""
    follower = Follower(cluster, of(platform))
    thread = threading.Thread(target=follower.look)
    thread.start()
    try:
        yield follower
    finally:
        follower.stop()
        thread.join(15)


def running(cluster: Cluster, platform: RunningPlatform, job_id: str) -> client.V1Pod | None:
    """The job's pod, when its container runs."""
    for pod in cluster.pods(f"{of(platform)},{JOB}={job_id}"):
        if any(one.state.running for one in pod.status.container_statuses or ()):
            return pod
    return None
