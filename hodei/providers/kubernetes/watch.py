"""The informer: what the API server last said of each of our pods, kept in step by a watch.

List, then watch from the list's version; go on from the last event's version when the server ends the watch; list anew
after 410, after silence, and after an error in the stream; back off while the server is away. It starts when it is first
asked, in the process that asks, and ends when nobody has asked for a while.
"""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from typing import Any

import structlog

from hodei.providers.contract import ProviderError
from hodei.providers.kubernetes.api import ApiError, ApiServer, Stream

log = structlog.get_logger(__name__)

SERVER_ENDS_S = 60
"""``timeoutSeconds``: the server ends the watch after this time, so that one that it forgot does not last."""

SILENCE_S = 75.0
"""The socket's own time-out. Longer than the server's: a watch that brings nothing, not even its end, is dead."""

LONGEST_PAUSE_S = 15.0
SHORTEST_S = 1.0
"""A watch that ends sooner than this is followed by a pause: something between us and the server ends them all."""

UNUSED_S = 120.0
REMEMBERED = 1000
"""So many pods that went are remembered, with what was last seen of them."""

_KEPT_OF_SPEC = ("nodeName", "activeDeadlineSeconds", "readinessGates")
_KEPT_OF_METADATA = ("name", "uid", "labels", "creationTimestamp", "deletionTimestamp")


class PodWatch:
    """The pods that a label selector finds. Safe to share between threads."""

    def __init__(self, api: ApiServer, path: str, selector: str) -> None:
        self._api = api
        self._path = path
        self._selector = selector
        self._lock = threading.Lock()
        self._pods: dict[str, dict[str, Any]] = {}
        self._went: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._version: str | None = None
        self._in_step = False
        self._listed = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: Stream | None = None
        self._asked_at = 0.0

    def pods(self, *, wait_s: float = 0.0) -> list[dict[str, Any]] | None:
        """All that there are now; None while the watch is not in step with the server.

        The first question starts the watch; ``wait_s`` is how long it may wait for the first list.
        """
        self._asked_at = time.monotonic()
        self._start()
        if wait_s:
            self._listed.wait(wait_s)
        with self._lock:
            return list(self._pods.values()) if self._in_step else None

    def last_seen(self, name: str) -> dict[str, Any] | None:
        """A pod that went while we watched, as it was last; None when none of that name did."""
        with self._lock:
            return self._went.get(name)

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            stream.shut()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stopping.clear()
            self._listed.clear()
            self._thread = threading.Thread(target=self._run, name="pods watch", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        failed = 0
        while not self._stopping.is_set() and time.monotonic() - self._asked_at < UNUSED_S:
            began = time.monotonic()
            try:
                if self._version is None:
                    self._list()
                self._follow()
                failed = 0
            except (ApiError, ProviderError, OSError) as error:
                self._out_of_step(str(error))
            except Exception:
                log.exception("pods.watch_failed")
                self._out_of_step("a mistake of ours")
            if not self._in_step or time.monotonic() - began < SHORTEST_S:
                failed = 1 if time.monotonic() - began > LONGEST_PAUSE_S else failed + 1
                self._stopping.wait(_pause(failed))
        with self._lock:
            self._in_step, self._version = False, None

    def _list(self) -> None:
        found, version = self._api.list_all(self._path, selector=self._selector)
        pods = {pod["metadata"]["name"]: essential(pod) for pod in found}
        with self._lock:
            for name in self._pods.keys() - pods.keys():
                self._note_went(self._pods[name])
            self._pods, self._version, self._in_step = pods, version, True
        self._listed.set()

    def _follow(self) -> None:
        query = {
            "watch": "1",
            "labelSelector": self._selector,
            "resourceVersion": self._version,
            "timeoutSeconds": SERVER_ENDS_S,
            "allowWatchBookmarks": "true",
        }
        with self._api.stream(self._path, query=query, silence_s=SILENCE_S) as stream:
            self._stream = stream
            try:
                with self._lock:
                    self._in_step = True
                for event in stream.documents():
                    self._note(event)
                    if self._stopping.is_set():
                        return
            finally:
                self._stream = None

    def _note(self, event: dict[str, Any]) -> None:
        kind, document = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            code, reason = int(document.get("code") or 500), str(document.get("reason") or "")
            raise ApiError(code, reason, str(document.get("message") or "no words"))
        metadata = document.get("metadata") or {}
        with self._lock:
            if metadata.get("resourceVersion"):
                self._version = str(metadata["resourceVersion"])
            if kind in ("ADDED", "MODIFIED"):
                self._pods[metadata["name"]] = essential(document)
            elif kind == "DELETED":
                self._pods.pop(metadata["name"], None)
                self._note_went(essential(document))

    def _note_went(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        self._went[name] = pod
        self._went.move_to_end(name)
        while len(self._went) > REMEMBERED:
            self._went.popitem(last=False)

    def _out_of_step(self, reason: str) -> None:
        """What we know may be old. The next try begins with a list."""
        with self._lock:
            was, self._in_step, self._version = self._in_step, False, None
        if was and not self._stopping.is_set():
            log.info("pods.watch_broken", reason=reason)


def _pause(failed: int) -> float:
    """Back-off with jitter: about 0.2, 0.4, 0.8 … 15 s."""
    ceiling = min(LONGEST_PAUSE_S, 0.2 * 2.0 ** min(failed, 16) / 2)
    return ceiling * (0.5 + 0.5 * random.random())


def essential(pod: dict[str, Any]) -> dict[str, Any]:
    """The part of a pod that says how it is."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    kept = {name: spec[name] for name in _KEPT_OF_SPEC if name in spec}
    for kind in ("initContainers", "containers"):
        kept[kind] = [{"name": each["name"], "image": each.get("image")} for each in spec.get(kind) or ()]
    return {
        "metadata": {name: metadata[name] for name in _KEPT_OF_METADATA if metadata.get(name)},
        "spec": kept,
        "status": pod.get("status") or {},
    }
