"""Providers, workers and executions over HTTP: what is taken, what is refused, how it is answered."""

from __future__ import annotations

import json
import re
from uuid import UUID

import pytest

from hodei.api.schemas.places_in import ProviderIn, ProviderSwitch
from hodei.domain.states import ProviderStatus
from hodei.errors import Conflict, InvalidInput
from hodei.services.provider_admin import NewProvider, ProviderChange
from hodei.services.worker_admin import NewWorker

ID = UUID("0196a3c4-0000-7000-8000-000000000001")
PROVIDERS = "/api/v1/providers"
WORKER = f"/api/v1/workers/{ID}"
ADMIN = "provider_admin"


def test_a_provider_is_added_with_what_it_was_given(client, calls):
    calls.answer(f"{ADMIN}.add_provider", {"id": ID, "name": "eu"})
    body = {
        "name": "eu", "type": "docker", "config": {"pids_limit": 64}, "priority": 3, "max_workers": 2,
        "labels": {"zone": "eu"}, "status": "maintenance", "status_reason": "new disks",
    }  # fmt: skip

    response = client().post(PROVIDERS, json=body, headers={"Idempotency-Key": "k"})

    assert (response.status_code, response.headers["Location"]) == (201, f"{PROVIDERS}/{ID}")
    (new,), named = calls.seen["add_provider"]
    assert new == NewProvider(
        name="eu", provider_type="docker", config={"pids_limit": 64}, priority=3, max_workers=2,
        labels={"zone": "eu"}, status=ProviderStatus.MAINTENANCE, reason="new disks",
    )  # fmt: skip
    assert named["key"].key == "k"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "eu"}, "type"),
        ({"name": "eu", "type": "fake"}, "type"),
        ({"name": "eu", "type": "self-hosted"}, "type"),
        ({"name": "docker", "type": "docker"}, "name"),
        ({"name": "auto", "type": "docker"}, "name"),
        ({"name": str(ID), "type": "docker"}, "name"),
        ({"name": "e u", "type": "docker"}, "name"),
        ({"name": "eu\n", "type": "docker"}, "name"),
        ({"name": "e" * 64, "type": "docker"}, "name"),
        ({"name": "eu", "type": "docker", "config": []}, "config"),
        ({"name": "eu", "type": "docker", "config": None}, "config"),
        ({"name": "eu", "type": "docker", "max_workers": -1}, "max_workers"),
        ({"name": "eu", "type": "docker", "max_workers": "2"}, "max_workers"),
        ({"name": "eu", "type": "docker", "priority": 1001}, "priority"),
        ({"name": "eu", "type": "docker", "labels": {"a b": "x"}}, "labels"),
        ({"name": "eu", "type": "docker", "status": "unhealthy"}, "status"),
        ({"name": "eu", "type": "docker", "status_reason": "\u0000"}, "status_reason"),
        ({"name": "eu", "type": "docker", "status_reason": " "}, "status_reason"),
        ({"name": "eu", "type": "docker", "mx_workers": 1}, "mx_workers"),
    ],
)
def test_what_is_no_provider_is_refused_at_its_field(client, calls, body, field):
    calls.answer(f"{ADMIN}.add_provider", {"id": ID})

    response = client().post(PROVIDERS, json=body)

    assert (response.status_code, response.json["field"]) == (422, field)
    assert "add_provider" not in calls.seen


@pytest.mark.parametrize(
    "value",
    ['"a\\u0000b"', '{"b\\u0000": 1}', "NaN", "-Infinity", "1e999", "1" + "0" * 30, "[" * 40 + "]" * 40],
    ids=["nul", "nul in a key", "nan", "infinity", "too large", "long", "deep"],
)
def test_a_configuration_that_no_database_can_hold_is_refused(client, value):
    document = f'{{"name": "eu", "type": "kubernetes", "config": {{"pod_template": {{"x": {value}}}}}}}'

    response = client().post(PROVIDERS, data=document, content_type="application/json")

    assert response.status_code in (400, 422)
    if response.status_code == 422:
        assert response.json["field"].startswith("config")


def test_a_configuration_is_checked_by_the_adapters_own_model(client):
    body = {"name": "eu", "type": "docker", "config": {"docker_hots": "tcp://user:secret@host"}}

    response = client().post(PROVIDERS, json=body)

    assert (response.status_code, response.json["field"]) == (422, "config.docker_hots")
    assert "docker_host" in response.json["detail"]
    assert "secret" not in response.text


def test_the_schema_and_the_server_agree_on_names(client):
    schema = client().get("/openapi.json").json["components"]["schemas"]["ProviderIn"]
    pattern = re.compile(schema["properties"]["name"]["pattern"])

    for name in ("docker-eu", "a", "A.b_c-1", "docker2", "automatic"):
        assert pattern.search(name) and ProviderIn(name=name, type="docker").name == name
    for name in ("docker", "auto", "self-hosted", str(ID), "-a", "", "ä"):
        assert not pattern.search(name)
        with pytest.raises(ValueError):
            ProviderIn(name=name, type="docker")
    assert set(schema["properties"]["type"]["enum"]) == {"docker", "kubernetes", "process"}
    assert {item.value for item in ProviderSwitch} == {"active", "maintenance", "disabled"}


