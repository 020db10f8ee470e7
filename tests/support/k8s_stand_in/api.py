"""The verbs of the API over the store: what a request that may be made answers."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from support.k8s_stand_in import (
    admission,
    clock,
    deletion,
    metadata,
    partial,
    patches,
    pod_validation,
    refusals,
    resources,
    reviews,
    schema,
    selectors,
)
from support.k8s_stand_in.accounts import Accounts, service_account
from support.k8s_stand_in.faults import Faults
from support.k8s_stand_in.rbac import Authorizer
from support.k8s_stand_in.requests import Request
from support.k8s_stand_in.resources import NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Resource
from support.k8s_stand_in.store import Object, Store
from support.k8s_stand_in.watching import Watch

VERSION = {
    "major": "1",
    "minor": "31",
    "gitVersion": "v1.31.0+k8s-stand-in",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2024-08-13T07:28:49Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}
LEAST_TOKEN_S = 600
_SERVER_SIDE = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "namespace",
    "name",
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A status, and a document or a stream: of watch events (None: nothing now), or of bytes of a log."""

    code: int = 200
    document: dict[str, Any] | None = None
    events: Iterable[dict[str, Any] | None] | None = None
    text: Iterable[bytes] | None = None
    warnings: list[str] = field(default_factory=list)


class Api:
    """``read_log`` gives a pod's log: the kubelet's part. ``alive`` is false once the cluster stops."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        faults: Faults,
        *,
        read_log: Callable[[Object, Request], Iterable[bytes]],
        alive: Callable[[], bool],
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._faults = faults
        self._authorizer = Authorizer(store)
        self._read_log = read_log
        self._alive = alive

    def answer(self, request: Request) -> Answer:
        """Raises Refusal."""
        answer = self._answer(request)
        if not partial.asked_for(request.accept) or request.verb not in ("get", "list", "watch"):
            return answer
        if answer.events is not None:
            return Answer(events=(event and partial.of_event(event) for event in answer.events))
        return Answer(document=partial.of(answer.document)) if answer.document else answer

    def _answer(self, request: Request) -> Answer:
        self._authorizer.check(request)
        if request.resource is None:
            return _document(request.path)
        if request.verb == "watch":
            watch = Watch(self._store, self._faults, request, self._selector(request), self._alive)
            return Answer(events=watch)
        if request.subresource == "log":
            return Answer(text=self._read_log(self._found(request), request))
        act = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._write,
            "patch": self._write,
            "delete": self._delete,
            "deletecollection": self._delete_all,
        }[request.verb]
        with self._store.changed:
            return act(request, request.resource)

    def _get(self, request: Request, resource: Resource) -> Answer:
        return Answer(document=self._found(request))

    def _list(self, request: Request, resource: Resource) -> Answer:
        matches = self._selector(request)
        found = [item for item in self._store.list(resource, request.namespace) if matches(item)]
        meta = {"resourceVersion": str(self._store.revision)}
        if token := request.query.get("continue"):
            revision, last = _read_token(token)
            if revision < self._store.forgotten:
                words = (
                    "The provided continue parameter is too old to display a consistent list result. You can start a new "
                    "list without the continue parameter, or use the continue token in this response to retrieve the "
                    "remainder of the results."
                )
                raise refusals.gone(words)
            meta["resourceVersion"] = str(revision)
            found = [item for item in found if _place(item) > last]
        if (limit := int(request.query.get("limit") or 0)) and len(found) > limit:
            meta["remainingItemCount"] = len(found) - limit  # type: ignore[assignment]
            found = found[:limit]
            meta["continue"] = _write_token(int(meta["resourceVersion"]), _place(found[-1]))
        items = [{key: item[key] for key in item if key not in ("kind", "apiVersion")} for item in found]
        document = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta}
        return Answer(document=document | {"items": items})

    def _create(self, request: Request, resource: Resource) -> Answer:
        if request.name:
            return self._create_under(request, resource)
        item, warnings = self._decoded(request, resource)
        if not resource.stored:
            return Answer(code=201, document=reviews.answer(self._authorizer, request.user, resource, item))
        warnings += admission.admit(self._store, resource, request.namespace, item)
        if not request.dry_run:
            self._store.create(resource, item)
        elif self._store.get(resource, request.namespace, item["metadata"]["name"]) is not None:
            raise refusals.already_exists(resource.group, resource.plural, item["metadata"]["name"])
        return Answer(code=201, document=item, warnings=warnings)

    def _create_under(self, request: Request, resource: Resource) -> Answer:
        """``pods/eviction`` and ``serviceaccounts/token``."""
        item = self._found(request)
        body = request.document() or {}
        if resource is PODS and request.subresource == "eviction":
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
                "lastProbeTime": None,
                "lastTransitionTime": clock.now(),
            }
            self._store.update(
                PODS,
                request.namespace,
                request.name,
                lambda pod: pod["status"].setdefault("conditions", []).append(condition),
            )
            deletion.delete(self._store, PODS, self._found(request), body.get("deleteOptions") or {})
            return Answer(code=201, document=refusals.status("Success", code=201))
        if resource is SERVICE_ACCOUNTS and request.subresource == "token":
            token = self._accounts.token(service_account(request.namespace, item["metadata"]["name"]))
            lifetime_s = (body.get("spec") or {}).get("expirationSeconds") or 3600
            if lifetime_s < LEAST_TOKEN_S:
                detail = "may not specify a duration less than 10 minutes"
                cause = refusals.Cause("FieldValueInvalid", "spec.expirationSeconds", lifetime_s, detail)
                raise refusals.invalid("authentication.k8s.io", "TokenRequest", "", [cause])
            status = {"token": token, "expirationTimestamp": clock.in_seconds(lifetime_s)}
            return Answer(code=201, document=body | {"status": status})
        raise refusals.no_such_path()

    def _write(self, request: Request, resource: Resource) -> Answer:
        before = self._found(request)
        warnings: list[str] = []
        if request.verb == "patch":
            patched = patches.apply(request.content_type, before, request.document())
            after, unknown = schema.decode(resource, patched)
            warnings = _complaints(request, unknown)
        else:
            after, warnings = self._decoded(request, resource)
        given = after["metadata"].get("resourceVersion")
        if given not in (None, "", before["metadata"]["resourceVersion"]):
            raise refusals.conflict(resource.group, resource.plural, request.name)
        self._keep_what_is_the_servers(request, before, after)
        if causes := self._change_faults(resource, request, before, after):
            raise refusals.invalid(resource.group, resource.kind, request.name, causes)
        if request.dry_run:
            return Answer(document=after, warnings=warnings)

        def put(item: Object) -> None:
            item.clear()
            item.update(copy.deepcopy(after))

        stored = self._store.update(resource, request.namespace_key, request.name, put)
        deletion.settle(self._store, resource, request.namespace_key, request.name)
        return Answer(document=stored, warnings=warnings)

    def _keep_what_is_the_servers(self, request: Request, before: Object, after: Object) -> None:
        """A write to an object leaves its status alone, one to its status all the rest."""
        meta, old = after["metadata"], before["metadata"]
        if meta.get("uid") not in (None, old["uid"]):
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old['uid']}"
            raise refusals.conflict(request.resource.group, request.resource.plural, request.name, why)  # type: ignore[union-attr]
        for name in _SERVER_SIDE:
            meta.pop(name, None)
            if name in old:
                meta[name] = old[name]
        meta["resourceVersion"] = old["resourceVersion"]
        if request.subresource == "status":
            status = after.get("status")
            after.clear()
            after.update(copy.deepcopy(before))
            after["status"] = status
        elif request.resource in (PODS, NODES) and "status" in before:
            after["status"] = before["status"]

    def _change_faults(
        self, resource: Resource, request: Request, before: Object, after: Object
    ) -> list[refusals.Cause]:
        causes = list(metadata.faults(resource, after))
        if resource is PODS and not request.subresource:
            causes += pod_validation.change_faults(before, after)
        if resource is SECRETS:
            causes += admission.fold_secret(after)
            if before.get("immutable") and before.get("data") != after.get("data"):
                detail = "field is immutable when `immutable` is set"
                causes.append(refusals.Cause("FieldValueForbidden", "data", detail=detail))
        return causes

    def _delete(self, request: Request, resource: Resource) -> Answer:
        options = _delete_options(request)
        dry_run = request.dry_run or options.get("dryRun") == ["All"]
        item, _ = deletion.delete(self._store, resource, self._found(request), options, dry_run=dry_run)
        if resource is PODS or item["metadata"].get("deletionTimestamp"):
            return Answer(document=item)
        details = {"name": item["metadata"]["name"], "group": resource.group, "kind": resource.plural}
        details |= {"uid": item["metadata"]["uid"]}
        details = {key: value for key, value in details.items() if value}
        return Answer(document=refusals.status("Success", details=details))

    def _delete_all(self, request: Request, resource: Resource) -> Answer:
        matches, options = self._selector(request), _delete_options(request)
        listed = self._list(request, resource)
        for item in self._store.list(resource, request.namespace):
            if matches(item):
                deletion.delete(self._store, resource, item, options)
        return listed

    def _found(self, request: Request) -> Object:
        resource = request.resource
        assert resource is not None
        found = self._store.get(resource, request.namespace_key, request.name)
        if found is None:
            raise refusals.not_found(resource.group, resource.plural, request.name)
        return found

    def _selector(self, request: Request) -> selectors.Matches:
        assert request.resource is not None
        labels = selectors.label_selector(request.query.get("labelSelector", ""))
        fields = selectors.field_selector(request.resource, request.query.get("fieldSelector", ""))
        return lambda item: labels(item) and fields(item)

    def _decoded(self, request: Request, resource: Resource) -> tuple[Object, list[str]]:
        body = request.document()
        if isinstance(body, dict) and (kind := body.get("kind")) and kind != resource.kind:
            raise refusals.bad_request(
                f"{kind} in version {json.dumps(body.get('apiVersion', ''))} cannot be handled as a {resource.kind}"
            )
        item, unknown = schema.decode(resource, body)
        item.setdefault("metadata", {})
        return item, _complaints(request, unknown)


def _complaints(request: Request, unknown: list[str]) -> list[str]:
    """Warnings of unknown fields, unless the client wants them refused or ignored."""
    wish = request.query.get("fieldValidation", "Warn")
    words = [f'unknown field "{path}"' for path in unknown]
    if words and wish == "Strict":
        kind = request.resource.kind if request.resource else ""
        raise refusals.bad_request(
            f'{kind} in version "v1" cannot be handled as a {kind}: strict decoding error: {", ".join(words)}'
        )
    return [] if wish == "Ignore" else words


def _delete_options(request: Request) -> dict[str, Any]:
    body = request.document() or {}
    options = dict(body) if isinstance(body, dict) else {}
    for name in ("gracePeriodSeconds", "propagationPolicy"):
        if name in request.query and name not in options:
            value = request.query[name]
            options[name] = int(value) if name == "gracePeriodSeconds" else value
    return options


def _document(path: str) -> Answer:
    """The paths that name no resource."""
    words = path.strip("/").split("/")
    if path in ("/healthz", "/livez", "/readyz") or words[0] in ("livez", "readyz"):
        return Answer(text=[b"ok"])
    if path == "/version":
        return Answer(document=dict(VERSION))
    if path == "/api":
        return Answer(document={"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
    if path == "/apis":
        return Answer(document=resources.group_list())
    if words == ["api", "v1"]:
        return Answer(document=resources.resource_list("", "v1"))
    if len(words) == 3 and words[0] == "apis" and words[1] in resources.GROUPS and words[2] == "v1":
        return Answer(document=resources.resource_list(words[1], words[2]))
    raise refusals.no_such_path()


def _place(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _write_token(revision: int, last: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([revision, *last]).encode()).decode()


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        revision, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise refusals.bad_request("invalid continue token: continue key is not valid") from None
    return int(revision), (namespace, name)
