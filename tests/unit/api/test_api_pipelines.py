from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from hodei.api.schemas.pipelines_in import file_schema
from hodei.domain.job import JobSpec
from hodei.domain.pipeline import PipelineState, When
from hodei.domain.pipeline_definition import Definition, JobTemplate, Param
from hodei.domain.pipeline_graph import Matrix
from hodei.errors import InvalidInput, NotFound
from hodei.services.pipelines import change, create, follow, read, runs
from hodei.services.pipelines.change import KEEP

ID = "0196a3c4-0000-7000-8000-000000000001"
PIPELINE, RUN = f"/api/v1/pipelines/{ID}", f"/api/v1/runs/{ID}"
CALLED = {
    "create_pipeline": create,
    "change_pipeline": change,
    "delete_pipeline": change,
    "get_pipeline": read,
    "list_runs": read,
    "wait_for_run": read,
    "start_run": runs,
    "cancel_run": runs,
    "resume_run": runs,
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """The use cases, replaced by ones that keep what they were called with."""
    kept: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def replace(name: str) -> None:
        def replaced(_platform: Any, *arguments: Any, **named: Any) -> Any:
            kept[name] = (arguments, named)
            return read.Page(items=[]) if name.startswith("list") else {"id": UUID(ID)}

        monkeypatch.setattr(CALLED[name], name, replaced)

    for name in CALLED:
        replace(name)
    return kept


@pytest.fixture
def orchestrator(client: Any, seen: Any) -> Any:
    return client("orchestrator")


def make(orchestrator: Any, *jobs: dict[str, Any], **more: Any) -> Any:
    return orchestrator.post("/api/v1/pipelines", json={"name": "p", "jobs": list(jobs)} | more)


def test_everything_of_a_pipeline_reaches_the_use_case(orchestrator, seen):
    response = make(
        orchestrator,
        {"key": "a", "command": "true"},
        {
            "key": "b", "needs": "a", "when": "failure", "command": "echo", 
            "args": "x '${{ params.v }} y' ${{needs.a.outputs.o }}",
            "matrix": {"os": ["x", 1], "include": [{"os": "z", "n": 2}], "exclude": [{"os": "x"}]}, "name": "n ${{ matrix.os }}",
            "image": "img:${{ params.v }}", "env": {"A": "1"}, "secret_env": {"T": "long enough"}, "provider": "docker",
            "memory": "512m", "retries": 2, "priority": 7, "labels": {"l": "v"}, "timeout_s": 5,
        },
        description="d", params={"v": {"default": "1"}, "w": {"required": True}}, max_parallel=3,
    )  # fmt: skip

    (new,), _ = seen["create_pipeline"]
    assert response.status_code == 201 and response.headers["Location"] == PIPELINE
    assert (new.name, new.description, new.secrets) == ("p", "d", {"b": {"T": "long enough"}})
    assert new.definition.params == {"v": Param(default="1"), "w": Param(required=True)}
    first, job = new.definition.jobs
    assert (first.key, first.when, first.needs, first.matrix) == ("a", When.SUCCESS, (), None)
    assert (job.needs, job.when, job.priority, job.labels, job.name) == (
        ("a",), When.FAILURE, 7, {"l": "v"}, "n ${{ matrix.os }}",
    )  # fmt: skip
    assert job.matrix == Matrix(
        axes={"os": ("x", "1")}, include=({"os": "z", "n": "2"},), exclude=({"os": "x"},)
    )
    assert job.spec.args == ("x", "${{params.v}} y", "${{needs.a.outputs.o}}")
    assert (job.spec.secret_names, job.spec.memory_bytes, job.spec.retries) == (("T",), 512 * 1024**2, 2)
    assert new.definition.max_parallel == 3


def test_the_plain_form_is_a_name_alone(orchestrator, seen):
    assert orchestrator.post("/api/v1/pipelines", json={"name": "p"}).status_code == 201

    (new,), _ = seen["create_pipeline"]
    assert (new.definition, new.description) == (None, "")


A = {"key": "a", "command": "true"}
REFUSED = [
    ({}, "name"),
    ({"name": "p", "jobs": []}, "jobs"),
    ({"name": "p", "nmae": "q"}, "nmae"),
    ({"name": "p", "params": {"v": {}}}, "params"),
    ({"name": "p", "max_parallel": 2}, "max_parallel"),
    ({"name": "p", "jobs": [A], "max_parallel": 0}, "max_parallel"),
    ({"name": "p", "jobs": [A], "params": {"1v": {}}}, "params"),
    ({"name": "p", "jobs": [A], "params": {"v": {"default": "x", "required": True}}}, "params.v"),
    ({"name": "p", "jobs": [{"key": "a"}]}, "jobs.0"),
    ({"name": "p", "jobs": [A | {"script": "x"}]}, "jobs.0"),
    ({"name": "p", "jobs": [A | {"key": "a b"}]}, "jobs.0.key"),
    ({"name": "p", "jobs": [A | {"when": "never"}]}, "jobs.0.when"),
    ({"name": "p", "jobs": [A | {"need": ["b"]}]}, "jobs.0.need"),
    ({"name": "p", "jobs": [A | {"pipeline_id": ID}]}, "jobs.0.pipeline_id"),
    ({"name": "p", "jobs": [A | {"matrix": {}}]}, "jobs.0.matrix"),
    ({"name": "p", "jobs": [A | {"matrix": {"os": []}}]}, "jobs.0.matrix"),
    ({"name": "p", "jobs": [A | {"matrix": {"os": ["a,b"]}}]}, "jobs.0.matrix"),
    ({"name": "p", "jobs": [A | {"matrix": {"os": ["a", "a"]}}]}, "jobs.0.matrix"),
    ({"name": "p", "jobs": [A | {"matrix": {"exclude": [{"os": "a"}]}}]}, "jobs.0.matrix"),
    ({"name": "p", "jobs": [A | {"matrix": {"os": [True]}}]}, "jobs.0.matrix"),
    ({"name": "p", "jobs": [A | {"image": "a b"}]}, "jobs.0.image"),
    ({"name": "p", "jobs": [A | {"image": "-a${{ params.v }}"}]}, "jobs.0.image"),
    ({"name": "p", "jobs": [A | {"env": {"HODEI_OUTPUT": "x"}}]}, "jobs.0.env"),
    ({"name": "p", "jobs": [A | {"env": {"T": "x"}, "secret_env": {"T": "long enough"}}]}, "jobs.0"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED, ids=str)
def test_what_is_wrong_with_a_pipeline_is_said_with_the_field(orchestrator, seen, body, field):
    response = orchestrator.post("/api/v1/pipelines", json=body)

    assert response.status_code == 422, response.json
    assert response.json["field"] == field and response.json["detail"].endswith((".", "?"))
    assert seen == {}


def test_what_is_no_graph_is_refused_by_the_use_case_with_its_field():
    class NoProviders:
        def rows(self, name: str) -> list[Any]:
            return []

    definition = Definition(jobs=(JobTemplate(key="a", spec=JobSpec(command="x"), needs=("a",)),))
    with pytest.raises(InvalidInput) as caught:
        create.check_definition(NoProviders(), definition)  # type: ignore[arg-type]
    assert caught.value.field == "jobs.0.needs"


def test_a_change_names_what_it_changes_and_nothing_else(orchestrator, seen):
    assert orchestrator.patch(PIPELINE, json={"status": "disabled", "max_parallel": None}).status_code == 200
    (_, changes), _ = seen["change_pipeline"]
    assert (changes.state, changes.max_parallel) == (PipelineState.DISABLED, None)
    assert changes.name is KEEP and changes.jobs is KEEP and changes.params is KEEP
    assert changes.named() == ["status", "max_parallel"]

    assert (
        orchestrator.patch(PIPELINE, json={"jobs": [A | {"secret_env": {"T": "long enough"}}]}).status_code
        == 200
    )
    (_, changes), _ = seen["change_pipeline"]
    assert ([job.key for job in changes.jobs], changes.secrets) == (["a"], {"a": {"T": "long enough"}})
    for refused in ({}, {"name": None}, {"jobs": None}, {"status": "paused"}, {"version": 2}):
        assert orchestrator.patch(PIPELINE, json=refused).status_code == 422, refused


def test_a_run_is_started_cancelled_and_resumed(orchestrator, seen):
    once = {"Idempotency-Key": "k"}
    started = orchestrator.post(f"{PIPELINE}/runs", json={"params": {"v": "1"}}, headers=once)
    assert (started.status_code, started.headers["Location"]) == (201, RUN)
    arguments, named = seen["start_run"]
    assert arguments == (UUID(ID), {"v": "1"}) and named["key"].key == "k"
    assert orchestrator.post(f"{PIPELINE}/runs", json={"params": {"v": 1}}).status_code == 422
    assert orchestrator.post(f"{RUN}/cancel").status_code == 202
    assert orchestrator.post(f"{RUN}/resume", headers=once).status_code == 202
    assert seen["resume_run"][1]["key"].key == "k"
    assert orchestrator.delete(PIPELINE).status_code == 204
    assert orchestrator.get(f"{RUN}?wait=5").status_code == 200
    assert seen["wait_for_run"][0][1] == 5
    assert orchestrator.get(f"{PIPELINE}/runs?status=failed").status_code == 200
    assert seen["list_runs"][1]["status"] == "failed"
    assert orchestrator.get(f"{PIPELINE}/runs?status=skipped").status_code == 422


def test_an_id_that_is_none_names_nothing(orchestrator):
    for path in ("/api/v1/pipelines/x", "/api/v1/runs/x", "/api/v1/runs/x/follow"):
        assert orchestrator.get(path).status_code == 404


def test_a_stream_of_a_run_that_is_not_there_is_404_before_it_begins(orchestrator, monkeypatch):
    def missing(*_: Any) -> None:
        raise NotFound("There is no run.")

    monkeypatch.setattr(follow, "begin", missing)
    assert orchestrator.get(f"{RUN}/follow").status_code == 404


def test_the_schema_of_a_file_is_served_and_takes_names_of_secrets_and_numbers(orchestrator):
    response = orchestrator.get("/api/v1/pipelines/schema")

    assert response.status_code == 200 and response.content_type == "application/schema+json"
    assert response.get_json(force=True) == file_schema()
    job = file_schema()["$defs"]["PipelineJobIn"]["properties"]
    assert {"object", "array"} == {one["type"] for one in job["secret_env"]["anyOf"]}
