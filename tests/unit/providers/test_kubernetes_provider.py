"""The provider where a cluster would have to be broken to see it: nodes that are lost, rights that are missing, ways back."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from api_script import Answer, ScriptedServer, kubeconfig, refuses, says, scripted
from support.platform import CHECKOUT

from hodei.providers.contract import (
    Discarding,
    Probing,
    ProviderError,
    ResourceState,
    Watching,
    WorkerRequest,
)
from hodei.providers.kubernetes import events, examine, pod, provider, reach
from hodei.providers.kubernetes.api import ApiServer
from hodei.providers.kubernetes.provider import KubernetesProvider
from hodei.providers.registry import build_provider
from hodei.settings import Settings

WORKER = UUID("00000000-0000-7000-8000-000000000001")
NAME = f"hodei-worker-{WORKER}"


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def open_provider(folder: Path, url: str, **settings: Any) -> KubernetesProvider:
    path = kubeconfig(folder, url, token="t")
    made = build_provider(
        provider_id=uuid4(),
        provider_type="kubernetes",
        config={"kubeconfig": str(path), "namespace": "workers"},
        settings=Settings(**{"server_host": "10.0.0.5", **settings}),
        data_dir=folder,
    )
    assert isinstance(made, KubernetesProvider) and isinstance(made, Watching)
    assert isinstance(made, Probing) and isinstance(made, Discarding)
    return made


class Cluster:
    """A pod that is being deleted and does not go, on a node that may be looked at or not."""

    def __init__(
        self, node: Answer, *, deleted_s: float = 60.0, started: bool = True, marked: bool = False
    ) -> None:
        self.node = node
        self.conditions = {"Ready": "False", "ContainersReady": "True"} if marked else {}
        self.looks = 0
        self.state = {"running": {}} if started else {"waiting": {"reason": "ContainerCreating"}}
        self.deleted: list[str] = []
        self.forced = False
        self.deleted_s = deleted_s
        self.graces: list[int] = []

    def __call__(self, handler: Any, request: dict[str, Any]) -> None:
        self.answer(request)(handler, request)

    def answer(self, request: dict[str, Any]) -> Answer:
        path, method = request["path"].partition("?")[0], request["method"]
        if path.startswith("/api/v1/nodes/"):
            return self.node
        if path.endswith("/secrets"):
            return says({"items": [{"metadata": {"name": NAME, "uid": "s1"}}]})
        if method == "DELETE":
            self.deleted.append(path.split("/")[-2])
        if method == "DELETE" and "/secrets/" in path:
            return says({})
        if method == "DELETE":
            self.graces.append(request["body"]["gracePeriodSeconds"])
            assert request["body"]["preconditions"] == {"uid": "u1"}
            self.forced = self.graces[-1] == 0
            return says({})
        if self.forced:
            return refuses(404, "NotFound")
        labels = {pod.MANAGED: "true", pod.WORKER_ID: str(WORKER)}
        metadata = {"name": NAME, "uid": "u1", "labels": labels, "deletionTimestamp": ago(self.deleted_s)}
        self.looks += 1
        status = {
            "phase": "Running",
            "containerStatuses": [{"name": "worker", "state": self.state}],
            "conditions": [{"type": kind, "status": value} for kind, value in self.conditions.items()],
        }
        return says({"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": status})


def node_since(seconds: float, status: str = "Unknown") -> Answer:
    """A node that has been so since then, by the time at which it is asked about."""

    def answer(handler: Any, request: dict[str, Any]) -> None:
        ready = {"type": "Ready", "status": status, "lastTransitionTime": ago(seconds)}
        says({"status": {"conditions": [ready]}})(handler, request)

    return answer


GONE = refuses(404, "NotFound")
LEASE_S = Settings().lease_over_s


@pytest.mark.parametrize(
    "node", [GONE, node_since(LEASE_S + 60)], ids=["gone", "not ready for longer than a lease"]
)
def test_a_pod_is_removed_by_force_only_when_its_node_is_confirmed_lost(tmp_path: Path, node: Answer) -> None:
    cluster = Cluster(node)
    with scripted(cluster) as server:
        open_provider(tmp_path, server.url).stop(WORKER)

    assert cluster.graces == [1, 0]


@pytest.mark.parametrize(
    ("node", "deleted_s"),
    [
        (node_since(LEASE_S - 60), 60.0),
        (node_since(LEASE_S + 60, "True"), 60.0),
        (refuses(403, "Forbidden"), 60.0),
        (refuses(500, "InternalError"), 60.0),
        (GONE, 5.0),
    ],
    ids=["not long enough", "ready", "we may not look", "no answer", "its kubelet still has time"],
)
def test_any_other_pod_is_left_to_its_kubelet_and_asked_about_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Answer, deleted_s: float
) -> None:
    monkeypatch.setattr(provider, "REMOVAL_S", -0.5)
    cluster = Cluster(node, deleted_s=deleted_s)
    with scripted(cluster) as server:
        with pytest.raises(ProviderError) as caught:
            open_provider(tmp_path, server.url).stop(WORKER)

    assert cluster.graces == [1]
    assert caught.value.transient
    assert caught.value.failure.code == ("ERR_3010" if deleted_s > 15 else "ERR_5006")
    assert "node-1" in caught.value.failure.message


@pytest.mark.parametrize(
    ("deleted_s", "marked"), [(60.0, False), (-1.0, True)], ids=["overdue", "marked by the cluster"]
)
def test_nobody_waits_for_a_node_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted_s: float, *, marked: bool
) -> None:
    monkeypatch.setattr(provider, "REMOVAL_S", 5.0)
    cluster = Cluster(node_since(20), deleted_s=deleted_s, marked=marked)
    with scripted(cluster) as server:
        with pytest.raises(ProviderError) as caught:
            open_provider(tmp_path, server.url).stop(WORKER)

    assert (caught.value.failure.code, caught.value.transient) == ("ERR_3010", True)
    assert cluster.deleted == ["pods", "secrets"] and cluster.graces == [1], "its deletion stands"
    assert cluster.looks == 2, "before it was deleted, and after"


def test_a_worker_that_never_came_up_is_not_waited_for_while_its_image_is_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet interrupts no pull. Without its Secret nothing can come of the pod any more."""
    monkeypatch.setattr(provider, "DISCARD_S", 0.2)
    cluster = Cluster(refuses(403, "Forbidden"), started=False)
    with scripted(cluster) as server:
        open_provider(tmp_path, server.url).discard(WORKER)

    assert cluster.graces == [1, 0]
    assert cluster.deleted == ["pods", "secrets", "pods"], "the Secret before the force"


