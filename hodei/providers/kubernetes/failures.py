"""What the API server, the scheduler and the kubelet say when something is wrong, in the platform's codes. Pure."""

from __future__ import annotations

import re

from hodei.domain.causes import Failure

BUILTIN_IMAGE = "hodei-jobs-worker"
SET_UP = "kubectl apply -f deploy/kubernetes/"

_NO_SHELL = ("executable file not found", "no such file or directory", "exec format error")
_AUTH = ("unauthorized", "authentication required", "no basic auth credentials", "403 forbidden", "denied")
_LIMITED = ("toomanyrequests", "too many requests")
_UNREACHABLE = (
    "dial tcp",
    "i/o timeout",
    "no such host",
    "handshake timeout",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "deadline exceeded",
    "client.timeout",
    "server misbehaving",
    "unexpected eof",
)
_FULL = ("no space left", "disk quota exceeded")
_OF_RIGHTS = re.compile(r"\bcannot [a-z]+ resource\b")
"""The words of a refusal for want of rights. Anything else that is forbidden was refused by an admission rule."""

_OF_A_LIMIT_RANGE = re.compile(r"((maximum|minimum) .* usage|max limit to request ratio) per (container|pod)")
_RUNTIME_AWAY = ("error reading from server: eof", "transport is closing", "dial unix")
"""The node's runtime, which the kubelet reaches over a socket, is being restarted: nothing about an image or a container."""

_LATER = ("pull qps exceeded", *_RUNTIME_AWAY)
"""The kubelet pulls too many images at the moment, or nobody does, and this one has not even been asked for."""

_PASSING = (
    "failed to sync",
    "timed out",
    "deadline exceeded",
    "deadlineexceeded",
    "is reserved for",
    "code = unavailable",
    "connection refused",
    *_RUNTIME_AWAY,
)
"""Words of troubles with a container in which the kubelet soon tries again with success."""


def refused(status: int, reason: str, words: str, *, namespace: str, what: str) -> Failure:
    """The API server refused to make something; ``words`` are its own, ``what`` is such as "the pod hodei-worker-…"."""
    text = words.lower()
    if status == 401:
        return Failure(code="ERR_5002", message=f"Kubernetes does not accept our credentials: {words}")
    if "exceeded quota" in text:
        return _quota(words)
    if "failed quota" in text and "must specify" in text:
        return Failure(
            code="ERR_4005",
            message=f"The namespace's quota wants every job to say what it needs: {words}. Ask with --cpu and --memory, "
            "or set cpu_default and memory_default of the provider.",
        )
    if "status unknown for quota" in text:
        return Failure(code="ERR_5003", message=f"The namespace's quota has not been counted yet: {words}")
    if "violates podsecurity" in text:
        return Failure(
            code="ERR_5007",
            message=f"The namespace {namespace} does not take our pods: {words}. Correct config.pod_template, or its level.",
        )
    if "serviceaccount" in text and ("not found" in text or "error looking up" in text):
        return Failure(
            code="ERR_5007",
            message=f"{words}. Make the workers' service account: {SET_UP} (or correct config.service_account).",
        )
    if status == 404 and "namespaces" in text:
        return Failure(
            code="ERR_5007",
            message=f"The namespace {namespace} is not there. Make it: {SET_UP} (or: kubectl create namespace {namespace})",
        )
    if "limitrange" in text or _OF_A_LIMIT_RANGE.search(text):
        return Failure(code="ERR_4005", message=f"The namespace's LimitRange does not allow {what}: {words}")
    if status == 403 and not _OF_RIGHTS.search(text):
        return Failure(
            code="ERR_5007",
            message=f"A rule of the cluster does not let {what} in: {words}. Correct the provider's config, or the rule.",
        )
    if status == 403:
        return Failure(
            code="ERR_5002",
            message=f"Kubernetes does not let us make or change {what}: {words}. Give us the role: {SET_UP}",
        )
    if status in (400, 422):
        return Failure(code="ERR_5005", message=f"Kubernetes does not take {what}: {words}")
    code = "ERR_5003" if status == 429 else "ERR_5008" if status == 409 or status >= 500 else "ERR_5005"
    return Failure(
        code=code, message=f"Kubernetes could not make or change {what} ({status} {reason}): {words}"
    )


def foreign(kind: str, name: str, namespace: str) -> Failure:
    """The name is taken by something without our labels."""
    command = f"kubectl delete {kind.lower()} {name} --namespace {namespace}"
    return Failure(
        code="ERR_5005",
        message=f"There is a {kind} {name} that Hodei did not make; remove it with {command}.",
    )


