"""Pipelines through the front door: HTTP and the command line, on a whole platform."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.pipelines import plain_pipeline
from support.platform import RunningPlatform
from support.waiting import until

FILE = """
name: {name}
params:
  version: {{required: true}}
jobs:
  - key: build
    provider: {provider}
    command: |
      echo "tag=v$VERSION" >> $HODEI_OUTPUT
      printf 'notes<<END\\none\\ntwo\\nEND\\n' >> $HODEI_OUTPUT
    env: {{VERSION: "${{{{ params.version }}}}"}}
  - key: test
    needs: build
    provider: {provider}
    matrix: {{py: [3.10, 3.11]}}
    command: echo "$PY of $TAG"; echo "py=$PY" >> $HODEI_OUTPUT
    env: {{TAG: "${{{{ needs.build.outputs.tag }}}}", PY: "${{{{ matrix.py }}}}"}}
  - key: ship
    needs: [build, test]
    provider: {provider}
    script: |
      echo "$TAG $TESTED"
      echo "$NOTES"
    env:
      TAG: ${{{{ needs.build.outputs.tag }}}}
      TESTED: ${{{{ needs.test.outputs.py }}}}
      NOTES: ${{{{ needs.build.outputs.notes }}}}
  - key: alarm
    needs: [build, test, ship]
    when: failure
    provider: {provider}
    command: echo alarm