def test_a_worker_that_may_have_run_is_waited_for_and_says_what_its_kubelet_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "REMOVAL_S", 0.0)
    cluster = Cluster(refuses(403, "Forbidden"), started=False)
    with scripted(cluster) as server:
        with pytest.raises(ProviderError, match="pulls its image") as caught:
            open_provider(tmp_path, server.url).stop(WORKER)

    assert (caught.value.failure.code, cluster.graces) == ("ERR_5006", [1])


def test_a_pod_that_only_has_our_name_is_never_touched(tmp_path: Path) -> None:
    theirs = says({"metadata": {"name": NAME, "uid": "u9", "labels": {}}, "status": {"phase": "Running"}})

    def answer(handler: Any, request: dict[str, Any]) -> None:
        assert request["method"] in ("GET", "POST") or "secrets/" in request["path"]
        if request["method"] == "POST" and request["path"].endswith("/pods"):
            refuses(409, "AlreadyExists")(handler, request)
        elif request["method"] == "POST":
            says({})(handler, request)
        else:
            (says({"items": []}) if "?" in request["path"] else theirs)(handler, request)

    with scripted(answer) as server:
        opened = open_provider(tmp_path, server.url)
        opened.stop(WORKER)

        assert opened.inspect(WORKER).state is ResourceState.GONE
        with pytest.raises(ProviderError, match="kubectl delete pod") as caught:
            opened.start(WorkerRequest(worker_id=WORKER, one_time_token="t", deployment="d"))
        assert caught.value.failure.code == "ERR_5005"


def test_a_refused_pod_takes_its_secret_with_it(tmp_path: Path) -> None:
    entry = {"metadata": {"name": NAME, "uid": "s1", "labels": {}}}

    def answer(handler: Any, request: dict[str, Any]) -> None:
        if request["method"] == "POST" and request["path"].endswith("/pods"):
            refuses(403, "Forbidden", "exceeded quota: q, requested: pods=1, used: pods=9, limited: pods=9")(
                handler, request
            )
        else:
            says({"items": [entry]} if request["method"] == "GET" else {})(handler, request)

    with scripted(answer) as server:
        with pytest.raises(ProviderError) as caught:
            open_provider(tmp_path, server.url).start(
                WorkerRequest(worker_id=WORKER, one_time_token="t", deployment="d")
            )
        last = server.asked[-1]

    assert (caught.value.failure.code, caught.value.transient) == ("ERR_5003", True)
    assert (last["method"], last["path"]) == ("DELETE", f"/api/v1/namespaces/workers/secrets/{NAME}")


