"""Watches: what there is, then every change, with bookmarks in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from support.k8s_stand_in import refusals
from support.k8s_stand_in.faults import Faults
from support.k8s_stand_in.requests import Request
from support.k8s_stand_in.resources import Resource
from support.k8s_stand_in.selectors import Matches
from support.k8s_stand_in.store import Change, Store

BOOKMARK_EVERY_S = 60.0
BOOKMARK_BEFORE_END_S = 2.0
USUAL_TIMEOUT_S = 1800.0
TICK_S = 0.5
Event = dict[str, Any]


class Watch:
    """One watch. Iterate over it: None means that there is nothing to say just now."""

    def __init__(
        self, store: Store, faults: Faults, request: Request, matches: Matches, alive: Callable[[], bool]
    ) -> None:
        assert request.resource is not None
        self._store = store
        self._faults = faults
        self._generation = faults.watches
        self._resource: Resource = request.resource
        self._namespace = request.namespace
        self._matches = matches
        self._alive = alive
        self._bookmarks = request.is_set("allowWatchBookmarks")
        self._initial = request.is_set("sendInitialEvents")
        given = request.query.get("resourceVersion", "")
        if given and not given.isdigit():
            raise refusals.bad_request(f'Invalid value: "{given}": strconv.ParseUint: invalid syntax')
        self._from = int(given or 0)
        self._ends = time.monotonic() + float(request.query.get("timeoutSeconds") or USUAL_TIMEOUT_S)

    def __iter__(self) -> Iterator[Event | None]:
        with self._store.changed:
            now = self._store.revision
            first = self._first() if self._from == 0 or self._initial else None
            too_old = first is None and self._from < self._store.forgotten
        if too_old:
            words = f"too old resource version: {self._from} ({self._store.forgotten})"
            yield {"type": "ERROR", "object": refusals.gone(words).status()}
            return
        seen = self._from
        if first is not None:
            yield from first
            seen = now
        if self._initial and self._bookmarks:
            yield self._bookmark(now, {"k8s.io/initial-events-end": "true"})
        yield from self._follow(seen)

    def _follow(self, seen: int) -> Iterator[Event | None]:
        bookmark_at = min(time.monotonic() + BOOKMARK_EVERY_S, self._ends - BOOKMARK_BEFORE_END_S)
        while self._alive():
            left_s = self._ends - time.monotonic()
            if self._silenced():
                yield None
                time.sleep(TICK_S / 5)
                continue
            if self._bookmarks and time.monotonic() > bookmark_at:
                yield self._bookmark(seen)
                bookmark_at = time.monotonic() + BOOKMARK_EVERY_S
            if left_s <= 0:
                return
            with self._store.changed:
                if self._store.revision <= seen:
                    self._store.changed.wait(min(TICK_S, left_s))
                changes, seen_before, seen = (
                    list(self._store.since(seen)),
                    seen,
                    max(seen, self._store.revision),
                )
                forgotten = seen_before < self._store.forgotten and seen_before < seen
            if self._silenced():
                continue
            events = [event for change in changes for event in self._event(change)]
            if forgotten and not changes:
                yield {"type": "ERROR", "object": refusals.gone("too old resource version").status()}
                return
            yield from events or [None]

    def _silenced(self) -> bool:
        return self._faults.watches != self._generation

    def _first(self) -> list[Event]:
        found = self._store.list(self._resource, self._namespace)
        return [{"type": "ADDED", "object": item} for item in found if self._matches(item)]

    def _event(self, change: Change) -> Iterator[Event]:
        if change.resource is not self._resource:
            return
        if self._namespace not in ("", change.after["metadata"].get("namespace", "")):
            return
        was = change.before is not None and self._matches(change.before)
        fits = change.kind != "DELETED" and self._matches(change.after)
        if fits:
            yield {"type": "MODIFIED" if was else "ADDED", "object": change.after}
        elif was:
            yield {"type": "DELETED", "object": change.after}

    def _bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> Event:
        meta: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        meta |= {"annotations": annotations} if annotations else {}
        resource = self._resource
        return {
            "type": "BOOKMARK",
            "object": {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta},
        }
