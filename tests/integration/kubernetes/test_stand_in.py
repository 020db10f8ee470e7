"""What the stand-in does besides being a cluster: it comes to harm in every way that a cluster does, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3
from kubernetes import watch
from kubernetes.client.exceptions import ApiException
from place import Space, pod, refused, state_of
from support.clusters import Cluster, talking
from support.k8s_stand_in import manifests
from support.k8s_stand_in.cluster import SHIPPED, WORKERS, StandInCluster
from support.platform import CHECKOUT
from support.waiting import until

pytestmark = pytest.mark.docker


@pytest.fixture
def harmed(own_cluster: Cluster) -> StandInCluster:
    assert own_cluster.stand_in is not None
    return own_cluster.stand_in


@pytest.fixture
def workers(own_cluster: Cluster) -> Space:
    """The namespace of workers, of a stand-in that may be harmed."""
    return Space(own_cluster.core, WORKERS)


def test_the_shipped_manifests_are_what_it_enforces(own_cluster: Cluster, workers: Space) -> None:
    with talking(own_cluster.control_plane) as ours:
        ours.create_namespaced_pod(WORKERS, pod("ours"))
        with refused(403, "Forbidden"):
            ours.list_node()
        with refused(403, "Forbidden"):
            ours.create_namespaced_pod(WORKERS, pod("loose", securityContext={}))
    assert workers.ended("ours")["status"]["phase"] == "Succeeded"


def test_a_manifest_with_a_field_that_does_not_exist_is_found_out() -> None:
    documents = list(manifests.documents(SHIPPED))
    documents[0] = documents[0] | {"spce": {}}

    with pytest.raises(manifests.UnknownManifest, match="spce"), StandInCluster(shipped=documents):
        pass


def test_while_it_is_away_connections_are_refused_and_pods_go_on(
    harmed: StandInCluster, workers: Space
) -> None:
    workers.create(pod("goes-on", "sleep 1; echo done"))
    workers.running("goes-on")

    harmed.server.go_away()
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        workers.pod("goes-on")
    [container] = harmed.containers_of("goes-on")
    until(lambda: not harmed.engine.inspect(container)["State"]["Running"], what="the container's end")
    harmed.server.come_back()

    assert workers.ended("goes-on")["status"]["phase"] == "Succeeded"
    assert workers.log("goes-on") == "done\n"


def test_who_watches_from_forgotten_history_hears_that_it_is_gone(
    harmed: StandInCluster, workers: Space
) -> None:
    since = workers.core.list_namespaced_pod(WORKERS).metadata.resource_version
    workers.create(pod("unseen"))

    harmed.store.forget_history()

    with pytest.raises(ApiException) as caught:
        list(
            watch.Watch().stream(
                workers.core.list_namespaced_pod, WORKERS, resource_version=since, timeout_seconds=2
            )
        )
    assert caught.value.status == 410


def test_a_silenced_watch_stays_open_and_says_nothing(harmed: StandInCluster, workers: Space) -> None:
    seen: list[str] = []
    opened = threading.Event()

    def follow() -> None:
        with suppress(urllib3.exceptions.HTTPError):  # its end, by force
            for event in watch.Watch().stream(workers.core.list_namespaced_pod, WORKERS, timeout_seconds=2):
                seen.append(event["object"].metadata.name)
                opened.set()

    workers.create(pod("before", spec={"nodeSelector": {"no": "where"}}))
    follower = threading.Thread(target=follow)
    follower.start()
    assert opened.wait(5)

    harmed.faults.silence_watches()
    workers.create(pod("after", spec={"nodeSelector": {"no": "where"}}))
    follower.join(3.5)

    assert follower.is_alive(), "not even the time-out that was asked for ends it"
    assert set(seen) == {"before"}
    harmed.server.reset_connections()
    follower.join(10)
    assert not follower.is_alive()


def test_a_client_that_dies_between_two_calls_is_played(own_cluster: Cluster, harmed: StandInCluster) -> None:
    secret = {"metadata": {"name": "first"}, "stringData": {"a": "b"}}
    with talking(own_cluster.control_plane) as ours:
        harmed.faults.cut_after(1, user=harmed.control_plane.name)
        ours.create_namespaced_secret(WORKERS, secret)
        with pytest.raises(urllib3.exceptions.HTTPError):
            ours.create_namespaced_pod(WORKERS, pod("never"))

        harmed.faults.cut_after(1, user=harmed.control_plane.name, answer_lost=True)
        with pytest.raises(urllib3.exceptions.HTTPError):
            ours.create_namespaced_pod(WORKERS, pod("made"))

    assert [one.metadata.name for one in own_cluster.pods()] == ["made"]
    assert [one.metadata.name for one in own_cluster.secrets()] == ["first"]


def test_a_busy_server_refuses_for_a_while(harmed: StandInCluster, workers: Space) -> None:
    harmed.faults.refuse(503, times=1, verb="list")

    with refused(503, "ServiceUnavailable"):
        workers.core.list_namespaced_pod(WORKERS)

    assert workers.core.list_namespaced_pod(WORKERS).items == []


def test_a_token_that_is_revoked_is_not_accepted_any_more(
    own_cluster: Cluster, harmed: StandInCluster
) -> None:
    with talking(own_cluster.control_plane) as ours:
        ours.list_namespaced_pod(WORKERS)
        harmed.accounts.revoke(harmed.control_plane)

        with refused(401, "Unauthorized"):
            ours.list_namespaced_pod(WORKERS)

    with talking(harmed.kubeconfig()) as again:
        assert again.list_namespaced_pod(WORKERS).items == []


def test_an_evicted_pod_fails_and_stays(harmed: StandInCluster, workers: Space) -> None:
    workers.create(pod("evicted", "trap 'exit 0' TERM; sleep 60 & wait"))
    workers.running("evicted")

    harmed.evict("evicted")

    ended = workers.ended("evicted")
    assert (ended["status"]["phase"], ended["status"]["reason"]) == ("Failed", "Evicted")
    assert ended["status"]["message"].startswith("The node was low on resource")


def test_the_pods_of_a_lost_node_are_marked_and_go_when_it_comes_back(
    harmed: StandInCluster, workers: Space
) -> None:
    workers.create(pod("lost", "trap 'exit 0' TERM; sleep 60 & wait"))
    workers.running("lost")

    harmed.node.lose(tolerated=False)

    found = workers.pod("lost")
    assert found is not None and found["metadata"]["deletionTimestamp"]
    assert ready(found) == ("False", "NodeNotReady") and state_of(found)["running"]
    assert harmed.containers_of("lost"), "nobody told the node"
    workers.create(pod("waits"))
    until(lambda: "untolerated taint" in str(workers.events("waits")), what="the scheduler's word")
    harmed.node.find()
    workers.gone("lost")
    assert workers.ended("waits")


def test_the_pods_of_a_node_that_is_removed_are_gone(harmed: StandInCluster, workers: Space) -> None:
    workers.create(pod("gone-with-it", "sleep 60"))
    workers.running("gone-with-it")

    harmed.node.remove()

    assert workers.pod("gone-with-it") is None


def test_a_container_that_is_killed_from_outside_is_seen(harmed: StandInCluster, workers: Space) -> None:
    workers.create(pod("killed", "sleep 60"))
    workers.running("killed")

    harmed.crash("killed")

    assert state_of(workers.ended("killed"))["terminated"]["exitCode"] == 137


def test_by_hand_it_prints_its_kubeconfig_and_leaves_nothing() -> None:
    command = [sys.executable, "-m", "support.k8s_stand_in"]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT / "tests")}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout and running.stderr
        path = Path(running.stdout.readline().strip())
        with talking(path) as admin:
            admin.create_namespaced_pod(WORKERS, pod("by-hand", "sleep 60"))
            space = Space(admin, WORKERS)
            space.running("by-hand")
        running.terminate()
        assert running.wait(30) == 0, running.stderr.read()

    assert not path.parent.exists()
    names = ["docker", "ps", "--all", "--quiet", "--filter", "label=k8s-stand-in.pod=by-hand"]
    assert subprocess.run(names, capture_output=True, check=True).stdout == b""


def ready(found: dict[str, Any]) -> tuple[str, str]:
    condition = next(one for one in found["status"]["conditions"] if one["type"] == "Ready")
    return condition["status"], condition["reason"]
