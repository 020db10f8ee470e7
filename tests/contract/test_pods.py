"""What only workers as pods have to get right. On a real cluster as on the stand-in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from places import FACT_S, KubernetesPlace, eventually, name_of
from stand_in import StandIn
from support.clusters import Cluster
from support.images import image_without_agent, image_without_python
from support.k8s_stand_in.cluster import WORKERS
from support.k8s_stand_in.quantities import amount

from hodei.providers.contract import ProviderError, ResourceState, ResourceView

pytestmark = pytest.mark.docker
NO_SUCH_IMAGE = "127.0.0.1:9/hodei/nothing:1"
SOON_S = 15.0


@pytest.fixture
def place(tmp_path: Path, cluster: Cluster) -> Iterator[KubernetesPlace]:
    made = KubernetesPlace(tmp_path, cluster)
    yield made
    made.clean_up()


def shows(provider: Any, worker_id: UUID, fact: Callable[[ResourceView], object]) -> ResourceView:
    """What the provider shows of a worker, once it shows this."""
    assert eventually(lambda: bool(fact(provider.inspect(worker_id)))), provider.inspect(worker_id)
    seen: ResourceView = provider.inspect(worker_id)
    return seen


def test_a_pod_is_named_labelled_confined_and_has_no_rights(place: KubernetesPlace) -> None:
    provider = place.open()
    request = place.request(cpu=0.25, memory_bytes=128 * 1024**2)

    resource_id = provider.start(request)

    pod = place.cluster.document(resource_id)
    spec, [worker] = pod["spec"], pod["spec"]["containers"]
    assert resource_id == name_of(request.worker_id)
    assert pod["metadata"]["namespace"] == WORKERS and "hodei-worker" in pod["metadata"]["labels"]
    assert [one.metadata.name for one in place.cluster.pods("hodei-worker")].count(resource_id) == 1
    assert worker["imagePullPolicy"] == "IfNotPresent"
    limits = worker["resources"]["limits"]
    assert (amount(limits["cpu"]), amount(limits["memory"])) == (Decimal("0.25"), 128 * 1024**2)
    assert worker["securityContext"]["readOnlyRootFilesystem"] is True
    assert (spec["enableServiceLinks"], spec["automountServiceAccountToken"]) == (False, False)
    assert spec["activeDeadlineSeconds"] > 0 and spec["restartPolicy"] == "Never"
    token = next(one for one in worker["env"] if one["name"] == "HODEI_TOKEN")
    assert token["valueFrom"]["secretKeyRef"]["name"] == resource_id


def test_the_secret_goes_with_its_pod_whoever_deletes_it(place: KubernetesPlace) -> None:
    provider = place.open()
    request = place.request()
    name = provider.start(request)
    [secret] = [one for one in place.cluster.secrets() if one.metadata.name == name]

    place.cluster.core.delete_namespaced_pod(name, WORKERS, grace_period_seconds=1)

    assert [owner.kind for owner in secret.metadata.owner_references] == ["Pod"]
    assert eventually(lambda: place.traces(request.worker_id) == [])
    assert provider.inspect(request.worker_id).state is ResourceState.GONE


def test_a_missing_image_is_said_within_seconds_in_the_kubelets_words(place: KubernetesPlace) -> None:
    provider = place.open()
    request = place.request(image=NO_SUCH_IMAGE)
    began = time.monotonic()

    provider.start(request)
    seen = shows(provider, request.worker_id, lambda view: view.failure)

    assert time.monotonic() - began < SOON_S
    assert seen.failure and seen.failure.code == "ERR_3001"
    assert f'failed to resolve reference "{NO_SUCH_IMAGE}"' in seen.failure.message


def test_more_than_any_node_has_is_said_within_seconds_in_the_schedulers_words(
    place: KubernetesPlace,
) -> None:
    provider = place.open()
    request = place.request(cpu=1000)
    began = time.monotonic()

    provider.start(request)
    seen = shows(provider, request.worker_id, lambda view: view.waiting)

    assert time.monotonic() - began < SOON_S
    assert seen.state is ResourceState.STARTING and seen.failure is None, "it may still fit one day"
    assert seen.waiting and seen.waiting.code == "ERR_3008" and "Insufficient cpu" in seen.waiting.message


def test_where_nobody_waits_for_room_it_is_a_failure_at_once(place: KubernetesPlace) -> None:
    place.config |= {"unschedulable_s": 0}
    provider = place.open()
    request = place.request(cpu=1000)

    provider.start(request)

    seen = shows(provider, request.worker_id, lambda view: view.failure)
    assert seen.failure and seen.failure.code == "ERR_3008"


def test_an_image_with_python_and_without_the_agent_runs_a_job(
    place: KubernetesPlace, docker_image: str
) -> None:
    platform = StandIn(
        place.host_for_workers, {"shell": "test ! -e /opt/hodei/nothing && echo from my image"}
    )
    try:
        with image_without_agent(docker_image) as image:
            place.cluster.load(image)
            provider = place.open(platform.address)
            request = place.request(image=image)

            provider.start(request)

            assert platform.finished.wait(2 * FACT_S)
            assert platform.output == b"from my image\n"
            provider.stop(request.worker_id)
    finally:
        platform.close()


def test_an_image_without_python_fails_within_ten_seconds_with_a_sentence(
    place: KubernetesPlace, docker_image: str
) -> None:
    with image_without_python(docker_image) as image:
        place.cluster.load(image)
        provider = place.open()
        request = place.request(image=image)
        began = time.monotonic()

        provider.start(request)
        seen = shows(provider, request.worker_id, lambda view: view.state is ResourceState.EXITED)

        assert time.monotonic() - began < 10
        assert seen.failure and seen.failure.code == "ERR_1010"
        assert "Python 3.8" in seen.failure.message and image in seen.failure.message
        provider.stop(request.worker_id)


def test_a_worker_that_outlives_its_time_is_ended_by_the_cluster(place: KubernetesPlace) -> None:
    provider = place.open()
    request = place.request(lifetime_s=1)

    provider.start(request)

    seen = shows(provider, request.worker_id, lambda view: view.state is ResourceState.EXITED)
    assert seen.failure and seen.failure.code in ("ERR_1005", "ERR_3005"), "it may not even have run"
    assert "activeDeadlineSeconds" in seen.failure.message


def test_a_pod_that_only_has_our_name_is_never_touched(place: KubernetesPlace) -> None:
    provider = place.open()
    request = place.request()
    theirs = provider.start(request)
    labels = {label: None for label in place.cluster.document(theirs)["metadata"]["labels"]}
    place.cluster.core.patch_namespaced_pod(theirs, WORKERS, {"metadata": {"labels": labels}})
    try:
        provider.stop(request.worker_id)
        with pytest.raises(ProviderError) as caught:
            provider.start(request)

        assert theirs in caught.value.failure.message
        assert provider.inspect(request.worker_id).state is ResourceState.GONE
        assert provider.list_workers(place.deployment) == []
        assert place.cluster.pod(theirs) is not None
    finally:
        place.cluster.core.delete_namespaced_pod(theirs, WORKERS, grace_period_seconds=1)
        assert eventually(lambda: place.traces(request.worker_id) == [])


def test_a_watch_shows_a_worker_come_and_go_without_a_question(place: KubernetesPlace) -> None:
    provider: Any = place.open()
    provider.watched(place.deployment)
    request = place.request()
    name = provider.start(request)
    assert eventually(
        lambda: [view.state for view in provider.watched(place.deployment) or ()] == [ResourceState.RUNNING]
    )

    place.cluster.core.delete_namespaced_pod(name, WORKERS, grace_period_seconds=1)

    assert eventually(lambda: provider.watched(place.deployment) == [])
    seen = provider.inspect(request.worker_id)
    assert (seen.state, seen.failure and seen.failure.code) == (ResourceState.GONE, "ERR_2006")
    assert seen.failure is not None and name in seen.failure.message


def test_the_health_looks_at_everything_that_workers_need(place: KubernetesPlace) -> None:
    health = place.open().health()

    assert health.ok, health
    assert health.checks.keys() >= {"connection", "namespace", "pod security", "quota", "reach"}
    assert "restricted" in health.checks["pod security"]


def test_a_probe_tries_the_way_of_a_worker_and_leaves_nothing(place: KubernetesPlace) -> None:
    class WorkerManager(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"code": "unauthorized"}).encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer((place.host_for_workers, 0), WorkerManager) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        address = f"{place.host_for_workers}:{server.server_address[1]}"
        provider: Any = place.open(address)
        good = provider.probe()
        server.shutdown()
        thread.join()
    closed = provider.probe()

    assert good.ok and "reached worker-manager" in good.checks["probe"], good
    assert not closed.ok and "HODEI_SERVER_HOST" in closed.message and address in closed.message
    assert eventually(lambda: place.cluster.pods("hodei.io/probe") == [])
