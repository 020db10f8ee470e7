"""The recipes that start, stop, build, clean and check: each on a platform or in a checkout of its own."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from support.clusters import Cluster
from support.containers import docker
from support.platform import CHECKOUT
from support.process_tree import with_text
from support.recipes import Person
from support.waiting import until

from hodei.client.client import HodeiClient
from hodei.embedded.ports import is_free

pytestmark = pytest.mark.docker

ISSUED = """
    dev dev-db db-migrate dev-server dev-k8s stop-server build build-server build-cli build-worker clean e2e job-test
    job-hello-world job-examples-all job-list job-details job-cancel job-docker-hello job-docker-data job-docker-cpu
    job-docker-memory job-docker-ml job-docker-build job-docker-all job-k8s-hello job-k8s-data job-k8s-cpu job-k8s-all
    job-k8s-pods job-provider-comparison job-concurrent-test job-stress-test job-error test test-integration
    test-multi-provider test-multi-provider-k8s test-k8s-provider verify-providers check-provider-health status logs
    logs-server logs-worker debug-jobs debug-workers debug-queue debug-job debug-job-timeline watch-jobs watch-workers
    lint format typecheck check
"""
ELSEWHERE = {"demo", "docs", "lock", "e2e"}
"""The README's own test, the generated pages', by hand, and ``tests/acceptance/e2e``."""
UGLY = "import os\ndef  f( x ):\n  return   x\n"
TEST_S = 240


def test_every_recipe_is_there_and_is_run_by_a_test_here() -> None:
    # given
    there = subprocess.run(["just", "--summary"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    words = {"build-server", "build-worker", "build-cli"}  # parts of build
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 40:
                words.add(node.value)
    words |= {
        f"{prefix}{word}" for prefix in ("job-docker-", "job-k8s-", "debug-", "test-") for word in words
    }

    # then
    recipes = set(there.stdout.split())
    assert set(ISSUED.split()) <= recipes
    assert recipes - words == ELSEWHERE - words


def test_the_servers_alone_are_migrated_and_used_by_services_that_are_started_one_by_one(
    newcomer: Person,
) -> None:
    # given
    with newcomer.begun("dev-db") as servers:
        servers.until("Postgres and Redis ready")

        # when
        first, again = newcomer.just("db-migrate"), newcomer.just("db-migrate")
        asked = newcomer.just("debug-jobs")

    # then
    assert "The schema was migrated." in first.stdout, first.stdout
    assert "The schema was up to date already." in again.stdout
    assert asked.returncode == 0 and "(0 rows)" in asked.stdout, asked.stdout
    until(lambda: not with_text(str(newcomer.folder)), within_s=10, what="the end of all its processes")


def test_dev_runs_everything_until_ctrl_c(newcomer: Person) -> None:
    # given
    with newcomer.begun("dev") as dev:
        dev.until("Ctrl-C stops everything.")

        # when
        done = newcomer.just("job-test")

    # then
    assert done.returncode == 0 and "it works on " in done.stdout, done.stdout
    until(lambda: not with_text(str(newcomer.folder)), within_s=10, what="the end of all its processes")


def test_dev_k8s_runs_jobs_in_pods_and_needs_a_cluster(newcomer: Person, cluster: Cluster) -> None:
    # given
    newcomer.env |= {"HODEI_DOCKER_ENABLED": "auto", "HODEI_K8S_KUBECONFIG": str(cluster.control_plane)}
    with newcomer.begun("dev-k8s") as dev:
        dev.until("Ctrl-C stops everything.")

        # when
        done = newcomer.just("job-test")

        # then
        assert done.returncode == 0 and "it works on hodei-worker-" in done.stdout, done.stdout
        with HodeiClient(newcomer.url) as client:
            assert {one.name for one in client.providers()} == {"kubernetes", "process"}


def test_stop_server_ends_all_that_dev_server_started_also_a_job(newcomer: Person) -> None:
    # given
    started, again = newcomer.just("dev-server"), newcomer.just("dev-server")
    assert started.returncode == 0 and f"Ready: {newcomer.url}" in started.stdout, started.stdout
    assert again.returncode == 0 and "hodei dev runs already" in again.stdout, again.stdout
    job_id = newcomer.hodei("job", "run", "--provider", "process", "--command", "sleep 600").stdout.strip()
    with HodeiClient(newcomer.url) as client:
        until(lambda: client.job(job_id).status == "running", within_s=30, what="the job's start")

    # when
    done = newcomer.just("stop-server")

    # then
    assert done.returncode == 0 and f"Stopped: {newcomer.url}" in done.stdout, done.stdout
    assert with_text(str(newcomer.folder)) == []
    assert all(is_free(int(newcomer.env[name])) for name in newcomer.env if name.endswith("_PORT"))
    assert "No hodei dev of yours runs here." in newcomer.just("stop-server").stdout


def test_a_background_server_that_cannot_start_says_why(newcomer: Person) -> None:
    # given
    port = newcomer.env["HODEI_SCHEDULER_PORT"] = newcomer.env["HODEI_ORCHESTRATOR_PORT"]
    with newcomer.begun("dev-db") as servers:
        servers.until("Postgres and Redis ready")

        # when
        done = newcomer.just("dev-server")

    # then
    assert done.returncode != 0
    assert "already" in done.stdout or port in done.stdout, done.stdout
    assert "Traceback" not in done.stdout


def test_both_images_and_the_command_line_are_built(newcomer: Person) -> None:
    # given
    server, worker, wheels = (
        "hodei-recipes-server:test",
        "hodei-recipes-worker:test",
        newcomer.folder / "dist",
    )
    given = [f"server_image={server}", f"worker_image={worker}", f"wheels={wheels}"]

    # when
    done = newcomer.just(
        *given, "build", env={"BUILD_NETWORK": "host"}, timeout_s=600
    )  # its parts, one by one

    # then
    parts = subprocess.run(
        ["just", "--show", "build"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert "build: build-server build-worker build-cli" in parts.stdout
    try:
        assert done.returncode == 0, done.stdout[-3000:]
        assert docker("run", "--rm", server, "--version").startswith("hodei ")
        labels = docker(
            "image", "inspect", "--format", '{{index .Config.Labels "hodei.agent.version"}}', worker
        )
        assert labels
        [wheel] = wheels.glob("hodei_jobs-*.whl")
        with zipfile.ZipFile(wheel) as opened:
            [entry_points] = [name for name in opened.namelist() if name.endswith("entry_points.txt")]
            scripts = opened.read(entry_points).decode()
        assert all(name in scripts for name in ("hodei = ", "hodei-jobs-cli = ", "hodei-agent = "))
    finally:
        subprocess.run(["docker", "rmi", server, worker], capture_output=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a checkout as recipes need that change or remove files."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("justfile", "run", "pyproject.toml", "requirements.lock"):
        shutil.copy(CHECKOUT / name, folder)
    (folder / ".venv").symlink_to(CHECKOUT / ".venv")
    return folder


def test_what_is_built_and_cached_is_removed_and_data_stays(newcomer: Person, checkout: Path) -> None:
    # given
    for name in (
        "dist",
        "build",
        "e2e-report",
        ".ruff_cache",
        "hodei/__pycache__",
        ".hodei/postgres",
        "hodei/api",
    ):
        (checkout / name).mkdir(parents=True)
        (checkout / name / "file").touch()

    # when
    done = newcomer.just("clean", cwd=checkout)

    # then
    assert done.returncode == 0, done.stdout
    left = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.name == "file"}
    assert left == {".hodei/postgres/file", "hodei/api/file"}
    assert (CHECKOUT / ".venv/bin/python").exists()


def test_ugly_code_is_found_and_formatted(newcomer: Person, checkout: Path) -> None:
    # given
    (checkout / "ugly.py").write_text(UGLY)

    # when
    before = newcomer.just("lint", cwd=checkout)
    formatted = newcomer.just("format", cwd=checkout)
    after = newcomer.just("lint", cwd=checkout)

    # then
    assert (before.returncode, formatted.returncode, after.returncode) == (1, 0, 0), (
        before.stdout + formatted.stdout
    )
    assert "F401" in before.stdout
    assert (checkout / "ugly.py").read_text() == "def f(x):\n    return x\n"


def test_what_must_hold_before_a_commit_holds(newcomer: Person) -> None:
    # when
    done = newcomer.just("lint", "typecheck", "check", timeout_s=TEST_S)

    # then
    assert done.returncode == 0, done.stdout
    assert "All checks passed!" in done.stdout and "Success: no issues found" in done.stdout


@pytest.mark.parametrize(
    ("recipe", "selection", "passed"),
    [
        ("test", ["tests/unit/test_lessons.py", "-k", "no_lesson_is_there_twice"], 1),
        ("test-integration", ["-k", "test_the_version_is_one_line"], 1),
        ("test-multi-provider", ["-k", "a_worker_that_never_was_is_gone and process"], 1),
        ("test-multi-provider-k8s", ["-k", "a_worker_that_never_was_is_gone and kubernetes"], 1),
        ("test-k8s-provider", ["-k", "test_a_name_is_taken_once"], 1),
    ],
)
def test_a_selection_of_tests_is_run(
    newcomer: Person,
    recipe: str,
    selection: list[str],
    passed: int,
    real_cluster: dict[str, str],
    tmp_path: Path,
) -> None:
    # when, in a place where no other run of pytest tidies up meanwhile
    env = {**real_cluster, "PYTEST_DEBUG_TEMPROOT": str(tmp_path)}
    done = newcomer.just(recipe, "-q", "-p", "no:cacheprovider", *selection, env=env, timeout_s=TEST_S)

    # then
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(rf"^{passed} passed", done.stdout, re.MULTILINE), done.stdout[-1000:]


@pytest.fixture
def real_cluster() -> dict[str, str]:
    """What the tests of recipes on Kubernetes need, when they are to run on a real one."""
    return {name: os.environ[name] for name in ("KUBECONFIG", "K8S_LOAD_IMAGE") if name in os.environ}