def test_a_change_is_only_what_was_given(client, calls):
    calls.answer(f"{ADMIN}.change_provider", {"id": ID})

    response = client().patch(f"{PROVIDERS}/eu", json={"max_workers": 3, "config": {"user": None}})

    assert response.status_code == 200
    assert calls.seen["change_provider"][0] == ("eu", ProviderChange(max_workers=3, config={"user": None}))


@pytest.mark.parametrize(
    "body", [{"name": "us"}, {"type": "docker"}, {"status": "degraded"}, {"labels": {"a": 1}}]
)
def test_what_cannot_be_changed_is_refused(client, body):
    assert client().patch(f"{PROVIDERS}/eu", json=body).status_code == 422


@pytest.mark.parametrize(
    ("verb", "status"), [("enable", ProviderStatus.ACTIVE), ("disable", ProviderStatus.DISABLED)]
)
def test_a_provider_is_switched(client, calls, verb, status):
    calls.answer(f"{ADMIN}.set_status", {"id": ID})

    assert client().post(f"{PROVIDERS}/eu/{verb}").status_code == 200
    assert calls.seen["set_status"][0] == ("eu", status)


def test_a_provider_in_use_is_a_conflict_and_one_that_is_not_is_gone(client, calls):
    calls.answer(f"{ADMIN}.remove_provider", Conflict("It is in use."))
    assert client().delete(f"{PROVIDERS}/eu").status_code == 409

    calls.answer(f"{ADMIN}.remove_provider", None)
    response = client().delete(f"{PROVIDERS}/eu")
    assert (response.status_code, response.data) == (204, b"")


@pytest.mark.parametrize(("status", "answered"), [("running", 200), ("starting", 202)])
def test_a_worker_by_hand_is_answered_by_how_far_it_is(client, calls, status, answered):
    calls.answer("worker_admin.start_worker", {"id": ID, "type": "rust", "status": status})

    response = client("worker-manager").post("/api/v1/workers?wait=3", json={"type": "rust"})

    assert (response.status_code, response.headers["Location"]) == (answered, WORKER)
    (new,), named = calls.seen["start_worker"]
    assert (new, named["wait_s"]) == (NewWorker(worker_type="rust"), 3.0)


@pytest.mark.parametrize(
    ("body", "query", "field"),
    [
        ({}, "", "type"),
        ({"type": ""}, "", "type"),
        ({"type": "a\tb"}, "", "type"),
        ({"type": "rust", "idle_s": 0}, "", "idle_s"),
        ({"type": "rust", "image": "-x"}, "", "image"),
        ({"type": "rust", "provider": "a b"}, "", "provider"),
        ({"type": "rust"}, "?wait=301", "wait"),
        ({"type": "rust"}, "?wait=soon", "wait"),
    ],
)
def test_what_is_no_worker_is_refused(client, calls, body, query, field):
    calls.answer("worker_admin.start_worker", {"id": ID, "status": "running"})

    response = client("worker-manager").post(f"/api/v1/workers{query}", json=body)

    assert (response.status_code, response.json["field"]) == (422, field)


@pytest.mark.parametrize(
    ("method", "path", "use_case"),
    [("POST", "/drain", "drain_worker"), ("POST", "/stop", "stop_worker"), ("DELETE", "", "stop_worker")],
)
def test_a_worker_is_drained_and_stopped(client, calls, method, path, use_case):
    calls.answer(f"worker_admin.{use_case}", {"id": ID, "state": "DRAINING"})

    response = client("worker-manager").open(f"{WORKER}{path}", method=method)

    assert (response.status_code, response.json["state"]) == (202, "DRAINING")
    assert calls.seen[use_case][0] == (ID,)


@pytest.mark.parametrize(("status", "answered"), [("pending", 202), ("running", 200), ("completed", 200)])
def test_an_execution_is_answered_by_how_far_it_is(client, calls, status, answered):
    begun = {"id": ID, "job_id": ID, "command": "x", "status": status, "started_at": None}
    calls.answer("execute.execute", begun)

    response = client("worker-manager").post(
        "/api/v1/execute?wait=0", json={"job_id": str(ID), "command": "x"}, headers={"Idempotency-Key": "k"}
    )

    assert response.status_code == answered
    assert response.json == json.loads(json.dumps(begun, default=str))
    arguments, named = calls.seen["execute"]
    assert (arguments, named["wait_s"], named["key"].key) == ((ID, "x"), 0.0, "k")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"command": "x"}, "job_id"),
        ({"job_id": "x", "command": "x"}, "job_id"),
        ({"job_id": str(ID), "command": " "}, "command"),
        ({"job_id": str(ID), "comand": "x"}, "comand"),
    ],
)
def test_what_cannot_be_executed_is_refused(client, calls, body, field):
    calls.answer("execute.execute", InvalidInput())

    response = client("worker-manager").post("/api/v1/execute", json=body)

    assert (response.status_code, response.json["field"]) == (422, field)
    assert "execute" not in calls.seen


def test_a_job_may_require_labels(client, calls, job):
    calls.answer("submit.submit_job", job)

    response = client().post("/api/v1/jobs", json={"command": "x", "required_labels": {"zone": "eu"}})

    assert response.status_code == 201
    assert calls.seen["submit_job"][0][0].spec.required_labels == {"zone": "eu"}