"""


def call(platform: RunningPlatform, method: str, path: str, **more: Any) -> httpx.Response:
    return httpx.request(method, f"{platform.url}/api/v1{path}", timeout=60, trust_env=False, **more)


def named(what: str) -> str:
    return f"{what}-{uuid4().hex[:8]}"


def written(folder: Path, text: str) -> str:
    file = folder / f"{uuid4().hex[:8]}.yaml"
    file.write_text(text)
    return str(file)


def check_values_are_handed_on(platform: RunningPlatform, folder: Path, provider: str) -> None:
    """A pipeline from its file to its end, on this provider."""
    # given
    name = named("release")
    made = platform.hodei(
        "pipeline", "create", "-f", written(folder, FILE.format(name=name, provider=provider))
    )
    assert made.returncode == 0, made.stderr

    # when
    done = platform.hodei("pipeline", "run", name, "--param", "version=1=2", "--follow")

    # then
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.strip()
    told = done.stderr.splitlines()
    assert next(line.split()[1] for line in told if line.startswith("succeeded ")) == "build"
    assert "\x1b" not in done.stderr and "Status: SUCCEEDED (4 succeeded, 1 skipped)" in told
    run = call(platform, "GET", f"/runs/{run_id}").json()
    nodes = {node["key"]: node for node in run["nodes"]}
    assert list(nodes) == ["build", "test[py=3.10]", "test[py=3.11]", "ship", "alarm"]
    assert nodes["build"]["outputs"] == {"tag": "v1=2", "notes": "one\ntwo"}
    assert (nodes["alarm"]["status"], nodes["alarm"]["job_id"]) == ("skipped", None)
    with platform.client() as client:
        assert client.log_text(nodes["test[py=3.10]"]["job_id"]) == "3.10 of v1=2\n"
        first, *rest = client.log_text(nodes["ship"]["job_id"]).splitlines()
        tag, _, tested = first.partition(" ")
        assert (tag, rest) == ("v1=2", ["one", "two"])
        assert json.loads(tested) == {"test[py=3.10]": "3.10", "test[py=3.11]": "3.11"}
        job = client.job(nodes["ship"]["job_id"]).document
        assert job["labels"]["hodei.io/run"] == run_id and job["pipeline_node"] == "ship"
        assert any(run_id in detail for detail in client.why(job["id"]).details)
    platform.hodei("pipeline", "delete", name)


def test_values_are_handed_on_from_a_file_to_the_last_job(running: RunningPlatform, tmp_path: Path) -> None:
    check_values_are_handed_on(running, tmp_path, "process")


@pytest.mark.docker
def test_values_are_handed_on_between_containers(docker_running: RunningPlatform, tmp_path: Path) -> None:
    check_values_are_handed_on(docker_running, tmp_path, "docker")


def test_a_run_that_failed_is_resumed_and_does_not_do_again_what_succeeded(
    running: RunningPlatform, tmp_path: Path
) -> None:
    # given
    name, flag = named("flaky"), tmp_path / "mended"
    jobs = [
        {"key": "first", "command": "echo x=1 >> $HODEI_OUTPUT", "provider": "process"},
        {"key": "second", "needs": ["first"], "command": f"test -e {flag}", "provider": "process"},
        {"key": "third", "needs": ["second"], "command": "true", "provider": "process"},
    ]
    answer = call(running, "POST", "/pipelines", json={"name": name, "jobs": jobs})
    assert answer.status_code == 201, answer.text
    failed = running.hodei("pipeline", "run", name, "--wait")
    assert failed.returncode == 1 and "1 skipped" in failed.stderr
    run_id = failed.stdout.strip()
    before = call(running, "GET", f"/runs/{run_id}").json()
    shown = running.hodei("pipeline", "status", run_id)
    assert "Its needs did not all succeed: second failed." in shown.stdout

    # when
    flag.touch()
    resumed = running.hodei("pipeline", "resume", run_id, "--follow")

    # then
    assert resumed.returncode == 0, resumed.stderr
    after = call(running, "GET", f"/runs/{run_id}").json()
    assert (after["status"], after["resumed"]) == ("succeeded", 1)
    assert after["nodes"][0] == before["nodes"][0]
    assert after["nodes"][1]["try"] == 2 and after["nodes"][1]["job_id"] != before["nodes"][1]["job_id"]
    assert call(running, "POST", f"/runs/{run_id}/resume").status_code == 409


def test_a_run_is_cancelled_with_all_of_its_jobs(running: RunningPlatform) -> None:
    # given
    name = named("long")
    jobs = [
        {"key": "long", "command": "sleep 1000", "provider": "process", "grace_s": 1.0},
        {"key": "after", "needs": ["long"], "when": "always", "command": "true", "provider": "process"},
    ]
    pipeline = call(running, "POST", "/pipelines", json={"name": name, "jobs": jobs}).json()
    run = call(running, "POST", f"/pipelines/{pipeline['id']}/runs", json={}).json()
    path = f"/runs/{run['id']}"
    until(lambda: call(running, "GET", path).json()["nodes"][0]["status"] == "running", what="the job to run")
    assert call(running, "DELETE", f"/pipelines/{pipeline['id']}").status_code == 409

    # when
    assert running.hodei("pipeline", "cancel", run["id"]).returncode == 0

    # then
    ended = call(running, "GET", f"{path}?wait=30").json()
    assert ended["status"] == "cancelled"
    assert [node["status"] for node in ended["nodes"]] == ["cancelled", "cancelled"]
    assert ended["nodes"][1]["job_id"] is None
    assert call(running, "POST", f"{path}/cancel").status_code == 202
    assert call(running, "DELETE", f"/pipelines/{pipeline['id']}").status_code == 204
    assert call(running, "GET", path).status_code == 404


def test_ctrl_c_leaves_the_run_going_and_says_how_to_go_on(running: RunningPlatform) -> None:
    name = named("left")
    jobs = [{"key": "long", "command": "echo up; sleep 600", "provider": "process", "grace_s": 0.0}]
    call(running, "POST", "/pipelines", json={"name": name, "jobs": jobs})
    program = [sys.executable, "-m", "hodei.cli.main", "pipeline", "run", name, "--follow"]
    process = subprocess.Popen(
        program,
        env=running.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    path = f"/runs/{run_id}"
    until(lambda: call(running, "GET", path).json()["nodes"][0]["status"] == "running", what="the job to run")

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 130
    assert f"hodei pipeline cancel {run_id}" in said
    assert call(running, "GET", path).json()["status"] == "running"
    call(running, "POST", f"{path}/cancel")
    assert call(running, "GET", f"{path}?wait=30").json()["status"] == "cancelled"


def test_the_routes_answer_in_their_shapes_and_unknown_ids_are_404(running: RunningPlatform) -> None:
    name = named("plain")
    plain = call(running, "POST", "/pipelines", json={"name": name, "description": "d"})
    assert plain.status_code == 201
    body = plain.json()
    assert {key: body[key] for key in ("name", "description", "status", "jobs")} == {
        "name": name, "description": "d", "status": "active", "jobs": None,
    }  # fmt: skip
    assert plain.headers["Location"] == f"/api/v1/pipelines/{body['id']}"
    assert call(running, "POST", "/pipelines", json={"name": name}).status_code == 409
    held = call(running, "POST", "/jobs", json={"name": "held", "pipeline_id": body["id"]}).json()
    assert (held["status"], held["held"], held["pipeline_id"]) == ("pending", True, body["id"])
    assert call(running, "POST", f"/pipelines/{body['id']}/runs", json={}).status_code == 409
    [listed] = call(running, "GET", f"/pipelines?name={name}").json()
    assert (listed["id"], listed["job_count"]) == (body["id"], None) and "jobs" not in listed

    unknown = uuid4()
    missing = [
        call(running, "GET", f"/pipelines/{unknown}"),
        call(running, "PATCH", f"/pipelines/{unknown}", json={"name": "x"}),
        call(running, "DELETE", f"/pipelines/{unknown}"),
        call(running, "POST", f"/pipelines/{unknown}/runs", json={}),
        call(running, "GET", f"/pipelines/{unknown}/runs"),
        call(running, "GET", f"/runs/{unknown}"),
        call(running, "GET", f"/runs/{unknown}/follow"),
        call(running, "POST", f"/runs/{unknown}/cancel"),
        call(running, "POST", f"/runs/{unknown}/resume"),
        call(running, "POST", "/jobs", json={"name": "x", "pipeline_id": str(unknown)}),
    ]
    assert {answer.status_code for answer in missing} == {404}
    assert missing[-1].json()["field"] == "pipeline_id"


def test_a_request_for_a_run_that_is_sent_again_makes_one_run(running: RunningPlatform) -> None:
    name = named("once")
    jobs = [{"key": "a", "command": "true", "provider": "process"}]
    once = {"Idempotency-Key": str(uuid4())}
    made = [
        call(running, "POST", "/pipelines", json={"name": name, "jobs": jobs}, headers=once) for _ in range(2)
    ]
    assert made[0].json()["id"] == made[1].json()["id"]
    path = f"/pipelines/{made[0].json()['id']}/runs"
    runs = [call(running, "POST", path, json={}, headers=once) for _ in range(2)]

    assert runs[0].json()["id"] == runs[1].json()["id"]
    assert call(running, "POST", path, json={"params": {"x": "1"}}, headers=once).status_code == 409
    assert len(call(running, "GET", path).json()) == 1
    assert call(running, "GET", f"/runs/{runs[0].json()['id']}?wait=30").json()["status"] == "succeeded"


def test_a_mistake_in_a_file_is_said_with_its_line(running: RunningPlatform, tmp_path: Path) -> None:
    text = FILE.format(name=named("bad"), provider="process").replace("needs: build", "needs: biuld")
    line = text.split("needs: biuld")[0].count("\n") + 1
    file = written(tmp_path, text)

    refused = running.hodei("pipeline", "create", "-f", file)

    assert refused.returncode == 2 and refused.stdout == ""
    assert (
        f"{file}:{line}: jobs.1.needs.0: test needs biuld, and there is no such job. Did you mean build?"
        in refused.stderr
    )


def test_the_plain_form_holds_jobs_that_are_attached(running: RunningPlatform) -> None:
    with running.client() as client:
        pipeline_id = plain_pipeline(client)
        job_id = client.create_job({"name": "held", "pipeline_id": pipeline_id, "provider": "process"}).id
        client.execute(job_id, "echo attached", wait_s=30)
        assert client.wait(job_id).status == "succeeded"
        assert [job.id for job in client.jobs(pipeline_id=pipeline_id)] == [job_id]
