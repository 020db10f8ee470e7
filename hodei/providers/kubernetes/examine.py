"""Whether pods can be made, one look at each thing that this takes, and the command for each that is missing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hodei.providers.contract import Health, ProviderError
from hodei.providers.kubernetes import failures
from hodei.providers.kubernetes.api import ApiError, ApiServer
from hodei.providers.kubernetes.failures import SET_UP
from hodei.providers.kubernetes.pod import Place
from hodei.providers.kubernetes.reach import WayBack

CALL_S = 2.5
AT_ONCE = 4
RIGHTS = {
    "pods": ("create", "get", "list", "watch", "delete"),
    "secrets": ("create", "list", "patch", "delete"),
    "events": ("list",),
    "resourcequotas": ("list",),
}
"""What the control plane does in the workers' namespace. ``deploy/kubernetes/20-rbac.yaml`` grants this, and to look at the
namespace itself and at the workers' account, which the look itself finds out.
"""

OF_WORKERS = ("pods", "count/pods", "secrets", "count/secrets", "requests.", "limits.", "cpu", "memory")
"""What of a quota workers use up."""

ENFORCE = "pod-security.kubernetes.io/enforce"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclass
class _Findings:
    checks: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def good(self, name: str, sentence: str) -> None:
        self.checks[name] = sentence

    def bad(self, name: str, sentence: str) -> None:
        self.checks[name] = sentence
        self.wrong.append(sentence)


def examine(api: ApiServer, place: Place, way_back: WayBack) -> Health:
    """Look at everything. Never raises; each call has :data:`CALL_S`."""
    found = _Findings()
    try:
        version = api.get("/version", timeout_s=CALL_S).get("gitVersion")
    except ProviderError as error:
        return Health(ok=False, message=error.failure.message, checks={"connection": error.failure.message})
    except ApiError as error:
        message = f"Kubernetes at {api.address} refuses us: {error.words}"
        return Health(ok=False, message=message, checks={"connection": message})
    first = f"Kubernetes {version} answers at {api.address}."
    found.good("connection", first)
    try:
        if _namespace(api, place, found):
            _account(api, place, found)
            _rights(api, place, found)
            _quota(api, place, found)
    except ProviderError as error:
        found.bad("connection", error.failure.message)
    _image(place, found)
    _reach(way_back, found)
    if found.wrong:
        return Health(
            ok=False, message=" ".join(found.wrong), checks=found.checks, details={"version": version}
        )
    return Health(ok=True, message=first, checks=found.checks, details={"version": version})


def _namespace(api: ApiServer, place: Place, found: _Findings) -> bool:
    """Whether it is worth while to look on."""
    name = place.namespace
    try:
        namespace = api.get(f"/api/v1/namespaces/{name}", timeout_s=CALL_S)
    except ApiError as error:
        if error.status == 404:
            found.bad(
                "namespace",
                f"The namespace {name} is not there. Make it: {SET_UP} (or: kubectl create namespace {name})",
            )
            return False
        if error.status == 401:
            found.bad("connection", f"Kubernetes does not accept our credentials: {error.words}")
            return False
        found.bad(
            "namespace", f"We may not look at the namespace {name}: {error.words}. Give us the role: {SET_UP}"
        )
        return True
    if (namespace.get("status") or {}).get("phase") == "Terminating":
        found.bad("namespace", f"The namespace {name} is being deleted.")
        return False
    found.good("namespace", f"The namespace {name} is there.")
    level = ((namespace.get("metadata") or {}).get("labels") or {}).get(ENFORCE)
    if level == "restricted":
        found.good("pod security", f"The namespace {name} enforces Pod Security `restricted`.")
    else:
        found.good(
            "pod security",
            f"The namespace {name} enforces {f'`{level}`' if level else 'no Pod Security level'}; workers need no more "
            f"than `restricted`: kubectl label --overwrite namespace {name} {ENFORCE}=restricted",
        )
    return True


def _account(api: ApiServer, place: Place, found: _Findings) -> None:
    account, name = place.service_account, place.namespace
    try:
        api.get(f"/api/v1/namespaces/{name}/serviceaccounts/{account}", timeout_s=CALL_S)
    except ApiError as error:
        if error.status == 404:
            found.bad(
                "service account",
                f"The workers' service account {account} is not there. Make it: {SET_UP} "
                f"(or: kubectl create serviceaccount {account} --namespace {name})",
            )
        else:
            found.bad(
                "service account",
                f"We may not look at it ({account}): {error.words}. Give us the role: {SET_UP}",
            )
        return
    found.good("service account", f"Workers run as the service account {account}, without a token of it.")


def _rights(api: ApiServer, place: Place, found: _Findings) -> None:
    """Each verb by itself: a role that lacks one works until it is needed."""
    wanted = [(resource, verb) for resource, verbs in RIGHTS.items() for verb in verbs]
    try:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="rights") as threads:
            allowed = list(threads.map(lambda pair: _may(api, place.namespace, *pair), wanted))
    except ApiError as error:
        found.bad("rights", f"Kubernetes does not say what we may do: {error.words}")
        return
    missing: dict[str, list[str]] = {}
    for (resource, verb), yes in zip(wanted, allowed, strict=True):
        if not yes:
            missing.setdefault(resource, []).append(verb)
    if not missing:
        found.good("rights", f"We may do all that is needed in {place.namespace}: {len(wanted)} rights.")
        return
    words = "; ".join(f"{', '.join(verbs)} {resource}" for resource, verbs in missing.items())
    commands = f"{SET_UP} and: {_binding(api, place.namespace)}"
    found.bad("rights", f"We may not {words} in {place.namespace}. Give us the role: {commands}")


def _may(api: ApiServer, namespace: str, resource: str, verb: str) -> bool:
    asked = {"namespace": namespace, "verb": verb, "resource": resource, "group": ""}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = api.call("POST", _REVIEWS, body=review, timeout_s=CALL_S)
    return bool((answer.get("status") or {}).get("allowed"))


def _binding(api: ApiServer, namespace: str) -> str:
    """The command that binds the shipped role to whoever we are."""
    try:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = api.call("POST", _WHO, body=review, timeout_s=CALL_S)
        user = str(answer["status"]["userInfo"]["username"])
    except (ApiError, ProviderError, KeyError, TypeError):
        user = "NAME"
    kind, _, account = user.partition("system:serviceaccount:")
    subject = f"--serviceaccount={account}" if account and not kind else f"--user='{user}'"
    return f"kubectl create rolebinding hodei-jobs-{int(time.time())} --namespace {namespace} --role=hodei-jobs {subject}"


def _quota(api: ApiServer, place: Place, found: _Findings) -> None:
    try:
        quotas = (
            api.get(f"/api/v1/namespaces/{place.namespace}/resourcequotas", timeout_s=CALL_S).get("items")
            or ()
        )
    except ApiError:
        found.good("quota", "We may not look at the namespace's quota.")  # said with the rights
        return
    lines, full = [], []
    for quota in quotas:
        status = quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        for name, limit in hard.items():
            lines.append(f"{name} {used.get(name, '0')} of {limit}")
            taken, most = failures.quantity(str(used.get(name, "0"))), failures.quantity(str(limit))
            if name.startswith(OF_WORKERS) and taken is not None and most is not None and taken >= most > 0:
                full.append(name)
    if not lines:
        found.good("quota", f"The namespace {place.namespace} has no quota.")
    else:
        words = f"Quota of {place.namespace}: {', '.join(sorted(lines))}."
        found.good("quota", f"{words} {', '.join(full)} is used up: workers wait." if full else words)


def _image(place: Place, found: _Findings) -> None:
    builtin = failures.is_builtin(place.default_image)
    advice = "; it is built, and loaded into the nodes or pushed to a registry" if builtin else ""
    found.good(
        "image",
        f"Workers run {place.default_image}{advice}; whether the nodes have it shows when one starts.",
    )


def _reach(way_back: WayBack, found: _Findings) -> None:
    try:
        url = way_back.url()
        found.good(
            "reach",
            f"Workers look for worker-manager at {url}; have a pod try it: hodei provider health --probe",
        )
    except ProviderError as error:
        found.bad("reach", error.failure.message)
