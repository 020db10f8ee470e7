"""Least privilege: the shipped Role is enough, and every verb of it is needed. On stand-ins, whose Role may be taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from places import FACT_S, KubernetesPlace, eventually, name_of
from support.clusters import stand_in_cluster
from support.k8s_stand_in import manifests
from support.k8s_stand_in.cluster import SHIPPED, WORKERS
from support.k8s_stand_in.resources import ROLES

from hodei.providers.contract import ProviderError, ResourceState

pytestmark = pytest.mark.docker
SHIPPED_RULES = [
    rule for one in manifests.documents(SHIPPED) if one["kind"] == "Role" for rule in one["rules"]
]
RIGHTS = [
    (resource, verb) for rule in SHIPPED_RULES for resource in rule["resources"] for verb in rule["verbs"]
]
IN_HEALTH = {("resourcequotas", "list"), ("serviceaccounts", "get"), ("namespaces", "get")}
"""What only the look at the health is for."""
IN_VAIN_S = 10.0
"""How long one waits for what a missing right prevents; with all rights it takes a second."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, docker_image: str) -> Iterator[KubernetesPlace]:
    """A place whose kubelet is one of those that say why a pull failed in an event alone."""
    with stand_in_cluster(pull_back_off_s=0.1, back_off_words=False) as cluster:
        yield KubernetesPlace(tmp_path_factory.mktemp("limited"), cluster)


@pytest.fixture
def place(limited: KubernetesPlace) -> Iterator[KubernetesPlace]:
    """With the Role as it is shipped, again afterwards."""
    limited.requests.clear()
    yield limited
    _set_rules(limited, SHIPPED_RULES)
    limited.clean_up()


def test_the_shipped_role_is_enough_and_each_verb_of_it_is_used(place: KubernetesPlace) -> None:
    assert place.cluster.stand_in
    journal = place.cluster.stand_in.server.journal
    journal.clear()

    _whole_life(place)
    health = place.open().health()

    ours = [entry for entry in journal if entry.user == place.cluster.stand_in.control_plane.name]
    assert health.ok, health
    assert [entry for entry in ours if entry.code == 403] == []
    assert {(entry.resource, entry.verb) for entry in ours if entry.code < 300} >= set(RIGHTS)


@pytest.mark.parametrize(("resource", "verb"), RIGHTS)
def test_without_a_verb_of_the_role_something_fails_and_the_health_says_what_helps(
    place: KubernetesPlace, resource: str, verb: str
) -> None:
    _set_rules(
        place, [_without(rule, verb) if resource in rule["resources"] else rule for rule in SHIPPED_RULES]
    )

    health = place.open().health()

    assert not health.ok
    assert resource.removesuffix("s") in health.message.lower() and "kubectl" in health.message, (
        health.message
    )
    if (resource, verb) not in IN_HEALTH:
        with pytest.raises((ProviderError, AssertionError)):
            _whole_life(place, within_s=IN_VAIN_S)


def _without(rule: dict[str, Any], verb: str) -> dict[str, Any]:
    return rule | {"verbs": [one for one in rule["verbs"] if one != verb]}


def _set_rules(place: KubernetesPlace, rules: list[dict[str, Any]]) -> None:
    assert place.cluster.stand_in
    store = place.cluster.stand_in.store
    [role] = store.list(ROLES, WORKERS)
    store.update(ROLES, WORKERS, role["metadata"]["name"], lambda found: found.update(rules=rules))


def _whole_life(place: KubernetesPlace, *, within_s: float = FACT_S) -> None:
    """Everything that the platform has a provider do for its workers. Raises where something is not as it should be, or is not
    within that time."""
    provider: Any = place.open()
    half_made, worker, imageless = place.request(), place.request(), place.request(image="127.0.0.1:9/none:1")
    place.leave_half_made(half_made)
    provider.watched(place.deployment)
    provider.start(worker)
    assert provider.inspect(worker.worker_id).state is ResourceState.RUNNING
    assert eventually(
        lambda: worker.worker_id in {view.worker_id for view in provider.watched(place.deployment) or ()},
        within_s=within_s,
    )
    [secret] = [one for one in place.cluster.secrets() if one.metadata.name.endswith(str(worker.worker_id))]
    assert secret.metadata.owner_references, "it goes with its pod"
    provider.start(imageless)
    assert eventually(lambda: _backs_off(place, imageless.worker_id), within_s=within_s)
    assert "connection refused" in place.open().inspect(imageless.worker_id).failure.message, (
        "as an event said"
    )
    assert _watch_lasts(place)
    listed = provider.list_workers(place.deployment)
    assert {view.worker_id for view in listed} == {half_made.worker_id, worker.worker_id, imageless.worker_id}
    for view in listed:
        provider.stop(view.worker_id)
        assert place.traces(view.worker_id) == []


def _backs_off(place: KubernetesPlace, worker_id: UUID) -> bool:
    """Whether the pod's status says no more why its image is missing."""
    statuses = place.cluster.document(name_of(worker_id))["status"].get("initContainerStatuses", [])
    statuses += place.cluster.document(name_of(worker_id))["status"].get("containerStatuses", [])
    return any(one["state"].get("waiting", {}).get("reason") == "ImagePullBackOff" for one in statuses)


def _watch_lasts(place: KubernetesPlace) -> bool:
    """Whether the API let a watch be opened, and it was not only lists that kept us informed."""
    assert place.cluster.stand_in
    watches = [entry for entry in place.cluster.stand_in.server.journal if entry.verb == "watch"]
    return bool(watches) and watches[-1].code == 200
