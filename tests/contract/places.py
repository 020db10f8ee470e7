"""The places that the conformance suite runs over: how to make their provider, hurt its workers, and see what
is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from hodei.providers.contract import Provider, WorkerRequest
from hodei.providers.reach import is_own_address
from hodei.providers.registry import build_provider
from hodei.settings import Settings

if TYPE_CHECKING:
    from support.clusters import Cluster

NOBODY = "127.0.0.1:9"
"""An address where no platform is: agents started with it go on trying."""

WORKER_IMAGE = os.environ.get("HODEI_TEST_WORKER_IMAGE", "hodei-worker:e2e-test")
FACT_S = 60.0
"""As long as it may take on a busy machine."""


def eventually(fact: Callable[[], bool], *, within_s: float = FACT_S) -> bool:
    """Wait for a fact, as long as it can reasonably take."""
    deadline = time.monotonic() + within_s
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Place(ABC):
    """One adapter under test, in a deployment of its own."""

    provider_type: str
    host_for_workers = "127.0.0.1"
    missing_image: str | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deployment = f"contract-{uuid4().hex[:12]}"
        self.provider_id = uuid4()
        self.config: dict[str, Any] = {}
        self._opened: list[Provider] = []
        self.requests: list[WorkerRequest] = []

    def open(self, server: str = NOBODY) -> Provider:
        """A provider object, as any process of the platform makes it."""
        provider = build_provider(
            provider_id=self.provider_id,
            provider_type=self.provider_type,
            config=self.config,
            settings=Settings(server_host=server, worker_image=WORKER_IMAGE),
            data_dir=self.folder,
        )
        self._opened.append(provider)
        return provider

    def request(self, **fields: Any) -> WorkerRequest:
        fields = {"deployment": self.deployment, "job_id": uuid4(), **fields}
        request = WorkerRequest(worker_id=uuid4(), one_time_token=f"one-time-{uuid4().hex}", **fields)
        self.requests.append(request)
        return request

    def ask_from_another_process(self, question: str) -> Any:
        """Evaluate a question about `provider` in a new interpreter; answers in JSON."""
        program = (
            "import json, sys\nfrom pathlib import Path\nfrom uuid import UUID\n"
            "from hodei.providers.registry import build_provider\nfrom hodei.settings import Settings\n"
            "given = json.loads(sys.argv[1])\n"
            "provider = build_provider(provider_id=UUID(given['id']), provider_type=given['type'],"
            " config=given['config'], data_dir=Path(given['folder']),"
            " settings=Settings(server_host=given['server'], worker_image=given['image']))\n"
            f"print(json.dumps({question}))\nprovider.close()\n"
        )
        given = {
            "id": str(self.provider_id),
            "type": self.provider_type,
            "config": self.config,
            "server": NOBODY,
            "image": WORKER_IMAGE,
            "folder": str(self.folder),
        }
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(given)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def clean_up(self) -> None:
        provider = self.open()
        for request in self.requests:
            provider.stop(request.worker_id)
        self.close(provider)
        for opened in self._opened:
            opened.close()

    def close(self, provider: Any) -> None:
        """Let go of what the place itself holds."""
        provider.close()

    @abstractmethod
    def kill(self, worker_id: UUID) -> None:
        """End the worker's agent from outside, as a crash would."""

    @abstractmethod
    def leave_half_made(self, request: WorkerRequest) -> None:
        """Leave what a crash in the middle of a start would."""

    @abstractmethod
    def traces(self, worker_id: UUID) -> list[str]:
        """All that this machine shows of a worker, looked for without the provider."""

    def public_description(self, worker_id: UUID) -> str:
        """What everybody can see of a running worker: labels, names, arguments."""
        return ""


