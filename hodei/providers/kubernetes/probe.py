"""A pod that tries the way a worker goes: whether it is scheduled, gets its image, starts, and reaches worker-manager."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError, ResourceState, WorkerRequest
from hodei.providers.kubernetes import pod as pods
from hodei.providers.kubernetes import view
from hodei.providers.kubernetes.api import ApiError, ApiServer
from hodei.providers.kubernetes.overlay import WORKER

SaidOf = Callable[[dict[str, Any]], view.Said | None]

PROBE = "hodei.io/probe"
PROBE_S = 60.0
TRIES_S = 10.0
_LOOK_EVERY_S = 0.3
_LEFT_OVER_S = 2 * PROBE_S

_PROGRAM = f"""
import json, os, time, urllib.error, urllib.request
url, said, began = os.environ["HODEI_SERVER"], {{}}, time.monotonic()
ask = urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open
try:
    answer = ask(url + "/api/v1/agent/inbox", timeout={TRIES_S:g})
    said["status"] = answer.status
except urllib.error.HTTPError as error:
    said["status"] = error.code
    try:
        said["code"] = json.loads(error.read(4096)).get("code")
    except ValueError:
        pass
except Exception as error:
    said["error"] = str(getattr(error, "reason", error))
said["ms"] = round((time.monotonic() - began) * 1000)
open("/dev/termination-log", "w").write(json.dumps(said))
"""
"""Asks for an inbox without a token: worker-manager, and nobody else, answers 401 with the code `unauthorized`."""


def manifest(place: pods.Place, *, server_url: str, deployment: str) -> dict[str, Any]:
    """A worker's pod, that runs the probe instead of the agent and has no token."""
    request = WorkerRequest(worker_id=uuid4(), one_time_token="", deployment=deployment, lifetime_s=PROBE_S)
    made = pods.worker_pod(request, place, server_url=server_url)
    made["metadata"]["name"] = f"hodei-probe-{request.worker_id.hex[:12]}"
    made["metadata"]["labels"] = place.config.labels | {
        PROBE: "true",
        "app.kubernetes.io/managed-by": "hodei-jobs",
    }
    container = next(each for each in made["spec"]["containers"] if each["name"] == WORKER)
    container["command"] = ["python3", "-I", "-S", "-c", _PROGRAM]
    container["env"] = [variable for variable in container["env"] if variable["name"] == "HODEI_SERVER"]
    return made


def try_it(api: ApiServer, place: pods.Place, *, server_url: str, said_of: SaidOf) -> tuple[bool, str]:
    """Run the probe and remove it: whether a worker would reach us, and a sentence. Takes at most :data:`PROBE_S` and a
    little.

    ``said_of`` asks a pod's events. Raises ApiError and ProviderError for a pod that cannot even be made.
    """
    path = f"/api/v1/namespaces/{place.namespace}/pods"
    _remove_left_overs(api, path)
    made = api.create(path, manifest(place, server_url=server_url, deployment="probe"))
    name = made["metadata"]["name"]
    try:
        return _wait(api, f"{path}/{name}", server_url, said_of)
    finally:
        _delete(api, f"{path}/{name}")


def _wait(api: ApiServer, path: str, server_url: str, said_of: SaidOf) -> tuple[bool, str]:
    until = time.monotonic() + PROBE_S
    waits: Failure | None = None
    while time.monotonic() < until:
        found = api.get(path)
        seen = view.from_pod(uuid4(), found, now=api.now(), said=said_of(found), unschedulable_s=PROBE_S / 2)
        if seen.state is ResourceState.EXITED:
            return _verdict(found, server_url, seen.failure)
        if seen.failure is not None:
            return False, f"The probe pod does not start: {seen.failure.message}"
        waits = seen.waiting
        time.sleep(_LOOK_EVERY_S)
    reason = f": {waits.message}" if waits else "."
    return False, f"The probe pod did not end within {PROBE_S:g} s{reason}"


def _verdict(found: dict[str, Any], server_url: str, failure: Failure | None) -> tuple[bool, str]:
    statuses = (found.get("status") or {}).get("containerStatuses") or ()
    ended = next((each["state"].get("terminated") or {} for each in statuses if each["name"] == WORKER), {})
    try:
        said = json.loads(ended.get("message") or "")
    except ValueError:
        why = (
            failure.message
            if failure
            else f"exit code {ended.get('exitCode')}: {ended.get('message') or 'no words'}"
        )
        return False, f"The probe pod failed: {why}"
    node = (found.get("spec") or {}).get("nodeName")
    if said.get("status") == 401 and said.get("code") == "unauthorized":
        return (
            True,
            f"A pod on node {node} reached worker-manager at {server_url} within {said.get('ms')} ms.",
        )
    if "error" in said:
        return False, (
            f"A pod on node {node} cannot reach worker-manager at {server_url} ({said['error']}). Set HODEI_SERVER_HOST "
            "to an address of this machine that the nodes reach, and have firewalls and NetworkPolicies let it pass."
        )
    status = said.get("status")
    return (
        False,
        f"At {server_url} something else than worker-manager answers (HTTP {status}); set HODEI_SERVER_HOST.",
    )


def _remove_left_overs(api: ApiServer, path: str) -> None:
    """Of probes whose maker died."""
    found, _ = api.list_all(path, selector=f"{PROBE}=true", metadata_only=True)
    for entry in found:
        made = view.moment(entry["metadata"].get("creationTimestamp"))
        if made is not None and (api.now() - made).total_seconds() > _LEFT_OVER_S:
            _delete(api, f"{path}/{entry['metadata']['name']}")


def _delete(api: ApiServer, path: str) -> None:
    try:
        api.call("DELETE", path, body={"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 1})
    except (ApiError, ProviderError):
        return  # it is gone, or the next probe removes it
