from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from kubernetes import client
from place import Space
from support.clusters import Cluster
from support.waiting import until


@pytest.fixture
def core(cluster: Cluster) -> client.CoreV1Api:
    """The administrator's client."""
    return cluster.core


@pytest.fixture(scope="module")
def space(cluster: Cluster) -> Iterator[Space]:
    """A namespace of the module's own, under ``restricted``, that is gone afterwards."""
    name = f"hodei-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.core.create_namespace({"metadata": {"name": name, "labels": labels}})
    made = Space(cluster.core, name)
    until(lambda: "default" in made.accounts(), what="the namespace's account")
    yield made
    cluster.core.delete_namespace(name)
    until(lambda: name not in made.namespaces(), within_s=90, what="the namespace's end")
