"""Whether a node is lost, which is the only reason to remove a pod without its kubelet's word."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hodei.providers.contract import ProviderError
from hodei.providers.kubernetes.api import ApiError, ApiServer
from hodei.providers.kubernetes.view import moment

MARGIN_S = 10.0
"""How long after its grace period a pod is left to its kubelet before anybody asks about the node."""


class Nodes:
    """Needs ``get`` on nodes (``deploy/kubernetes/optional/nodes.yaml``, which is optional); without it no node is ever known to
    be lost.
    """

    def __init__(self, api: ApiServer, *, lost_after_s: float) -> None:
        self._api = api
        self._lost_after_s = lost_after_s

    def confirms_loss(self, pod: dict[str, Any]) -> bool:
        """Whether this pod, which is being deleted, is on a node that is gone, or that has not been ready for
        ``lost_after_s``.
        """
        name = (pod.get("spec") or {}).get("nodeName")
        ends = moment(pod["metadata"].get("deletionTimestamp"))
        now = self._api.now()
        if not name or ends is None or (now - ends).total_seconds() < MARGIN_S:
            return False
        try:
            node = self._api.get(f"/api/v1/nodes/{name}")
        except ApiError as error:
            return error.status == 404 and error.reason == "NotFound"
        except ProviderError:
            return False
        return not_ready_s(node, now) > self._lost_after_s


def not_ready_s(node: dict[str, Any], now: datetime) -> float:
    """For how long the node has not been ready; 0 when it is."""
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] != "True":
            since = moment(condition.get("lastTransitionTime"))
            return 0.0 if since is None else (now - since).total_seconds()
    return 0.0
