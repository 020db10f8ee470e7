"""From inside a job: its own things and nothing of the platform's, however hard it looks."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.containers import containers, inspect
from support.platform import RunningPlatform
from support.waiting import until

from hodei.embedded.services import EmbeddedServices
from hodei.providers.process.hiding import HIDDEN

BREAKING_IN = Path(__file__).parents[1] / "support" / "breaking_in.py"
LOGGING_IN = Path(__file__).parents[1] / "support" / "logging_in.py"
PRYING = Path(__file__).parents[1] / "support" / "prying.py"
OWN = {"HODEI_JOB_ID", "HODEI_EXECUTION_ID", "HODEI_ATTEMPT", "HODEI_OUTPUT"}
AGENTS_OWN = {"HODEI_SERVER", "HODEI_TOKEN", "HODEI_WORKER_ID"}
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
ALWAYS = OWN | {"PATH", "HOME", "LANG", "TMPDIR"}
FROM_THE_SHELL = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
"""What shells and Python itself set when they start."""


def pry(platform: RunningPlatform, provider: str, folders: str, script: Path = PRYING) -> dict[str, Any]:
    """What the prying job found, after a look that it can find at all; ``tokens`` are the hashes of its worker's."""
    planted = secrets.token_urlsafe(32)
    submitted = platform.hodei(
        "job", "run", "--provider", provider, "--script", str(script),
        "--env", f"PLANTED={planted}", "--env", f"PRY_IN={folders}",
    )  # fmt: skip
    job_id = submitted.stdout.strip()
    tokens: dict[str, str] = {}

    def ended() -> bool:
        tokens.update(platform.sql(TOKENS_OF_JOB, job_id))
        return bool(
            platform.sql("SELECT 1 FROM jobs WHERE id::text = %s AND completed_at IS NOT NULL", job_id)
        )

    until(ended, within_s=60, what="the job's end")
    logs = platform.hodei("job", "logs", job_id)
    seen = json.loads(logs.stdout)
    assert digest(planted) in seen["found"], "it finds what it may"
    assert seen["me"] in seen["read"]["memories"]
    assert tokens.keys() == {"one_time", "session"}
    return seen | {"job_id": job_id, "tokens": tokens}


TOKENS_OF_JOB = """
    SELECT kind, encode(token_hash, 'hex') FROM hodei.worker_tokens
     WHERE worker_id = (SELECT worker_id FROM jobs WHERE id::text = %s)
"""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check_found_no_token(seen: dict[str, Any]) -> None:
    places = {kind: seen["found"].get(value) for kind, value in seen["tokens"].items()}
    assert places == {"one_time": None, "session": None}


def check_own_things(seen: dict[str, Any]) -> None:
    assert ALWAYS <= seen["env"].keys() <= ALWAYS | FROM_THE_SHELL | {"PLANTED", "PRY_IN"}
    assert seen["env"]["HODEI_JOB_ID"] == seen["job_id"] and seen["env"]["HODEI_ATTEMPT"] == "1"
    assert seen["cwd"] == seen["env"]["HOME"] and seen["in_home"] == []


@pytest.mark.docker
def test_a_docker_job_reads_neither_token(docker_running: RunningPlatform) -> None:
    # when
    seen = pry(docker_running, "docker", "/tmp:/var/tmp:/home:/opt:/run:/root")

    # then
    check_own_things(seen)
    assert seen["uid"] != 0
    assert seen["read"]["environments"] == [] and seen["read"]["memories"] == [seen["me"]]
    check_found_no_token(seen)


def test_a_process_job_reads_neither_token_and_nothing_of_the_platforms_environment(
    running: RunningPlatform, tmp_path: Path
) -> None:
    # given
    script = tmp_path / "prying"
    script.write_text(PRYING.read_text().replace("/usr/bin/env python3", sys.executable))

    # when
    seen = pry(running, "process", running.env["HODEI_DATA_DIR"], script)

    # then
    check_own_things(seen)
    check_found_no_token(seen)
    for name in ("HODEI_DATABASE_URL", "HODEI_REDIS_URL", "HODEI_SECRET_KEY"):
        place = seen["found"].get(digest(running.env[name]), "")
        assert not any(place.endswith(f"process {server.pid}") for server in running.processes.values()), name
    assert digest(running.database_url) not in seen["found"]


@pytest.fixture
def on_embedded_servers(tmp_path: Path) -> Iterator[tuple[RunningPlatform, dict[str, str]]]:
    """A platform that finds embedded servers through their folder, as in ``hodei dev``, and what its jobs know of them."""
    with EmbeddedServices.start(ephemeral=True) as servers:
        assert servers.database_url and servers.redis_url
        known = {
            "DATA": str(servers.data_dir),
            "SOCKETS": parse_qs(urlsplit(servers.database_url).query)["host"][0],
            "REDIS_PORT": str(urlsplit(servers.redis_url).port),
        }
        folder = tmp_path / "platform"
        folder.mkdir()
        platform = RunningPlatform(folder, servers.database_url, servers.redis_url, data_dir=known["DATA"])
        platform.env |= {"HODEI_DATABASE_URL": "", "HODEI_REDIS_URL": "", "HODEI_SECRET_KEY": ""}
        with platform:
            yield platform, known


