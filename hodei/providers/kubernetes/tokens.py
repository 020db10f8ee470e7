"""The Secrets with workers' one-time tokens: made before the pod, given to it, gone with it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hodei.providers.contract import ProviderError, WorkerRequest
from hodei.providers.kubernetes import failures, pod
from hodei.providers.kubernetes.api import MERGE_PATCH, ApiError, ApiServer


class Tokens:
    """The Secrets of one namespace. Safe to share between threads. All methods raise ProviderError."""

    def __init__(self, api: ApiServer, place: pod.Place) -> None:
        self._api = api
        self._place = place
        self.path = f"/api/v1/namespaces/{place.namespace}/secrets"

    def put(self, request: WorkerRequest, *, owner: dict[str, Any] | None = None) -> None:
        """Make the worker's, unless it is there. ``owner``: the pod, when that is there already."""
        name = pod.name_of(request.worker_id)
        body = pod.secret(request, self._place)
        if owner is not None:
            body["metadata"] |= pod.owner_patch(owner)["metadata"]
        try:
            self._api.create(self.path, body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise error.about(f"the Secret {name}", self._place.namespace) from error
            if not self._of(request.worker_id):
                raise ProviderError(failures.foreign("Secret", name, self._place.namespace)) from error

    def give(self, request: WorkerRequest, made: dict[str, Any]) -> None:
        """From here on it goes with its pod. One that went with a pod before this one is made anew."""
        name = pod.name_of(request.worker_id)
        patch = pod.owner_patch(made)
        try:
            self._api.call("PATCH", f"{self.path}/{name}", body=patch, content_type=MERGE_PATCH)
        except ApiError as error:
            if error.status != 404:
                raise error.about(f"the Secret {name}", self._place.namespace) from error
            self.put(request, owner=made)

    def forget(self, worker_id: UUID) -> None:
        """Delete the worker's, if it has one."""
        for entry in self._of(worker_id):
            metadata = entry["metadata"]
            try:
                self._api.delete(f"{self.path}/{metadata['name']}", uid=metadata.get("uid"))
            except ApiError as error:
                raise error.about(f"the Secret {metadata['name']}", self._place.namespace) from error

    def _of(self, worker_id: UUID) -> list[dict[str, Any]]:
        try:
            found, _ = self._api.list_all(self.path, selector=pod.made_for(worker_id), metadata_only=True)
        except ApiError as error:
            raise error.about("the Secrets", self._place.namespace) from error
        return found