def test_a_secret_that_went_with_a_pod_before_is_made_anew_for_this_one(tmp_path: Path) -> None:
    made = {"metadata": {"name": NAME, "uid": "u2"}}

    def answer(handler: Any, request: dict[str, Any]) -> None:
        (refuses(404, "NotFound") if request["method"] == "PATCH" else says(made))(handler, request)

    with scripted(answer) as server:
        request = WorkerRequest(worker_id=WORKER, one_time_token="t", deployment="d", patience_s=0)
        assert open_provider(tmp_path, server.url).start(request) == NAME

    calls = [(each["method"], each["path"].rpartition("/")[2]) for each in server.asked]
    assert calls == [("POST", "secrets"), ("POST", "pods"), ("PATCH", NAME), ("POST", "secrets")]
    assert server.asked[3]["body"]["metadata"]["ownerReferences"][0]["uid"] == "u2"


# --- words ------------------------------------------------------------------------------------------------------------


def starting(uid: str) -> dict[str, Any]:
    metadata = {"name": NAME, "uid": uid}
    conditions = [{"type": "PodScheduled", "status": "True"}]
    return {"metadata": metadata, "status": {"phase": "Pending", "conditions": conditions}}


def test_events_are_asked_only_of_pods_that_do_not_come_up_and_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: now[0]))
    warning = {"type": "Warning", "reason": "FailedMount", "message": "no volume", "lastTimestamp": ago(1)}
    with scripted(says({"items": [warning]}), says({"items": []})) as server:
        asked = events.Events(ApiServer(kubeconfig(tmp_path, server.url), None, timeout_s=5), "workers")
        said = []
        for _ in range(100):
            answer = asked.said_of(starting("u1"))
            said.append(answer.message if answer else None)
            now[0] += 0.5

    assert said[:3] == [None, None, None] and set(said[3:]) == {"no volume"}, (
        "what was said once is remembered"
    )
    assert 4 <= len(server.asked) <= 7
    assert "involvedObject.uid%3Du1" in server.asked[0]["path"]


def test_a_failure_without_words_has_them_asked_for_at_once(tmp_path: Path) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "a:1"'}
    failed = starting("u1")
    failed["status"]["containerStatuses"] = [{"name": "worker", "state": {"waiting": waiting}}]
    warning = {"type": "Warning", "reason": "Failed", "message": "no such host", "lastTimestamp": ago(1)}
    with scripted(says({"items": [warning]})) as server:
        asked = events.Events(ApiServer(kubeconfig(tmp_path, server.url), None, timeout_s=5), "workers")
        assert asked.said_of(starting("u1")) is None and server.asked == []

        found = [asked.said_of(failed), asked.said_of(failed)]

        assert [each.message if each else None for each in found] == ["no such host", "no such host"]
        assert len(server.asked) == 1


def test_events_that_cannot_be_had_are_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FIRST_ASKED_AFTER_S", 0.0)
    with scripted(refuses(500, "InternalError")) as server:
        asked = events.Events(ApiServer(kubeconfig(tmp_path, server.url), None, timeout_s=5), "workers")

        assert asked.said_of(starting("u1")) is None
        assert len(server.asked) == 1


def test_times_are_compared_by_the_servers_clock(tmp_path: Path) -> None:
    later = datetime.now(UTC) + timedelta(hours=3)

    def answer(handler: Any, request: dict[str, Any]) -> None:
        handler.date_time_string = lambda timestamp=None: format_datetime(later, usegmt=True)
        says({})(handler, request)

    with scripted(answer) as server:
        api = ApiServer(kubeconfig(tmp_path, server.url), None, timeout_s=5)
        assert abs(api.now() - datetime.now(UTC)) < timedelta(seconds=1)
        api.get("/x")

        assert abs(api.now() - later) < timedelta(seconds=30)


# --- health -----------------------------------------------------------------------------------------------------------


def role() -> dict[str, set[str]]:
    """What the shipped role grants: verbs by resource."""
    documents = yaml.safe_load_all((CHECKOUT / "deploy/kubernetes/20-rbac.yaml").read_text())
    granted: dict[str, set[str]] = {}
    for rule in next(each for each in documents if each["kind"] == "Role")["rules"]:
        assert rule["apiGroups"] == [""]
        for resource in rule["resources"]:
            granted.setdefault(resource, set()).update(rule["verbs"])
    return granted