def test_a_process_job_can_log_in_to_neither_embedded_server_nor_read_the_secret_key(
    on_embedded_servers: tuple[RunningPlatform, dict[str, str]], tmp_path: Path
) -> None:
    # given
    platform, known = on_embedded_servers
    [health] = json.loads(platform.hodei("provider", "health", "process", "--format", "json").stdout)
    if health["checks"]["hiding"] != HIDDEN and os.environ.get("CI") != "true":
        pytest.skip(health["checks"]["hiding"])
    script = tmp_path / "logging_in"
    script.write_text(LOGGING_IN.read_text().replace("/usr/bin/env python3", sys.executable))
    outside = subprocess.run(
        [sys.executable, LOGGING_IN],
        env={"PATH": os.environ["PATH"], **known},
        capture_output=True,
        check=True,
    )
    free = json.loads(outside.stdout)
    assert len(free["files"]) >= 4, "it finds what is not hidden"
    assert {"redis", "postgres as hodei", "postgres as postgres"} <= set(free["logins"])

    # when
    variables = [word for name, value in known.items() for word in ("--env", f"{name}={value}")]
    ran = platform.hodei("job", "run", "--provider", "process", "--script", str(script), *variables, "--wait")

    # then
    seen = json.loads(platform.hodei("job", "logs", ran.stdout.strip()).stdout)
    assert (seen["files"], seen["folders"], seen["logins"]) == ([], [], [])
    assert seen["refusals"] > 0 and seen["below"] == ["workers"]
    assert set(seen["env"]) <= ALWAYS | FROM_THE_SHELL | known.keys()


@pytest.fixture
def obedient(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The socket of a container engine, where the platform looks for one."""
    folder = Path(tempfile.mkdtemp(prefix="hodei-engine-", dir="/tmp"))
    path = folder / "docker.sock"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen(64)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield str(path)
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="these are the ways that only root has")
def test_a_process_job_of_root_gets_at_the_database_by_none_of_roots_ways(
    obedient: str, on_embedded_servers: tuple[RunningPlatform, dict[str, str]], tmp_path: Path
) -> None:
    # given
    platform, known = on_embedded_servers
    [health] = json.loads(platform.hodei("provider", "health", "process", "--format", "json").stdout)
    if health["checks"]["hiding"] != HIDDEN and os.environ.get("CI") != "true":
        pytest.skip(health["checks"]["hiding"])
    sockets = [obedient, *(path for path in ("/run/docker.sock",) if Path(path).is_socket())]
    servers = pwd.getpwuid((Path(known["DATA"]) / "postgres").stat().st_uid).pw_name
    known = known | {"SERVERS": servers, "OBEDIENT": ":".join(sockets)}
    script = tmp_path / "breaking_in"
    script.write_text(BREAKING_IN.read_text().replace("/usr/bin/env python3", sys.executable))
    outside = subprocess.run(
        [sys.executable, BREAKING_IN],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), **known},
        capture_output=True,
        check=True,
    )
    ways = {"become the servers' user", "as the servers' user through their process", "open pg_hba.conf"}
    ways |= {"Postgres' socket", "list the data folder", *(f"connect to {path}" for path in sockets)}
    assert ways <= set(json.loads(outside.stdout)["went"]), "they are ways for root outside"

    # when
    variables = [word for name, value in known.items() for word in ("--env", f"{name}={value}")]
    ran = platform.hodei("job", "run", "--provider", "process", "--script", str(script), *variables, "--wait")

    # then
    seen = json.loads(platform.hodei("job", "logs", ran.stdout.strip()).stdout)
    assert seen == {"went": [], "uid": 0}


@pytest.mark.docker
def test_docker_shows_no_secret_but_the_spent_one_time_token(
    docker_running: RunningPlatform,
) -> None:
    # given
    submitted = docker_running.hodei(
        "job", "run", "--provider", "docker", "--command", 'test "$THE_SECRET" = tell-nobody && echo ready && sleep 2',
        "--secret-env", "THE_SECRET", env={"THE_SECRET": "tell-nobody"},
    )  # fmt: skip
    job_id = submitted.stdout.strip()

    # when
    with docker_running.client() as client:
        until(lambda: client.job(job_id).log.entries, what="the job's first line")
        [name] = containers(docker_running, f"label=hodei.job.id={job_id}")
        shown = inspect(name)
        tokens = dict(docker_running.sql(TOKENS_OF_JOB, job_id))
        spent = docker_running.sql(
            "SELECT used_at IS NOT NULL FROM hodei.worker_tokens WHERE encode(token_hash, 'hex') = %s",
            tokens["one_time"],
        )
        ended = client.wait(job_id)

    # then
    variables = dict(item.split("=", 1) for item in shown["Config"]["Env"])
    assert {name for name in variables if name.startswith("HODEI_")} == AGENTS_OWN
    assert digest(variables["HODEI_TOKEN"]) == tokens["one_time"] and spent == [(True,)]
    everything = json.dumps(shown)
    for secret in ("tell-nobody", docker_running.database_url, docker_running.env["HODEI_SECRET_KEY"]):
        assert secret not in everything
    words = TOKEN.findall(everything.replace(variables["HODEI_TOKEN"], ""))
    assert tokens["session"] not in {digest(word) for word in words}
    assert ended.status == "succeeded"
