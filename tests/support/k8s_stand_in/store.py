"""What etcd and the watch cache do: objects with a revision each, and the history from which watches are served."""

from __future__ import annotations

import bisect
import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from support.k8s_stand_in import refusals
from support.k8s_stand_in.resources import Resource

Object = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One step of history. ``before`` is the object as it was; None for one that is new."""

    revision: int
    kind: str
    resource: Resource
    after: Object
    before: Object | None


class Store:
    """All objects of the cluster. What is read from it is shared and never changed: writers get copies.

    ``changed`` is the one lock, and is notified of each change; hold it to read and write as one.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.revision = 100
        self.forgotten = 0
        self._objects: dict[tuple[Resource, str, str], Object] = {}
        self._history: list[Change] = []

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        with self.changed:
            return self._objects.get((resource, namespace, name))

    def list(self, resource: Resource, namespace: str = "") -> list[Object]:
        """All of a namespace, or of the cluster, by namespace and name."""
        with self.changed:
            found = [
                (key[1], key[2], item)
                for key, item in self._objects.items()
                if key[0] is resource and namespace in ("", key[1])
            ]
        return [item for _, _, item in sorted(found, key=lambda row: row[:2])]

    def create(self, resource: Resource, item: Object) -> Object:
        """Raises AlreadyExists."""
        meta = item["metadata"]
        key = (resource, meta.get("namespace", ""), meta["name"])
        with self.changed:
            if (there := self._objects.get(key)) is not None:
                going = bool(there["metadata"].get("deletionTimestamp"))
                raise refusals.already_exists(resource.group, resource.plural, meta["name"], going=going)
            return self._write(key, "ADDED", item, None)

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Object], None],
        *,
        uid: str = "",
    ) -> Object | None:
        """Change a copy and store it; None when there is no such object, or one with another uid.

        Nothing happens when the copy comes out as it was.
        """
        key = (resource, namespace, name)
        with self.changed:
            before = self._objects.get(key)
            if before is None or (uid and before["metadata"]["uid"] != uid):
                return None
            after = copy.deepcopy(before)
            change(after)
            if after == before:
                return before
            return self._write(key, "MODIFIED", after, before)

    def remove(self, resource: Resource, namespace: str, name: str, *, uid: str = "") -> Object | None:
        """The object as it was at last; None when there is no such object."""
        key = (resource, namespace, name)
        with self.changed:
            before = self._objects.get(key)
            if before is None or (uid and before["metadata"]["uid"] != uid):
                return None
            return self._write(key, "DELETED", copy.deepcopy(before), before)

    def forget_history(self) -> None:
        """As after a compaction: whoever watches from an earlier revision hears 410."""
        with self.changed:
            self.forgotten = self.revision
            self._history.clear()

    def since(self, revision: int) -> Iterator[Change]:
        """The changes after a revision, oldest first. Hold ``changed``."""
        first = bisect.bisect_right(self._history, revision, key=lambda change: change.revision)
        return iter(self._history[first:])

    def _write(
        self, key: tuple[Resource, str, str], kind: str, after: Object, before: Object | None
    ) -> Object:
        self.revision += 1
        after["metadata"]["resourceVersion"] = str(self.revision)
        if kind == "DELETED":
            del self._objects[key]
        else:
            self._objects[key] = after
        self._history.append(Change(self.revision, kind, key[0], after, before))
        self.changed.notify_all()
        return after