def test_the_shipped_role_grants_what_is_examined_and_no_more() -> None:
    examined = {resource: set(verbs) for resource, verbs in examine.RIGHTS.items()}

    assert role() == examined | {"serviceaccounts": {"get"}, "namespaces": {"get"}}


def test_the_shipped_manifests_are_in_the_order_in_which_they_are_applied() -> None:
    files = sorted((CHECKOUT / "deploy/kubernetes").glob("*.yaml"))

    kinds = [document["kind"] for file in files for document in yaml.safe_load_all(file.read_text())]
    assert kinds[0] == "Namespace"
    assert set(kinds) == {
        "Namespace",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ResourceQuota",
        "NetworkPolicy",
    }


class Healthy:
    """A cluster in which all is well, but for what a test says."""

    def __init__(self, **changed: Answer) -> None:
        self.changed = changed
        self.denied: set[tuple[str, str]] = set()

    def __call__(self, handler: Any, request: dict[str, Any]) -> None:
        last = request["path"].rstrip("/").rpartition("/")[2].partition("?")[0]
        self.changed.get(last.replace("-", "_"), self.usual(last, request))(handler, request)

    def usual(self, last: str, request: dict[str, Any]) -> Answer:
        if last == "selfsubjectaccessreviews":
            asked = request["body"]["spec"]["resourceAttributes"]
            assert asked["namespace"] == "workers"
            return says({"status": {"allowed": (asked["resource"], asked["verb"]) not in self.denied}})
        if last == "selfsubjectreviews":
            return says({"status": {"userInfo": {"username": "system:serviceaccount:control:hodei"}}})
        labels = {examine.ENFORCE: "restricted"}
        return says({"gitVersion": "v1.32.1", "items": [], "metadata": {"labels": labels}})


def examined(folder: Path, cluster: Healthy, **settings: Any) -> Any:
    with scripted(cluster) as server:
        return open_provider(folder, server.url, **settings).health()


def test_a_cluster_that_is_set_up_is_well(tmp_path: Path) -> None:
    health = examined(tmp_path, Healthy())

    assert health.ok, health.message
    assert "v1.32.1" in health.message
    assert health.checks.keys() == {
        "connection", "namespace", "pod security", "service account", "rights", "quota", "image", "reach",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cluster", "check", "command"),
    [
        (Healthy(workers=refuses(404, "NotFound")), "namespace", "kubectl create namespace workers"),
        (
            Healthy(hodei_jobs_worker=refuses(404, "NotFound")),
            "service account",
            "kubectl create serviceaccount hodei-jobs-worker --namespace workers",
        ),
        (Healthy(workers=refuses(403, "Forbidden")), "namespace", "kubectl apply -f deploy/kubernetes/"),
        (Healthy(workers=says({"status": {"phase": "Terminating"}})), "namespace", "is being deleted"),
        (Healthy(version=refuses(401, "Unauthorized")), "connection", "refuses us"),
    ],
)
def test_what_is_missing_is_said_with_its_command(
    tmp_path: Path, cluster: Healthy, check: str, command: str
) -> None:
    health = examined(tmp_path, cluster)

    assert not health.ok
    assert command in health.checks[check] and command in health.message


@pytest.mark.parametrize(
    ("resource", "verb"), [(name, verb) for name, verbs in examine.RIGHTS.items() for verb in verbs]
)
def test_each_missing_right_is_named_with_the_binding_for_who_we_are(
    tmp_path: Path, resource: str, verb: str
) -> None:
    cluster = Healthy()
    cluster.denied = {(resource, verb)}

    health = examined(tmp_path, cluster)

    assert not health.ok
    assert f"We may not {verb} {resource} in workers" in health.checks["rights"]
    assert "--role=hodei-jobs --serviceaccount=control:hodei" in health.checks["rights"]


def test_a_namespace_without_a_pod_security_level_is_used_and_said(tmp_path: Path) -> None:
    health = examined(tmp_path, Healthy(workers=says({"metadata": {}})))

    assert health.ok
    assert "kubectl label --overwrite namespace workers" in health.checks["pod security"]


def test_a_quota_that_is_used_up_is_said(tmp_path: Path) -> None:
    status = {"hard": {"pods": "20", "services": "0"}, "used": {"pods": "20", "services": "0"}}

    health = examined(tmp_path, Healthy(resourcequotas=says({"items": [{"status": status}]})))

    assert health.ok
    assert "pods 20 of 20" in health.checks["quota"] and "pods is used up" in health.checks["quota"]


