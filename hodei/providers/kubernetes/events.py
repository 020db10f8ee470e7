"""What a pod's events say while it does not come up: asked ever more seldom, remembered for a while.

The kubelet writes an event at once, and a status only when it looks at the pod again: of a pod with an init container that may be
15 s later.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from hodei.providers.contract import ProviderError
from hodei.providers.kubernetes.api import ApiError, ApiServer
from hodei.providers.kubernetes.view import Said, cannot_pull, lacks_words

FIRST_ASKED_AFTER_S = 1.5
LONGEST_PAUSE_S = 15.0
CALL_S = 3.0
REMEMBERED = 500
_EMPTY = ("Error: ",)
_IN_THE_STATUS = frozenset({"FailedScheduling"})
"""Events whose words are in the pod's status, for as long as they are true."""


@dataclass
class _Asked:
    ask_at: float
    pause_s: float = FIRST_ASKED_AFTER_S
    said: Said | None = None
    urgent: bool = False
    """It has failed already, and only the words are missing: that was asked for at once."""


class Events:
    """The events of one namespace. Safe to share between threads."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/events"
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, _Asked] = OrderedDict()

    def said_of(self, pod: dict[str, Any]) -> Said | None:
        """The last warning about a pod that does not come up; None when there is none, or nobody has to ask."""
        if not lacks_words(pod):
            return None
        uid, now = str(pod["metadata"].get("uid")), time.monotonic()
        with self._lock:
            asked = self._asked.setdefault(uid, _Asked(now + FIRST_ASKED_AFTER_S))
            while len(self._asked) > REMEMBERED:
                self._asked.popitem(last=False)
            if now < asked.ask_at and (asked.urgent or not cannot_pull(pod)):
                return asked.said
            asked.urgent = asked.urgent or cannot_pull(pod)
            asked.ask_at = now + asked.pause_s
            asked.pause_s = min(LONGEST_PAUSE_S, asked.pause_s * 2)
        asked.said = self._ask(uid) or asked.said
        return asked.said

    def _ask(self, uid: str) -> Said | None:
        selector = f"involvedObject.uid={uid},type=Warning"
        try:
            found = self._api.get(self._path, timeout_s=CALL_S, fieldSelector=selector)
            return last_warning(found.get("items") or ())
        except (ApiError, ProviderError):
            return None  # words are a help, not a need


def last_warning(events: Any) -> Said | None:
    """The newest warning that says something."""
    said = [
        (_at(event), str(event.get("reason")), " ".join(str(event.get("message") or "").split()))
        for event in events
        if event.get("type") == "Warning" and event.get("reason") not in _IN_THE_STATUS
    ]
    full = [(at, reason, text) for at, reason, text in said if text and not text.startswith(_EMPTY)]
    if not full:
        return None
    _, reason, message = max(full)
    return Said(reason=reason, message=message)


def _at(event: dict[str, Any]) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
