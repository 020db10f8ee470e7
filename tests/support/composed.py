"""``deploy/compose.yaml`` as it is, as a project of its own: own names, and the usual ports on a loopback address of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from hodei.client.client import HodeiClient
from support.containers import docker
from support.platform import CHECKOUT, E2E_IMAGE

DEPLOY = CHECKOUT / "deploy"
FILE = DEPLOY / "compose.yaml"
DEBIAN_IMAGES = {name: f"hodei-{name}:debian" for name in ("postgres", "redis", "prometheus")}
"""Built from Debian's packages by ``deploy/debian``: no registry is reached where the tests run."""

HODEI = ("orchestrator", "scheduler", "worker-manager", "controller", "beat", "flower")
SERVICES = (*HODEI, "postgres", "redis", "prometheus")
"""What is started: all but Jaeger and Grafana, of which Debian has no packages. Their configuration is read, and no more."""


def command() -> list[str]:
    """Debian's ``docker-compose``, else the plugin of Docker's own."""
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


@dataclass
class ComposedPlatform:
    """The project; ``up`` and ``down``."""

    image: str
    name: str = field(default_factory=lambda: f"hodei-compose-{secrets.token_hex(3)}")
    address: str = field(
        default_factory=lambda: f"127.{100 + secrets.randbelow(100)}.{secrets.randbelow(250)}.1"
    )

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
        return kept | {
            "COMPOSE_PROJECT_NAME": self.name,
            "DOCKER_GID": str(Path("/var/run/docker.sock").stat().st_gid),
            "HODEI_IMAGE": self.image,
            "HODEI_WORKER_IMAGE": E2E_IMAGE,
            "HODEI_KUBERNETES_ENABLED": "0",
            "PLATFORM_NETWORK": f"{self.name}-network",
            "WORKERS_NETWORK": f"{self.name}-workers",
            "POSTGRES_CONTAINER": f"{self.name}-postgres",
            "PUBLISH_ADDRESS": self.address,
            "OTEL_EXPORTER_OTLP_ENDPOINT": "",
            **{f"{name.upper()}_IMAGE": image for name, image in DEBIAN_IMAGES.items()},
        }

    def compose(self, *arguments: str, timeout_s: float = 240) -> str:
        """What a compose command prints. Fails with its stderr."""
        done = subprocess.run(
            [*command(), "--file", str(FILE), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"compose {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self) -> None:
        self.compose("up", "--detach", *SERVICES)

    def down(self) -> None:
        """Take it down with its volumes; workers that a failed test left behind go first: they hold their network."""
        workers = docker("ps", "--all", "--quiet", "--filter", f"network={self.name}-workers").split()
        made = [one for one in workers if "hodei.managed" in self.inspect(one)["Config"]["Labels"]]
        if made:
            docker("rm", "--force", *made)
        self.compose("down", "--volumes", "--timeout", "10")

    def left(self) -> list[str]:
        """Containers, volumes and networks of the project that are there, running or not."""
        return [
            *docker("ps", "--all", "--format", "{{.Names}}", "--filter", self.label).split(),
            *docker("volume", "ls", "--quiet", "--filter", self.label).split(),
            *docker("network", "ls", "--format", "{{.Name}}", "--filter", self.label).split(),
        ]

    def workers(self) -> list[str]:
        """Containers in which jobs of this platform run or ran."""
        ours = f"label=hodei.deployment={self.deployment}"
        return docker("ps", "--all", "--format", "{{.Names}}", "--filter", ours).split()

    @property
    def deployment(self) -> str:
        return str(self.sql("SELECT id FROM hodei.deployment")[0][0])

    @property
    def label(self) -> str:
        return f"label=com.docker.compose.project={self.name}"

    def containers(self) -> dict[str, str]:
        """The id of each service's container."""
        service = '{{.ID}} {{.Label "com.docker.compose.service"}}'
        lines = docker("ps", "--all", "--no-trunc", "--format", service, "--filter", self.label).splitlines()
        return {name: one for one, name in (line.split() for line in lines)}

    def inspect(self, container: str) -> dict[str, Any]:
        return json.loads(docker("inspect", container))[0]

    def health(self) -> dict[str, str]:
        """What Docker's health check of each service says."""
        found = {name: self.inspect(one) for name, one in self.containers().items()}
        return {name: one["State"]["Health"]["Status"] for name, one in found.items()}

    def url(self, port: int) -> str:
        return f"http://{self.address}:{port}"

    def client(self) -> HodeiClient:
        return HodeiClient(self.url(8080), timeout_s=20)

    @property
    def operators_env(self) -> dict[str, str]:
        """The surroundings of somebody on this machine who knows where the services and the database are."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
        return kept | {
            "XDG_STATE_HOME": "/nonexistent",
            "HODEI_URL": self.url(8080),
            "HODEI_DATABASE_URL": self.database_url,
            "HODEI_WORKER_IMAGE": E2E_IMAGE,
        }

    def hodei(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """The command line, as somebody on this machine uses it."""
        return subprocess.run(
            [sys.executable, "-m", "hodei.cli.main", *arguments],
            env=self.operators_env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd="/",
            check=False,
        )

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres:postgres@{self.address}:5432/hodei_jobs"

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What an operator sees with psql."""
        connection = psycopg2.connect(self.database_url, connect_timeout=5)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()