def _quota(words: str) -> Failure:
    """A ResourceQuota that could never hold it is a matter of what was asked for; one that is used up, of waiting."""
    asked, limits = _amounts(words, "requested"), _amounts(words, "limited")
    if any(amount > limits.get(name, amount) for name, amount in asked.items()):
        return Failure(
            code="ERR_3008", message=f"The job asks for more than the namespace's quota holds: {words}"
        )
    return Failure(code="ERR_5003", message=f"The namespace's quota is used up: {words}")


def _amounts(words: str, kind: str) -> dict[str, float]:
    found = re.search(rf"{kind}: ([^ ]+)", words)
    pairs = (pair.partition("=") for pair in found[1].strip(",").split(",")) if found else ()
    return {name: number for name, _, text in pairs if (number := quantity(text)) is not None}


_UNITS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}


def quantity(text: str) -> float | None:
    """A quantity of Kubernetes' as a number; None when it is none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]{0,2})", text.strip())
    return float(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None


def is_pulled_later(words: str) -> bool:
    """Whether the kubelet only says that it will try to pull an image soon."""
    return _has(words.lower(), _LATER)


def is_passing(words: str) -> bool:
    """Whether what keeps a container from its start is the node's trouble, and soon over."""
    return _has(words.lower(), _PASSING)


def image_failed(words: str, *, image: str) -> Failure:
    """The kubelet cannot get the image; ``words`` are its own, and the registry's in them.

    A registry that cannot be reached is ERR_3001 as well: in a cluster without one that is how a missing image shows.
    """
    text = words.lower()
    if is_builtin(image):
        advice = "build the worker image and load it into the nodes, or push it to a registry and set HODEI_WORKER_IMAGE"
        return Failure(
            code="ERR_3001", message=f"The worker image {image} cannot be pulled: {_end(words)}; {advice}."
        )
    if _has(text, _LIMITED):
        code, advice = "ERR_5003", "wait, or give the provider an image pull secret"
    elif _has(text, _FULL):
        code, advice = "ERR_3002", "free space on the node"
    elif "no match for platform" in text or "no matching manifest" in text:
        code, advice = "ERR_3001", "the image is not there for the node's kind of processor"
    elif _has(text, _UNREACHABLE):
        code, advice = (
            "ERR_3001",
            "check the image's name, and that the nodes reach its registry or have it loaded",
        )
    elif _has(text, _AUTH):
        code, advice = (
            "ERR_3001",
            "check the image's name and whether its registry wants an image pull secret",
        )
    else:
        code, advice = "ERR_3001", "check the image's name"
    return Failure(code=code, message=f"The image {image} cannot be pulled: {_end(words)}; {advice}.")


def container_failed(reason: str, words: str, *, image: str) -> Failure:
    """The kubelet or the runtime cannot make or start a container; ``words`` are theirs."""
    text = words.lower()
    if is_passing(words):
        return Failure(code="ERR_3007", message=f"The node could not start the container ({reason}): {words}")
    if "launch.sh" in text or "/bin/sh" in text or (_has(text, _NO_SHELL) and "exec" in text):
        return Failure(
            code="ERR_1010",
            message=f"The image {image} has no /bin/sh to start the agent with; use an image with sh and Python 3.8 or later.",
        )
    if reason == "CreateContainerConfigError" and "secret" in text:
        return Failure(code="ERR_3007", message=f"The worker's token could not be handed over: {words}")
    if _has(text, _FULL):
        return Failure(code="ERR_3002", message=f"The node is out of disk: {words}")
    return Failure(code="ERR_1010", message=f"The container could not be started ({reason}): {words}")


def no_python(image: str) -> Failure:
    return Failure(
        code="ERR_1010",
        message=f"The image {image} has no Python 3.8 or later; use an image that has one, or build yours on the worker image.",
    )


def is_builtin(image: str) -> bool:
    """Whether the name is that of our own worker image, which is built, and in no registry."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0] == BUILTIN_IMAGE


def unreachable(words: str, address: str) -> Failure:
    """Nothing answers at the API server's address."""
    return Failure(code="ERR_5001", message=f"Kubernetes cannot be reached at {address}: {_end(words)}.")


def silent(address: str, timeout_s: float) -> Failure:
    """The API server did not answer in time."""
    return Failure(
        code="ERR_5006",
        message=f"Kubernetes at {address} did not answer within {timeout_s:g} s; look at it: kubectl get --raw /readyz",
    )


def _end(words: str) -> str:
    return words.strip().rstrip(".")


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)
