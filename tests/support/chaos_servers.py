"""A Postgres and a Redis that can be killed with -9 and started again in the same place, as a supervisor would do it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import redis

from hodei.embedded import runtime, wheels
from hodei.embedded.account import server_account
from hodei.embedded.data_folder import ROOT_HOME
from hodei.embedded.ports import free_port
from support.waiting import until

READY_WITHIN_S = 60.0
MAX_CONNECTIONS = 300


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The servers' programs and the user that they run as; ``owner`` None: ourselves."""

    initdb: str
    postgres: str
    redis: str
    owner: tuple[int, int] | None

    def command(self, *words: str) -> list[str]:
        """The command as that user."""
        if self.owner is None:
            return list(words)
        uid, gid = self.owner
        return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *words]


def programs(kind: str) -> Programs:
    """``embedded``: those of the wheels; ``system``: Debian's."""
    if kind == "embedded":
        account = server_account(ROOT_HOME)
        found = runtime.programs_for(account, wheels.installed(), ROOT_HOME / "runtime")
        owner = (account.uid, account.gid) if account else None
        return Programs(initdb=found.initdb, postgres=found.postgres, redis=found.redis, owner=owner)
    home = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    server = shutil.which("redis-server")
    if home is None or server is None:
        raise RuntimeError("HODEI_TEST_SERVERS=system needs Debian's postgresql and redis-server.")
    owner = None
    if os.getuid() == 0:
        entry = pwd.getpwnam("postgres")
        owner = (entry.pw_uid, entry.pw_gid)
    return Programs(initdb=str(home / "initdb"), postgres=str(home / "postgres"), redis=server, owner=owner)


class MortalServer:
    """A process at a fixed port; ``kill`` is -9 and ``start`` again finds its data, or its lack of it."""

    name = ""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700)
        if programs.owner:
            os.chown(folder, *programs.owner)

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and again while it cannot start yet because of what is left of the last one; wait until it answers."""

        def up() -> bool:
            if self.process is None or self.process.poll() is not None:
                self._spawn()
            return self.answers()

        until(up, within_s=READY_WITHIN_S, what=f"{self.name} ({self.log.read_text()[-500:]})")

    @property
    def log(self) -> Path:
        path = self.folder.parent / f"{self.name}.log"
        path.touch()
        return path

    def _spawn(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.programs.command(*self.command()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder if self.programs.owner is None else "/",
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, and its end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in order."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


class MortalPostgres(MortalServer):
    """``-F`` saves the disk's time: what a killed postmaster had written is with the kernel, and is not lost with it."""

    name = "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://hodei@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        command = [
            self.programs.initdb,
            "-D",
            str(self.folder / "data"),
            "-A",
            "trust",
            "-U",
            "hodei",
            "--no-sync",
        ]
        subprocess.run(self.programs.command(*command), check=True, stdout=subprocess.DEVNULL, cwd="/")

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "max_connections": str(MAX_CONNECTIONS),
            "shared_buffers": "64MB",
            "unix_socket_directories": "",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self.programs.postgres, "-D", str(self.folder / "data"), "-p", str(self.port), "-F", *options]

    def answers(self) -> bool:
        try:
            psycopg2.connect(self.url, connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True


class MortalRedis(MortalServer):
    """Keeps nothing: started again, it is empty."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        return [self.programs.redis, *words, "--dir", str(self.folder)]

    def answers(self) -> bool:
        try:
            with self.opened() as client:
                return bool(client.ping())
        except redis.exceptions.RedisError:
            return False

    @contextlib.contextmanager
    def opened(self) -> Iterator[redis.Redis[str]]:
        with redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5) as client:
            yield client


@contextlib.contextmanager
def mortal_servers(kind: str) -> Iterator[tuple[MortalPostgres, MortalRedis]]:
    """Both, running, with an empty database; gone afterwards with all data."""
    found = programs(kind)
    with tempfile.TemporaryDirectory(prefix="hodei-chaos-servers-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        postgres = MortalPostgres(found, folder / "postgres")
        redis_server = MortalRedis(found, folder / "redis")
        postgres.create()
        for server in (postgres, redis_server):
            stack.callback(server.stop)
            server.start()
        yield postgres, redis_server
