"""The pods of workers, as the cluster has them: ``kubectl get pods -l hodei-worker`` without kubectl."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from e2e.ledger import Off

SELECTOR = "hodei-worker"
NO_CLUSTER = "No cluster is configured here: set HODEI_K8S_KUBECONFIG or KUBECONFIG."


@contextlib.contextmanager
def cluster(variables: Mapping[str, str]) -> Iterator[Any]:
    """The core API of the cluster that the platform's own settings name."""
    from kubernetes import client, config  # slow to import

    path = variables.get("HODEI_K8S_KUBECONFIG") or variables.get("KUBECONFIG")
    try:
        api = config.new_client_from_config(path, context=variables.get("HODEI_K8S_CONTEXT"))
    except config.ConfigException as error:
        raise Off(f"{NO_CLUSTER} ({error})") from None
    try:
        yield client.CoreV1Api(api)
    finally:
        api.rest_client.pool_manager.clear()


def pods(variables: Mapping[str, str]) -> list[Any]:
    """All pods of workers in the namespace. Off with a sentence when the cluster does not answer."""
    import urllib3
    from kubernetes.client.exceptions import ApiException

    namespace = variables.get("HODEI_K8S_NAMESPACE", "hodei-jobs-workers")
    with cluster(variables) as core:
        try:
            return list(
                core.list_namespaced_pod(namespace, label_selector=SELECTOR, _request_timeout=10).items
            )
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            raise Off(f"The cluster does not list the pods of {namespace}: {error}") from None


def main() -> int:
    found = pods(os.environ)
    if not found:
        print("No pod of a worker is there: they live as long as their job.", file=sys.stderr)
        return 0
    print(f"{'NAME':<52} {'STATUS':<10} {'JOB':<37} {'NODE':<16} AGE")
    for pod in found:
        labels, age = pod.metadata.labels, datetime.now(UTC) - pod.metadata.creation_timestamp
        phase = "Ending" if pod.metadata.deletion_timestamp else pod.status.phase
        job = labels.get("hodei.io/job-id") or "-"
        print(
            f"{pod.metadata.name:<52} {phase:<10} {job:<37} {pod.spec.node_name or '-':<16} {age.total_seconds():.0f} s"
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Off as error:
        sys.exit(f"Error: {error}")
