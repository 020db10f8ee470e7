"""The whole platform in processes of its own, as ``Procfile`` has it, for tests that come in by the front door."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras

from hodei.client.client import HodeiClient
from hodei.embedded.ports import free_port
from support.waiting import until

E2E_IMAGE = "hodei-worker:e2e-test"
CHECKOUT = Path(__file__).resolve().parents[2]
PROCESSES = {"serve": ["serve", "all"], "controller": ["controller"], "beat": ["beat"]}
SERVICES = {name: ["serve", name] for name in ("orchestrator", "scheduler", "worker-manager")}
"""In place of ``serve``, each in a process of its own."""
OTHERS = {"flower": ["flower"]}
"""Only where they are asked for."""


class RunningPlatform:
    """``serve all``, a controller and a beat on free loopback ports. Use it as a context manager.

    ``settings`` are more ``HODEI_*`` variables without their prefix. Each process may be killed and started again by name.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        redis_url: str,
        *,
        names: Sequence[str] = tuple(PROCESSES),
        **settings: str,
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self.redis_url = redis_url
        self.names = list(names)
        self.ports = {name: free_port() for name in ("ORCHESTRATOR", "SCHEDULER", "WORKER_MANAGER")}
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
        self.env |= {f"HODEI_{name}_PORT": str(port) for name, port in self.ports.items()}
        self.env |= {
            "HODEI_DATABASE_URL": database_url,
            "HODEI_REDIS_URL": redis_url,
            "HODEI_DATA_DIR": str(folder / "data"),
            "HODEI_LOG_DIR": str(folder / "logs"),
            "HODEI_SECRET_KEY": "a key of the tests, long enough",
            "HODEI_DOCKER_ENABLED": "0",
            "HODEI_KUBERNETES_ENABLED": "0",
            "HODEI_PROCESS_ENABLED": "1",
            "HODEI_WORKER_IMAGE": E2E_IMAGE,
            "XDG_STATE_HOME": str(folder / "state"),
            "HODEI_URL": f"http://127.0.0.1:{self.ports['ORCHESTRATOR']}",
        }
        self.env |= {f"HODEI_{name.upper()}": value for name, value in settings.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return self.env["HODEI_URL"]

    def service_url(self, service: str) -> str:
        """``orchestrator``, ``scheduler`` or ``worker-manager``."""
        return f"http://127.0.0.1:{self.ports[service.upper().replace('-', '_')]}"

    def __enter__(self) -> RunningPlatform:
        for name in self.names:
            self.start(name)
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()

    def start(self, name: str) -> None:
        """Start one of the processes; ``name`` may have a suffix, as in ``controller-2``."""
        command = SERVICES.get(name) or OTHERS.get(name) or PROCESSES[name.partition("-")[0]]
        with self.log_file(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "hodei.cli.main", *command],
                env=self.env,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
            )

    def log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send the process a signal; when that ends it, wait for the end."""
        process = self.processes[name]
        process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            process.wait(15)

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        late = []
        for name, process in self.processes.items():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                late.append(name)
        assert not late, f"{late} did not stop within 10 s of SIGTERM"

    def wait_until_ready(self) -> None:
        """Until everything that was started says that it is well."""
        wanted = {"database", "redis"}
        wanted |= {"worker_manager"} if self.processes.keys() & {"serve", "worker-manager"} else set()
        wanted |= {"controller"} if "controller" in self.processes else set()
        wanted |= {"clock"} if "beat" in self.processes else set()

        def well() -> bool:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise AssertionError(f"{name} ended: {self.log_file(name).read_text()[-3000:]}")
            try:
                with self.client() as client:
                    checks = client.health().checks
            except Exception:
                return False
            return all(checks[name].ok for name in wanted)

        until(well, within_s=90, what="the platform's health")

    def client(self) -> HodeiClient:
        return HodeiClient(self.url, self.env.get("HODEI_API_TOKEN"), timeout_s=10)

    def hodei(self, *arguments: str, timeout_s: float = 90, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line as a person would, in another folder."""
        return subprocess.run(
            [sys.executable, "-m", "hodei.cli.main", *arguments],
            env=self.env | more.pop("env", {}),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd="/",
            check=False,
            **more,
        )

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What an operator sees with psql."""
        connection = psycopg2.connect(self.database_url.replace("+psycopg2", ""))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                psycopg2.extras.register_uuid(conn_or_curs=cursor)
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()
