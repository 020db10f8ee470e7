"""A Docker engine of the suite's own, that may be stopped, killed and started again: nobody else's containers are on it."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from support.waiting import until

READY_WITHIN_S = 90.0
STOPPED_WITHIN_S = 60.0
CANDIDATES = "10.213.0.0/16"
NEEDED = ("dockerd", "docker", "ip", "umount")


def missing() -> str | None:
    """Why there can be no engine of our own here; None when there can."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking:
        return f"a Docker engine of its own needs {', '.join(lacking)}"
    return None if os.geteuid() == 0 else "a Docker engine of its own needs root"


class OwnDocker:
    """A dockerd with its own data, socket, containerd and bridge.

    It writes no firewall rules (``--iptables=false``): those of the machine's own engine are not touched, and workers
    need none to reach an address of the bridge.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder / 'docker.sock'}"
        self.bridge = f"hodei{secrets.token_hex(4)}"
        self.network = _free_network()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """This machine as the containers see it."""
        return str(self.network[1])

    def docker(self, *words: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """What ``docker`` says on this engine; raises CalledProcessError, with what it said, when it refuses."""
        done = subprocess.run(
            ["docker", "--host", self.host, *words],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
        return done.stdout.strip()

    def make_bridge(self) -> None:
        """With an address of its own, as Docker's has: else it has its ports' lowest, which changes as containers come and
        go, and the others do not find it until their neighbour tables have forgotten the old one."""
        own = ":".join(f"{byte:02x}" for byte in (0x02, *secrets.token_bytes(5)))
        _ip("link", "add", "name", self.bridge, "address", own, "type", "bridge")
        _ip("addr", "add", f"{self.address}/{self.network.prefixlen}", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def start(self) -> None:
        """Start it, and again should it end while what is left of the last one is in its way; wait until it answers."""

        def up() -> bool:
            if self.process is None or self.process.poll() is not None:
                self._spawn()
            return self.answers()

        until(up, within_s=READY_WITHIN_S, what=f"dockerd ({self.folder / 'log'})")

    def answers(self) -> bool:
        return bool(self.docker("version", "--format", "{{.Server.Version}}", check=False))

    def stop(self) -> None:
        """As a service manager does: the engine ends all containers, each in its own time."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(STOPPED_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL: its containers go on until the next one ends them. Its containerd dies with it, a moment later."""
        assert self.process is not None
        containerd = self._containerd()
        self.process.kill()
        self.process.wait()
        if containerd:
            until(lambda: not Path(f"/proc/{containerd}").exists(), within_s=20, what="the end of containerd")
            (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)
        (self.folder / "docker.pid").unlink(missing_ok=True)

    def load(self, image: str) -> None:
        """Copy an image from the machine's engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            load = ["docker", "--host", self.host, "load", "--quiet"]
            subprocess.run(load, stdin=saving.stdout, check=True, capture_output=True)

    def containers(self, deployment: str) -> list[str]:
        """Names and states of all of the deployment's containers, also of those that have exited."""
        words = ["ps", "--all", "--filter", f"label=hodei.deployment={deployment}"]
        return self.docker(*words, "--format", "{{.Names}} {{.Status}}").splitlines()

    def pid_of(self, container: str) -> int | None:
        """The container's first process as this machine sees it; None when it does not run."""
        said = self.docker("inspect", "--format", "{{.State.Pid}}", container, check=False)
        return int(said) if said.isdigit() and said != "0" else None

    def remove(self) -> None:
        """End and remove everything of it."""
        if self.process is not None and self.process.poll() is None:
            left = self.docker("ps", "--all", "--quiet", check=False).split()
            if left:
                self.docker("rm", "--force", *left, check=False)
            self.stop()
        self._end_orphans()
        _ip("link", "del", self.bridge, check=False)
        for place in reversed(_mounts_below(self.folder)):
            subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_orphans(self) -> None:
        """Shims, and what runs in containers, that a killed engine forgot: they wait for it for ever."""
        for process in psutil.process_iter(["name", "cmdline"]):
            is_shim = process.info["name"].startswith("containerd-shim") and any(
                word.startswith(f"{self.folder}/") for word in process.info["cmdline"] or ()
            )
            if is_shim or self._is_in_a_container(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def _is_in_a_container(self, pid: int) -> bool:
        """Whether its root is a file system of this engine's."""
        with contextlib.suppress(OSError):
            mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
            return any(f"upperdir={self.folder}/" in line and line.split()[4] == "/" for line in mounts)
        return False

    def _containerd(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "exec/containerd/containerd.pid").read_text())
        return None

    def _spawn(self) -> None:
        places = {"--data-root": "data", "--exec-root": "exec", "--pidfile": "docker.pid"}
        flags = [word for flag, name in places.items() for word in (flag, str(self.folder / name))]
        flags += ["--host", self.host, "--bridge", self.bridge, "--fixed-cidr", str(self.network)]
        flags += ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--userland-proxy=false"]
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                ["dockerd", *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@contextlib.contextmanager
def own_docker(image: str) -> Iterator[OwnDocker]:
    """An engine with the image, running; removed afterwards."""
    engine = OwnDocker(Path(tempfile.mkdtemp(prefix="hodei-chaos-docker-")))  # sockets' paths must be short
    try:
        engine.make_bridge()
        engine.start()
        engine.load(image)
        yield engine
    finally:
        engine.remove()


def signal_if_same(pid: int, started: float, number: int) -> bool:
    """Send the signal, unless the process is another one by now. Whether it was sent."""
    if started_at(pid) != started:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def started_at(pid: int) -> float | None:
    """When the process was started, in clock ticks since boot: with the pid, its identity."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


def _free_network() -> ipaddress.IPv4Network:
    """A range of 250 addresses that no route of this machine overlaps."""
    routes = json.loads(subprocess.run(["ip", "-json", "route"], check=True, capture_output=True).stdout)
    taken = [ipaddress.ip_network(route["dst"]) for route in routes if route["dst"] != "default"]
    free = [
        network
        for network in ipaddress.IPv4Network(CANDIDATES).subnets(new_prefix=24)
        if not any(network.overlaps(other) for other in taken if other.version == 4)
    ]
    return random.SystemRandom().choice(free)


def _mounts_below(folder: Path) -> list[str]:
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}/")]
