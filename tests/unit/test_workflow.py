"""The workflow of the CI service runs what ``.ci/run`` says, where that can run."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
WORKFLOW: dict[Any, Any] = yaml.safe_load((CHECKOUT / ".github/workflows/ci.yml").read_text())
ON = True
"""What YAML 1.1 makes of the key ``on``."""


def scripts() -> list[str]:
    return [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]


def test_it_runs_for_every_push_to_main_and_every_pull_request_and_may_only_read() -> None:
    assert WORKFLOW[ON]["push"] == {"branches": ["main"]}
    assert "pull_request" in WORKFLOW[ON]
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_every_job_has_a_machine_an_end_and_a_whole_clone() -> None:
    for job in WORKFLOW["jobs"].values():
        assert job["runs-on"] and job["timeout-minutes"] <= 60
        [checkout] = [
            step for step in job["steps"] if str(step.get("uses", "")).startswith("actions/checkout@")
        ]
        assert checkout["with"]["fetch-depth"] == 0


def test_it_calls_ci_run_as_root_on_a_new_debian_that_may_start_a_docker_engine() -> None:
    # given
    [words] = [shlex.split(script) for script in scripts()]

    # then
    assert words[:3] == ["docker", "run", "--rm"]
    assert {"--privileged", "--init", "debian:bookworm"} <= set(words)
    assert "--user" not in words and not any("docker.sock" in word for word in words)
    inner = words[words.index("debian:bookworm") + 1 :]
    assert inner[:2] == ["sh", "-euc"]
    assert [line.strip() for line in inner[2].split(";")][-2:] == ["cd /clone", "exec .ci/run"]
    assert os.access(CHECKOUT / ".ci/run", os.X_OK)


def test_its_scripts_are_a_shells_language() -> None:
    for script in scripts():
        for text in (script, *(word for word in shlex.split(script) if "exec" in word)):
            checked = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
            assert checked.returncode == 0, checked.stderr