class ProcessPlace(Place):
    provider_type = "process"

    def kill(self, worker_id: UUID) -> None:
        os.kill(self._record(worker_id)["pid"], signal.SIGKILL)

    def leave_half_made(self, request: WorkerRequest) -> None:
        from hodei.providers.process.folder import Folders, Record
        from hodei.providers.process.proc import boot_id

        folder = Folders(self.folder).of(request.deployment, request.worker_id)
        folder.make()
        folder.write(Record(worker_id=str(request.worker_id), job_id=None, boot_id=boot_id()))

    def traces(self, worker_id: UUID) -> list[str]:
        lines = [str(path) for path in self.folder.glob(f"workers/*/{worker_id}")]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(worker_id) in words and "--state-dir" in words:
                lines.append(words)
        return lines

    def public_description(self, worker_id: UUID) -> str:
        pid = self._record(worker_id)["pid"]
        return Path(f"/proc/{pid}/cmdline").read_text() + json.dumps(self._record(worker_id))

    def _record(self, worker_id: UUID) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            next(self.folder.glob(f"workers/*/{worker_id}/worker.json")).read_text()
        )
        return found


class FakePlace(Place):
    provider_type = "fake"
    missing_image = "hang/up:1"

    def kill(self, worker_id: UUID) -> None:
        self._fake().kill(worker_id)

    def leave_half_made(self, request: WorkerRequest) -> None:
        self._fake().start(request)

    def traces(self, worker_id: UUID) -> list[str]:
        seen = self._fake().fleet.ask("inspect", worker_id=str(worker_id))
        return [] if seen["state"] == "gone" else [str(seen)]

    def close(self, provider: Any) -> None:
        provider.shut_down_fleet()
        assert eventually(lambda: not provider.fleet.path.exists())

    def _fake(self) -> Any:
        return self.open()


class DockerPlace(Place):
    provider_type = "docker"
    missing_image = "127.0.0.1:9/hodei/nothing:1"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        provider: Any = self.open()
        health = provider.health()
        if not health.ok:
            _missing(health.message)
        if "is there" not in health.checks["image"]:
            _missing(health.checks["image"])
        gateway = provider.bridge_gateway()
        self.host_for_workers = gateway if gateway and is_own_address(gateway) else "host.docker.internal"

    def kill(self, worker_id: UUID) -> None:
        self._docker("kill", f"hodei-worker-{worker_id}")

    def leave_half_made(self, request: WorkerRequest, **config: Any) -> None:
        from hodei.providers.docker import container
        from hodei.providers.docker.config import DockerConfig

        provider: Any = self.open()
        body = container.create_body(
            request, DockerConfig(**config), image=WORKER_IMAGE, server_url=f"http://{NOBODY}"
        )
        name = container.container_name(request.worker_id)
        provider.engine.call(lambda client: client.create_container_from_config(body, name=name))

    def traces(self, worker_id: UUID) -> list[str]:
        return self._docker("ps", "--all", "--quiet", "--filter", f"name=hodei-worker-{worker_id}").split()

    def public_description(self, worker_id: UUID) -> str:
        return self._docker(
            "ps", "--all", "--no-trunc", "--format", "{{json .}}", "--filter", f"name={worker_id}"
        )

    def _docker(self, *words: str) -> str:
        return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


class KubernetesPlace(Place):
    """Nodes bring images themselves, so ``start`` says nothing of a missing one: ``missing_image`` stays None."""

    provider_type = "kubernetes"

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self.config = {"kubeconfig": str(cluster.control_plane)}
        self.host_for_workers = cluster.address

    def kill(self, worker_id: UUID) -> None:
        self.cluster.kill(name_of(worker_id))

    def leave_half_made(self, request: WorkerRequest) -> None:
        from hodei.providers.kubernetes import pod

        provider: Any = self.open()
        secret = pod.secret(request, provider.place)
        self.cluster.core.create_namespaced_secret(provider.place.namespace, secret)

    def traces(self, worker_id: UUID) -> list[str]:
        return self.cluster.traces(name_of(worker_id))

    def public_description(self, worker_id: UUID) -> str:
        [secret] = [one for one in self.cluster.secrets() if one.metadata.name == name_of(worker_id)]
        return json.dumps(self.cluster.document(name_of(worker_id))) + str(secret.metadata)


def name_of(worker_id: UUID) -> str:
    return f"hodei-worker-{worker_id}"


def _missing(reason: str) -> None:
    """A missing engine is a mistake in CI, and no reason to worry on a laptop."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


PLACES: dict[str, type[Place]] = {"process": ProcessPlace, "docker": DockerPlace, "fake": FakePlace}
