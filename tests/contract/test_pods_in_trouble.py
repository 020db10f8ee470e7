"""A cluster that comes to harm: what the provider says, and that it leaves nothing. On stand-ins, which may be harmed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import KubernetesPlace, eventually, name_of
from support.clusters import Cluster
from support.k8s_stand_in.cluster import WORKERS, StandInCluster

from hodei.providers.contract import ProviderError, ResourceState
from hodei.providers.kubernetes import kubeconfig, watch

pytestmark = pytest.mark.docker
WRITES_OF_A_START = ("create secrets", "create pods", "patch secrets")


@pytest.fixture
def place(tmp_path: Path, own_cluster: Cluster) -> Iterator[KubernetesPlace]:
    made = KubernetesPlace(tmp_path, own_cluster)
    yield made
    for opened in made._opened:
        opened.close()


@pytest.fixture
def harmed(own_cluster: Cluster) -> StandInCluster:
    assert own_cluster.stand_in is not None
    return own_cluster.stand_in


def states(provider: Any, deployment: str) -> list[ResourceState] | None:
    """What the watch shows."""
    found = provider.watched(deployment)
    return None if found is None else [view.state for view in found]


def test_a_start_writes_three_times(place: KubernetesPlace, harmed: StandInCluster) -> None:
    provider = place.open()

    provider.start(place.request())

    ours = [entry for entry in harmed.server.journal if entry.user == harmed.control_plane.name]
    writes = [
        f"{entry.verb} {entry.resource}"
        for entry in ours
        if entry.verb in ("create", "patch", "delete", "update")
    ]
    assert tuple(writes) == WRITES_OF_A_START


@pytest.mark.parametrize("answer_lost", [False, True], ids=["answered", "answer-lost"])
@pytest.mark.parametrize("writes", range(1, len(WRITES_OF_A_START) + 1))
def test_a_kill_between_any_two_calls_of_a_start_leaves_nothing_after_the_sweep(
    place: KubernetesPlace, harmed: StandInCluster, writes: int, answer_lost: bool
) -> None:
    request = place.request(patience_s=0.5)
    harmed.faults.cut_after(writes, user=harmed.control_plane.name, answer_lost=answer_lost)
    with pytest.raises(ProviderError):
        place.open().start(request)
    harmed.faults.mend()
    assert place.traces(request.worker_id)

    sweeper = place.open()
    for view in sweeper.list_workers(place.deployment):
        sweeper.stop(view.worker_id)

    assert eventually(lambda: place.traces(request.worker_id) == [])


@pytest.mark.parametrize("writes", range(1, len(WRITES_OF_A_START) + 1))
def test_a_start_that_was_killed_between_any_two_calls_is_finished_by_the_next(
    place: KubernetesPlace, harmed: StandInCluster, writes: int
) -> None:
    request = place.request(patience_s=0.5)
    harmed.faults.cut_after(writes, user=harmed.control_plane.name)
    with pytest.raises(ProviderError):
        place.open().start(request)
    harmed.faults.mend()
    provider = place.open()

    name = provider.start(request)

    assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.RUNNING)
    [secret] = [one for one in place.cluster.secrets() if one.metadata.name == name]
    assert secret.metadata.owner_references
    assert len(provider.list_workers(place.deployment)) == 1


def test_a_stop_that_was_killed_in_the_middle_is_finished_by_the_next(
    place: KubernetesPlace, harmed: StandInCluster
) -> None:
    request = place.request()
    place.open().start(request)
    harmed.faults.cut_after(1, user=harmed.control_plane.name)
    with pytest.raises(ProviderError):
        place.open().stop(request.worker_id)
    harmed.faults.mend()

    place.open().stop(request.worker_id)

    assert place.traces(request.worker_id) == []


def test_an_api_that_is_away_is_said_and_workers_go_on(
    place: KubernetesPlace, harmed: StandInCluster
) -> None:
    provider: Any = place.open()
    request = place.request()
    provider.start(request)
    assert eventually(lambda: states(provider, place.deployment) == [ResourceState.RUNNING])

    harmed.server.go_away()
    health = provider.health()
    with pytest.raises(ProviderError) as caught:
        provider.inspect(request.worker_id)
    assert eventually(lambda: states(provider, place.deployment) is None), "nobody guesses meanwhile"
    harmed.server.come_back()

    assert not health.ok and "cannot be reached" in health.message
    assert caught.value.failure.code == "ERR_5001" and caught.value.transient
    assert provider.inspect(request.worker_id).state is ResourceState.RUNNING
    assert eventually(lambda: states(provider, place.deployment) == [ResourceState.RUNNING])


def test_a_silent_api_is_given_up_in_time(place: KubernetesPlace, harmed: StandInCluster) -> None:
    place.config |= {"call_timeout_s": 0.5}
    harmed.faults.slow(harmed.control_plane.name, 2.0)
    provider = place.open()
    began = time.monotonic()

    with pytest.raises(ProviderError) as caught:
        provider.list_workers(place.deployment)

    assert time.monotonic() - began < 1.5
    assert caught.value.failure.code == "ERR_5006" and caught.value.transient


def test_an_api_that_is_too_busy_is_asked_again(place: KubernetesPlace, harmed: StandInCluster) -> None:
    provider = place.open()
    harmed.faults.refuse(429, times=1)

    assert provider.list_workers(place.deployment) == []


@pytest.mark.parametrize("harm", ["forgotten", "reset", "silent"])
def test_a_watch_finds_its_way_back(
    place: KubernetesPlace, harmed: StandInCluster, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(watch, "SILENCE_S", 1.5)
    monkeypatch.setattr(watch, "SERVER_ENDS_S", 1)
    provider: Any = place.open()
    gone, stays = place.request(), place.request()
    provider.start(gone)
    assert eventually(lambda: states(provider, place.deployment) == [ResourceState.RUNNING])
    # when
    if harm == "silent":
        harmed.faults.silence_watches()
    else:
        harmed.server.go_away()
    harmed.server.come_back() if harm == "reset" else None
    place.cluster.core.api_client.rest_client.pool_manager.clear()
    if harm == "forgotten":
        harmed.store.forget_history()
        harmed.server.come_back()
    place.cluster.core.delete_namespaced_pod(name_of(gone.worker_id), WORKERS, grace_period_seconds=1)
    place.open().start(stays)
    # then
    assert eventually(
        lambda: {view.worker_id for view in provider.watched(place.deployment) or ()} == {stays.worker_id}
    )


def test_an_evicted_worker_says_so(place: KubernetesPlace, harmed: StandInCluster) -> None:
    provider = place.open()
    request = place.request()
    name = provider.start(request)

    harmed.evict(name)

    assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.EXITED)
    failure = provider.inspect(request.worker_id).failure
    assert failure and failure.code == "ERR_3009" and "low on resource" in failure.message


def test_a_worker_on_a_node_that_is_lost_is_lost_and_is_not_taken_for_gone(
    place: KubernetesPlace, harmed: StandInCluster
) -> None:
    provider = place.open()
    request = place.request()
    provider.start(request)

    harmed.node.lose(tolerated=False)

    seen = provider.inspect(request.worker_id)
    assert seen.state is ResourceState.LOST and seen.failure and seen.failure.code == "ERR_3010"
    harmed.node.find()
    assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.GONE)


def test_a_worker_whose_node_was_removed_says_so(place: KubernetesPlace, harmed: StandInCluster) -> None:
    provider: Any = place.open()
    request = place.request()
    provider.watched(place.deployment)
    provider.start(request)
    assert eventually(lambda: states(provider, place.deployment) == [ResourceState.RUNNING])

    harmed.node.remove()

    assert eventually(lambda: states(provider, place.deployment) == [])
    seen = provider.inspect(request.worker_id)
    assert seen.state is ResourceState.GONE and seen.failure and seen.failure.code == "ERR_3010"


def test_in_the_cluster_the_account_of_the_pod_is_used_and_a_token_that_ran_out_is_read_anew(
    place: KubernetesPlace, harmed: StandInCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(kubeconfig, "ACCOUNT", harmed.in_cluster_files())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(harmed.server.port))
    place.config = {}
    provider = place.open()
    assert provider.list_workers(place.deployment) == []
    # when
    harmed.accounts.revoke(harmed.control_plane)
    harmed.in_cluster_files()
    # then
    assert provider.list_workers(place.deployment) == []


def test_credentials_that_are_not_accepted_are_said(place: KubernetesPlace, harmed: StandInCluster) -> None:
    provider = place.open()
    harmed.accounts.revoke(harmed.control_plane)

    health = provider.health()
    with pytest.raises(ProviderError) as caught:
        provider.list_workers(place.deployment)

    assert not health.ok and "Unauthorized" in health.message
    assert caught.value.failure.code == "ERR_5002"


def test_an_account_that_nobody_made_is_said_with_the_command_that_makes_it(
    place: KubernetesPlace, harmed: StandInCluster
) -> None:
    place.cluster.core.delete_namespaced_service_account("hodei-jobs-worker", WORKERS)
    provider, request = place.open(), place.request()

    health = provider.health()
    with pytest.raises(ProviderError) as caught:
        provider.start(request)

    for said in (health.message, caught.value.failure.message):
        assert "hodei-jobs-worker" in said and "kubectl" in said and "deploy/kubernetes" in said
    assert not health.ok and place.traces(request.worker_id) == []


def test_a_namespace_that_nobody_made_is_said_with_the_command_that_makes_it(
    place: KubernetesPlace, harmed: StandInCluster
) -> None:
    place.config = {"kubeconfig": str(place.cluster.admin), "namespace": "nowhere"}
    provider, request = place.open(), place.request()

    health = provider.health()
    with pytest.raises(ProviderError) as caught:
        provider.start(request)

    for said in (health.message, caught.value.failure.message):
        assert "kubectl create namespace nowhere" in said
    assert not health.ok


def test_quota_that_is_used_up_is_waited_for_and_quota_that_never_fits_is_not(
    place: KubernetesPlace, harmed: StandInCluster
) -> None:
    hard = {"spec": {"hard": {"pods": "1", "requests.cpu": "2"}}}
    place.cluster.core.patch_namespaced_resource_quota("hodei-jobs-workers", WORKERS, hard)
    provider = place.open()
    provider.start(place.request(cpu=0.1))

    with pytest.raises(ProviderError) as full:
        provider.start(place.request(cpu=0.1))
    with pytest.raises(ProviderError) as never:
        provider.start(place.request(cpu=3))

    assert full.value.failure.code == "ERR_5003" and full.value.transient
    assert never.value.failure.code == "ERR_3008" and not never.value.transient
    assert len(place.cluster.pods()) == len(place.cluster.secrets()) == 1, "nothing is left of the others"


def test_a_pod_is_not_taken_for_a_service_when_a_service_has_our_name(place: KubernetesPlace) -> None:
    place.cluster.core.delete_collection_namespaced_resource_quota(
        WORKERS
    )  # the shipped one lets no Service in
    service = {"metadata": {"name": "hodei-worker-manager"}, "spec": {"ports": [{"port": 8082}]}}
    place.cluster.core.create_namespaced_service(WORKERS, service)
    provider = place.open()
    request = place.request()

    provider.start(request)

    assert provider.inspect(request.worker_id).state is ResourceState.RUNNING
    [container] = place.cluster.stand_in.containers_of(name_of(request.worker_id))  # type: ignore[union-attr]
    shown = place.cluster.stand_in.engine.inspect(container)["Config"]["Env"]  # type: ignore[union-attr]
    assert not any(one.startswith("HODEI_WORKER_MANAGER") for one in shown)
