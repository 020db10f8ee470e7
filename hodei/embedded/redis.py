"""The embedded Redis: on a free loopback port with a password, every write in an append-only file.

TCP, because Celery, Flower and redis-py write a socket's URL in three ways, and one setting feeds them all.
We ourselves look at it through a private socket, so the password is never sent to a stranger on that port.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time

from hodei.embedded.children import POLL_S, end, end_stranger, launch
from hodei.embedded.data_folder import Credentials, DataFolder, write_private
from hodei.embedded.errors import ServerFailed
from hodei.embedded.ports import free_port, is_free
from hodei.embedded.process_identity import works_in
from hodei.embedded.wheels import Programs

PROGRAM = "redis-server"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
TRIES = 5  # a port may be taken between choosing and binding; a broken append-only file costs one more

CONFIGURATION = """\
bind 127.0.0.1
port {port}
unixsocket {socket}
unixsocketperm 700
requirepass {password}
dir {folder}
pidfile {folder}/redis.pid
daemonize no
set-proc-title no
appendonly yes
appendfsync {fsync}
aof-load-truncated yes
save ""
maxmemory-policy noeviction
stop-writes-on-bgsave-error no
tcp-keepalive 60
ignore-warnings ARM64-COW-BUG
"""


class RedisServer:
    """`begin`, then `wait_ready`; between the two something else may start."""

    def __init__(
        self, *, folder: DataFolder, programs: Programs, credentials: Credentials, ephemeral: bool
    ) -> None:
        self.folder = folder
        self.programs = programs
        self.credentials = credentials
        self.ephemeral = ephemeral
        self.port = 0
        self.socket = folder.socket_folder() / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.credentials.redis_password}@127.0.0.1:{self.port}/0"

    def begin(self) -> None:
        """Ends what a killed owner left behind, then starts the server, on its last port when free."""
        self._end_orphan()
        self.port = self._last_port() or free_port()
        self._start()

    def wait_ready(self, deadline: float) -> None:
        """Returns when the server answers. ServerFailed when that does not come."""
        for _ in range(TRIES):
            while self.alive():
                if self._answers():
                    return
                if time.monotonic() >= deadline:  # asked once at least: others may have used up the time
                    raise self._failed("it took too long")
                time.sleep(POLL_S)
            self._set_broken_file_aside()
            self.port = free_port()
            self._start()
        raise self._failed("it ended at once")

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process:
            end(self.process, [(signal.SIGTERM, 1.5)])

    def _start(self) -> None:
        self.socket.unlink(missing_ok=True)
        configuration = self.folder.redis / "redis.conf"
        text = CONFIGURATION.format(
            port=self.port,
            socket=self.socket,
            password=self.credentials.redis_password,
            folder=self.folder.redis,
            fsync="no" if self.ephemeral else "everysec",
        )
        write_private(configuration, text, self.folder.account)
        log = self.folder.open_log("redis")
        try:
            self.process = launch(
                [self.programs.redis, str(configuration)],
                env=ENVIRONMENT,
                death_signal=signal.SIGTERM,
                account=self.folder.account,
                cwd=self.folder.redis,
                output=log,
            )
        finally:
            os.close(log)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(self.socket))
            connection.sendall(f"AUTH {self.credentials.redis_password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                received = connection.recv(256)
                if not received:
                    return False
                answer += received
            return answer.endswith(b"+PONG\r\n")  # not -LOADING
        return False

    def _end_orphan(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder.redis / "redis.pid").read_text())
            if works_in(pid, PROGRAM, self.folder.redis):
                end_stranger(pid, [(signal.SIGTERM, 3.0)])

    def _last_port(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            configured = (self.folder.redis / "redis.conf").read_text().split("\nport ", 1)[1]
            port = int(configured.split("\n", 1)[0])
            return port if is_free(port) else None
        return None

    def _set_broken_file_aside(self) -> None:
        """Redis is only the courier: one that cannot read its file starts empty; the reconciler repeats."""
        said = self.folder.log_path("redis").read_bytes()[-2000:]
        journal = self.folder.redis / "appendonly.aof"
        if b"Bad file format reading the append only file" in said and journal.exists():
            journal.replace(journal.with_suffix(".broken"))

    def _failed(self, reason: str) -> ServerFailed:
        return ServerFailed("Redis", reason, self.folder.log_path("redis"))
