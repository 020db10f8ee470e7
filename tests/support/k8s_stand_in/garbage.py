"""What goes because something else has gone: what a deleted object owned, and all that was in a deleted namespace."""

from __future__ import annotations

from support.k8s_stand_in import deletion, metadata, quota
from support.k8s_stand_in.controllers import Controller
from support.k8s_stand_in.resources import ALL, BY_KIND, NAMESPACES, QUOTAS, SERVICE_ACCOUNTS, Resource
from support.k8s_stand_in.store import Object

_STORED = [one for one in ALL if one.stored]


class GarbageCollector(Controller):
    """Owners that are gone take with them what nobody else owns; ``orphan`` and ``foregroundDeletion`` are honoured."""

    def sync(self) -> None:
        for resource in _STORED:
            for item in self.store.list(resource):
                meta = item["metadata"]
                finalizers = meta.get("finalizers") or ()
                if meta.get("deletionTimestamp") and "orphan" in finalizers:
                    self._orphan(resource, item)
                elif meta.get("deletionTimestamp") and "foregroundDeletion" in finalizers:
                    self._foreground(resource, item)
                elif meta.get("ownerReferences"):
                    self._owned(resource, item)

    def _owned(self, resource: Resource, item: Object) -> None:
        meta = item["metadata"]
        with self.store.changed:
            if not any(self._is_there(owner, meta.get("namespace", "")) for owner in meta["ownerReferences"]):
                deletion.delete(self.store, resource, item, {})

    def _is_there(self, owner: dict[str, str], namespace: str) -> bool:
        resource = BY_KIND.get((owner["apiVersion"], owner["kind"]))
        if resource is None:
            return True  # a kind that is not played here: nothing can be said of it
        found = self.store.get(resource, namespace if resource.namespaced else "", owner["name"])
        return found is not None and found["metadata"]["uid"] == owner["uid"]

    def _dependents(self, uid: str) -> list[tuple[Resource, Object]]:
        return [
            (resource, item)
            for resource in _STORED
            for item in self.store.list(resource)
            if any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences") or ())
        ]

    def _orphan(self, resource: Resource, item: Object) -> None:
        uid = item["metadata"]["uid"]
        for kind, dependent in self._dependents(uid):

            def disown(found: Object) -> None:
                owners = found["metadata"]["ownerReferences"]
                found["metadata"]["ownerReferences"] = [one for one in owners if one["uid"] != uid]

            meta = dependent["metadata"]
            self.store.update(kind, meta.get("namespace", ""), meta["name"], disown)
        self._release(resource, item, "orphan")

    def _foreground(self, resource: Resource, item: Object) -> None:
        dependents = self._dependents(item["metadata"]["uid"])
        for kind, dependent in dependents:
            with self.store.changed:
                deletion.delete(self.store, kind, dependent, {})
        if not dependents:
            self._release(resource, item, "foregroundDeletion")

    def _release(self, resource: Resource, item: Object, finalizer: str) -> None:
        def release(found: Object) -> None:
            left = [one for one in found["metadata"].get("finalizers") or () if one != finalizer]
            found["metadata"]["finalizers"] = left

        meta = item["metadata"]
        place = (resource, meta.get("namespace", ""), meta["name"])
        if self.store.update(*place, release, uid=meta["uid"]) is not None:
            deletion.settle(self.store, *place)


class NamespaceController(Controller):
    """Each namespace has its account ``default``; one that is deleted is emptied first; quotas show what is used."""

    def sync(self) -> None:
        for namespace in self.store.list(NAMESPACES):
            name = namespace["metadata"]["name"]
            if namespace["metadata"].get("deletionTimestamp"):
                self._empty(name)
            elif self.store.get(SERVICE_ACCOUNTS, name, "default") is None:
                self.store.create(SERVICE_ACCOUNTS, default_account(name))
        for item in self.store.list(QUOTAS):
            with self.store.changed:
                status = quota.status_of(self.store, item)
                meta = item["metadata"]
                self.store.update(
                    QUOTAS,
                    meta["namespace"],
                    meta["name"],
                    lambda found, now=status: found.update(status=now),
                )

    def _empty(self, name: str) -> None:
        left = 0
        for resource in _STORED:
            if not resource.namespaced:
                continue
            for item in self.store.list(resource, name):
                with self.store.changed:
                    _, gone = deletion.delete(self.store, resource, item, {})
                left += not gone
        if not left:
            self.store.remove(NAMESPACES, "", name)


def default_account(namespace: str) -> Object:
    account: Object = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    metadata.stamp(account, namespace)
    return account
