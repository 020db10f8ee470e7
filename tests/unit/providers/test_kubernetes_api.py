"""Requests to the API server: deadlines, credentials that are renewed, connections that broke."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_script import hangs_up, kubeconfig, refuses, says, scripted

from hodei.providers.contract import ProviderError
from hodei.providers.kubernetes import api
from hodei.providers.kubernetes.api import ApiError, ApiServer
from hodei.providers.kubernetes.credentials import Credentials
from hodei.providers.kubernetes.kubeconfig import Cluster, Exec, NoCluster, find, read


def open_api(folder: Path, url: str, *, timeout_s: float = 5.0, **user: Any) -> ApiServer:
    return ApiServer(kubeconfig(folder, url, **user), None, timeout_s=timeout_s)


def test_an_answer_is_a_document_and_a_refusal_has_the_servers_words(tmp_path: Path) -> None:
    with scripted(says({"kind": "Pod"}), refuses(404, "NotFound", "pods  not found")) as server:
        api = open_api(tmp_path, server.url, token="secret")

        assert api.get("/x", a="b c") == {"kind": "Pod"}
        with pytest.raises(ApiError) as caught:
            api.get("/x")

        assert (caught.value.status, caught.value.reason, caught.value.words) == (
            404,
            "NotFound",
            "pods not found",
        )
        assert server.asked[0]["path"] == "/x?a=b+c"
        assert server.asked[0]["headers"]["Authorization"] == "Bearer secret"
        assert server.asked[0]["connection"] == server.asked[1]["connection"]


def test_an_answer_that_never_comes_is_given_up(tmp_path: Path) -> None:
    with scripted(lambda handler, request: server.over.wait(10) and None) as server:
        api = open_api(tmp_path, server.url, timeout_s=0.3)
        began = time.monotonic()

        with pytest.raises(ProviderError) as caught:
            api.get("/x")

        assert caught.value.failure.code == "ERR_5006" and caught.value.transient
        assert time.monotonic() - began < 5


def test_an_answer_that_drips_is_given_up_as_well(tmp_path: Path) -> None:
    """Each read brings something in time; it is the whole that takes too long."""

    def drips(handler: Any, request: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not server.over.wait(0.05):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    with scripted(drips) as server:
        api = open_api(tmp_path, server.url, timeout_s=0.5)

        with pytest.raises(ProviderError) as caught:
            api.get("/x")

        assert caught.value.failure.code == "ERR_5006"


def test_a_kept_connection_that_broke_is_replaced(tmp_path: Path) -> None:
    with scripted(says({}), hangs_up, says({"kind": "Pod"})) as server:
        api = open_api(tmp_path, server.url)
        api.get("/x")

        assert api.create("/x", {"a": 1}) == {"kind": "Pod"}
        assert [request["method"] for request in server.asked] == ["GET", "POST", "POST"]


def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as caught:
        open_api(tmp_path, "http://127.0.0.1:9").get("/x")

    assert caught.value.failure.code == "ERR_5001" and caught.value.transient
    assert "http://127.0.0.1:9: Connection refused" in caught.value.failure.message.replace(
        "[Errno 111] ", ""
    )


def test_refused_credentials_are_renewed_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")

    def checks(handler: Any, request: dict[str, Any]) -> None:
        good = request["headers"]["Authorization"] == "Bearer new"
        token.write_text("new\n")
        (says({}) if good else refuses(401, "Unauthorized"))(handler, request)

    with scripted(checks) as server:
        assert open_api(tmp_path, server.url, tokenFile="token").get("/x") == {}
        assert len(server.asked) == 2


def test_credentials_that_stay_wrong_are_an_answer(tmp_path: Path) -> None:
    with scripted(refuses(401, "Unauthorized")) as server:
        with pytest.raises(ApiError) as caught:
            open_api(tmp_path, server.url, token="t").get("/x")

        assert caught.value.status == 401 and len(server.asked) == 2


def test_a_server_that_wants_a_pause_gets_it(tmp_path: Path) -> None:
    with scripted(refuses(429, "TooManyRequests", Retry_After="1"), says({"kind": "Pod"})) as server:
        began = time.monotonic()

        assert open_api(tmp_path, server.url, timeout_s=30).get("/x") == {"kind": "Pod"}
        assert time.monotonic() - began >= 1


def test_a_server_that_has_just_started_and_knows_no_rights_yet_is_asked_again(tmp_path: Path) -> None:
    forbids = refuses(
        403, "Forbidden", 'User "u" cannot list resource "pods": RBAC: [clusterrole "x" not found]'
    )
    starting = refuses(500, "InternalError", "[-]poststarthook/rbac/bootstrap-roles failed: not finished")
    with scripted(forbids, forbids, starting, says({}), says({"kind": "Pod"})) as server:
        assert open_api(tmp_path, server.url).get("/x") == {"kind": "Pod"}

        assert [one["path"] for one in server.asked] == ["/x", "/readyz", "/readyz", "/readyz", "/x"]


def test_what_a_server_that_is_ready_forbids_is_forbidden(tmp_path: Path) -> None:
    forbids = refuses(403, "Forbidden", 'User "u" cannot list resource "pods"')
    with scripted(forbids, says({}), forbids) as server, pytest.raises(ApiError) as caught:
        open_api(tmp_path, server.url).get("/x")

    assert (caught.value.status, len(server.asked)) == (403, 3)


CROSSED = refuses(
    409, "Conflict", 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified'
)


def test_a_quota_that_others_count_too_is_asked_again(tmp_path: Path) -> None:
    with scripted(CROSSED, CROSSED, says({"kind": "Pod"})) as server:
        assert open_api(tmp_path, server.url).create("/x", {"kind": "Pod"}) == {"kind": "Pod"}

        assert [one["body"] for one in server.asked] == [{"kind": "Pod"}] * 3


def test_a_name_that_is_taken_is_an_answer_at_once_and_a_quota_that_stays_busy_one_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_CONFLICT_PAUSES_S", (0.01, 0.01))
    with scripted(refuses(409, "AlreadyExists"), CROSSED) as server:
        opened = open_api(tmp_path, server.url)

        with pytest.raises(ApiError) as taken:
            opened.create("/x", {})
        with pytest.raises(ApiError) as busy:
            opened.create("/x", {})

        assert taken.value.reason == "AlreadyExists"
        assert busy.value.about("the pod p", "n").transient
        assert len(server.asked) == 1 + 3


def test_a_list_is_read_page_by_page(tmp_path: Path) -> None:
    first = {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "more", "resourceVersion": "7"}}
    last = {"items": [{"metadata": {"name": "b"}}], "metadata": {"resourceVersion": "7"}}
    with scripted(says(first), says(last)) as server:
        items, version = open_api(tmp_path, server.url).list_all("/pods", selector="a=b", metadata_only=True)

    assert ([item["metadata"]["name"] for item in items], version) == (["a", "b"], "7")
    assert "continue=more" in server.asked[1]["path"]
    assert "PartialObjectMetadataList" in server.asked[0]["headers"]["Accept"]


def test_a_kubeconfig_that_comes_later_is_found(tmp_path: Path) -> None:
    api = ApiServer(tmp_path / "config", None, timeout_s=5)
    with pytest.raises(ProviderError, match="There is no kubeconfig"):
        api.get("/x")

    with scripted(says({"kind": "Pod"})) as server:
        kubeconfig(tmp_path, server.url)

        assert api.get("/x") == {"kind": "Pod"}


def test_where_there_is_no_cluster_a_sentence_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(NoCluster, match="HODEI_K8S_KUBECONFIG"):
        find(None, None, environment={})


def test_the_file_of_the_environment_and_of_the_home_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube", "https://home")
    named = kubeconfig(tmp_path, "https://named")

    assert find(None, None, environment={}).server == "https://home"
    assert find(None, None, environment={"KUBECONFIG": str(named)}).server == "https://named"


def test_several_files_are_one_and_the_first_word_counts(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text(yaml.safe_dump({"users": [{"name": "u", "user": {"token": "first"}}]}))
    second = kubeconfig(tmp_path, "https://second", token="second")

    found = read([first, tmp_path / "absent", second], None)

    assert (found.server, found.token, found.namespace) == ("https://second", "first", "n")
    assert "first" not in repr(found).replace(str(first), "")


@pytest.mark.parametrize(
    ("document", "context", "words"),
    [
        ("{", None, "is not YAML"),
        ("a: 1", None, "no current context"),
        ("{current-context: x}", None, "no context 'x'"),
        (
            "{contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, cluster: {}}]}",
            "x",
            "no server URL",
        ),
        (
            "{contexts: [{name: x, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'https://s'}}],"
            " users: [{name: u, user: {auth-provider: {name: gcp}}}]}",
            "x",
            "exec plugin",
        ),
        ("{contexts: 7, current-context: x}", None, "not what kubectl writes"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(
    tmp_path: Path, document: str, context: str, words: str
) -> None:
    path = tmp_path / "config"
    path.write_text(document)

    with pytest.raises(NoCluster, match=words):
        read([path], context)


def program(folder: Path, text: str) -> Exec:
    script = folder / "program.py"
    script.write_text(text)
    return Exec(command=sys.executable, args=(str(script),), env=(("GREETING", "hi"),))


def test_a_program_of_the_kubeconfig_gives_credentials_until_they_run_out(tmp_path: Path) -> None:
    text = (
        "import json, os, pathlib\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "count.write_text(str(int(count.read_text() if count.exists() else 0) + 1))\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert info['kind'] == 'ExecCredential' and os.environ['GREETING'] == 'hi'\n"
        "assert not [name for name in os.environ if name.startswith('HODEI_')]\n"
        "ends = '2020-01-01T00:00:00Z' if count.read_text() == '1' else '2999-01-01T00:00:00Z'\n"
        "status = {'token': 't' + count.read_text(), 'expirationTimestamp': ends}\n"
        "print(json.dumps({'kind': 'ExecCredential', 'status': status}))\n"
    )
    given = Credentials(Cluster(server="https://s", source="x", exec=program(tmp_path, text)))
    given.now()
    given.renew()

    assert [given.now().authorization, given.now().authorization] == ["Bearer t2", "Bearer t2"]
    assert "t2" not in repr(given.now())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; sys.exit('log in first')", "exit code 1: log in first"),
        ("print('hello')", "printed no ExecCredential"),
    ],
)
def test_a_program_that_fails_is_said_with_its_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(NoCluster, match=words):
        Credentials(Cluster(server="https://s", source="x", exec=program(tmp_path, text))).now()


def test_a_program_that_is_not_installed_is_named_with_its_hint() -> None:
    asked = Exec(command="no-such-plugin", hint="Install it with apt.")

    with pytest.raises(NoCluster, match=r"no-such-plugin is not installed. Install it with apt."):
        Credentials(Cluster(server="https://s", source="x", exec=asked)).now()


def test_the_pods_own_account_is_used_inside_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"token": "t", "namespace": "control\n", "ca.crt": "x"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("hodei.providers.kubernetes.kubeconfig.ACCOUNT", tmp_path)
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}

    found = find(None, None, environment=environment)

    assert (found.server, found.in_cluster, found.namespace) == ("https://[fd00::1]:6443", True, "control")
    assert Credentials(found).now().authorization == "Bearer t"


def test_a_body_is_sent_as_json(tmp_path: Path) -> None:
    with scripted(says({})) as server:
        api = open_api(tmp_path, server.url)
        api.call("PATCH", "/x", body={"a": "ä"}, content_type="application/merge-patch+json")

    assert server.asked[0]["body"] == json.loads('{"a": "ä"}')
    assert server.asked[0]["headers"]["Content-Type"] == "application/merge-patch+json"