def test_without_a_cluster_health_is_a_sentence_and_nothing_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    opened = KubernetesProvider(uuid4(), settings=Settings())

    health = opened.health()

    assert not health.ok and "HODEI_K8S_KUBECONFIG" in health.message
    assert opened.door() is None and opened.watched("d") is None
    opened.close()


# --- the way back -----------------------------------------------------------------------------------------------------


def way_back(folder: Path, server: ScriptedServer | str, **fields: Any) -> reach.WayBack:
    url = server if isinstance(server, str) else server.url
    given = {
        "server_host": None,
        "port": 8082,
        "service": "hodei-worker-manager",
        **fields,
    }
    return reach.WayBack(ApiServer(kubeconfig(folder, url), None, timeout_s=5), **given)


def addresses(monkeypatch: pytest.MonkeyPatch, routes: dict[str, str]) -> None:
    """From which address of ours each host is spoken to."""
    monkeypatch.setattr(reach, "local_address", lambda host, port: routes.get(host))


def test_what_the_operator_says_counts(tmp_path: Path) -> None:
    assert (
        way_back(tmp_path, "https://s:6443", server_host="hodei.example:9").url() == "http://hodei.example:9"
    )


def test_from_outside_it_is_our_address_on_the_way_to_the_api_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses(monkeypatch, {"10.9.0.1": "10.9.0.77"})

    assert way_back(tmp_path, "https://10.9.0.1:6443").url() == "http://10.9.0.77:8082"


def test_behind_a_port_of_our_own_it_is_our_address_on_the_way_to_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses(monkeypatch, {"127.0.0.1": "127.0.0.1", "172.18.0.2": "172.18.0.1"})
    internal = [{"type": "Hostname", "address": "kind"}, {"type": "InternalIP", "address": "172.18.0.2"}]
    with scripted(says({"items": [{"status": {"addresses": internal}}]})) as server:
        assert way_back(tmp_path, server).url() == "http://172.18.0.1:8082"


def test_who_may_not_look_at_nodes_has_the_same_address_before_and_after_there_are_pods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = {"127.0.0.1": "127.0.0.1", "172.18.0.3": "172.18.0.1", reach.ELSEWHERE[0]: "192.168.1.5"}
    addresses(monkeypatch, routes)
    where = says({"items": [{"status": {}}, {"status": {"hostIP": "172.18.0.3"}}]})
    with scripted(refuses(403, "Forbidden"), says({}), refuses(403, "Forbidden"), where) as server:
        assert way_back(tmp_path, server).address() == "192.168.1.5"
        paths = {one["path"].partition("?")[0] for one in server.asked}
        assert paths == {"/api/v1/nodes", "/readyz"}, (
            "a running worker goes on asking at the address it was given"
        )


def test_else_it_is_the_address_of_the_default_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses(monkeypatch, {"127.0.0.1": "127.0.0.1", reach.ELSEWHERE[0]: "192.168.1.5"})
    with scripted(says({"items": []})) as server:
        found = way_back(tmp_path, server)

        assert (found.address(), found.address()) == ("192.168.1.5", "192.168.1.5")
        assert len(server.asked) == 1, "it is remembered for a while"


def test_no_address_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses(monkeypatch, {})

    with pytest.raises(ProviderError, match="HODEI_SERVER_HOST") as caught:
        way_back(tmp_path, "https://10.9.0.1:6443").url()
    assert caught.value.failure.code == "ERR_3003"


@pytest.mark.parametrize(
    ("service", "url"),
    [
        ("hodei-worker-manager", "http://hodei-worker-manager.control.svc:8082"),
        ("manager.elsewhere", "http://manager.elsewhere.svc:8082"),
    ],
)
def test_in_a_cluster_it_is_the_service_of_worker_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str, url: str
) -> None:
    for name, text in {"token": "t", "namespace": "control"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("hodei.providers.kubernetes.kubeconfig.ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    inside = reach.WayBack(ApiServer(None, None, timeout_s=5), server_host=None, port=8082, service=service)

    assert inside.url() == url


def test_our_address_towards_ourselves_is_loopback() -> None:
    assert reach.local_address("127.0.0.1", 80) == "127.0.0.1"
    assert reach.local_address("::1", 80) in ("::1", None)
    assert reach.local_address("no such host.invalid", 80) is None


def test_a_provider_is_opened_without_the_slow_libraries() -> None:
    program = (
        "import sys; import hodei.providers.kubernetes.provider\n"
        "heavy = {'kubernetes', 'docker', 'celery', 'flask', 'sqlalchemy', 'yaml'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
