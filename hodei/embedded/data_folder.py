"""The folder that holds everything of the embedded servers, and who may enter what in it.

/var/lib/hodei   root only, the servers' user may pass       .hodei   the same, all for the one user
  lock  credentials.json  secret.key  connection.json          never readable by the servers
  log/                                                         written through descriptors opened by us
  postgres/  redis/  run/                                      the servers' own, 0700
  runtime/<content>/                                           a copy of the programs, when one is needed
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from hodei.embedded import state_file
from hodei.embedded.account import Account
from hodei.embedded.errors import AlreadyRunning, DataFolderRefused

ROOT_HOME = Path("/var/lib/hodei")
USER_FOLDER = ".hodei"
SOCKET_PATH_LIMIT = 100  # sun_path is 108 bytes on Linux and 104 on macOS; a little less than both
SECRET_FILES = ("credentials.json", "connection.json", "secret.key")
OBEDIENT_TO_ROOT = (
    "docker.sock",
    "containerd/containerd.sock",
    "docker/containerd/containerd.sock",
    "crio/crio.sock",
    "podman/podman.sock",
    "dbus/system_bus_socket",
    "systemd/private",
)
OBEDIENT_TO_USERS = ("docker.sock", "podman/podman.sock", "bus", "systemd/private")
LOG_LIMIT_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Made once; kept beside the data in a file of mode 0600."""

    superuser_password: str
    database_password: str
    redis_password: str


def default_data_dir() -> Path:
    """`/var/lib/hodei` for root, else `.hodei` in the current folder."""
    return ROOT_HOME if os.geteuid() == 0 else Path.cwd() / USER_FOLDER


class DataFolder:
    """An existing, prepared data folder; `lock` makes it ours until `release`."""

    def __init__(self, root: Path, account: Account | None) -> None:
        self.root = root
        self.account = account
        self.lock_file = root / "lock"
        self.connection_file = root / "connection.json"
        self.log = root / "log"
        self.postgres = root / "postgres"
        self.redis = root / "redis"
        self.run = root / "run"
        self._lock_fd: int | None = None

    @classmethod
    def prepare(cls, root: Path, account: Account | None) -> DataFolder:
        """Makes the folder with its permissions. Refuses one that holds something else, or lies where the
        servers' user cannot come: the permissions of other folders are not ours to change."""
        root = root.absolute()
        try:
            _refuse_foreign(root)
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DataFolderRefused(
                f"{root} cannot be used ({error.strerror}): choose another data folder."
            ) from None
        root = root.resolve()
        closed = account.closed_parent(root) if account else None
        if account and closed:
            raise DataFolderRefused(
                f"The embedded servers run as {account.name}, who cannot pass {closed}: "
                f"choose a data folder elsewhere, {ROOT_HOME} for example."
            )
        return cls(root, account)

    def lock(self) -> None:
        """Takes the folder for this process, then puts its permissions right."""
        try:
            fd = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DataFolderRefused(
                f"{self.root} is not ours ({error.strerror}): choose another folder."
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(fd, 20).decode().strip()
            os.close(fd)
            raise AlreadyRunning(self.root, owner) from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._lock_fd = fd
        self._set_permissions()

    def release(self) -> None:
        """Gives the folder back; the lock also ends with the process."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def credentials(self) -> Credentials:
        """The passwords, made at the first call."""
        path = self.root / "credentials.json"
        if path.exists():
            return Credentials(**json.loads(path.read_text()))
        if (self.postgres / "PG_VERSION").exists():
            raise DataFolderRefused(
                f"{path} is missing, and without it the database beside it cannot be opened: "
                f"put it back, or move {self.root} away to start afresh."
            )
        made = Credentials(
            superuser_password=secrets.token_urlsafe(24),
            database_password=secrets.token_urlsafe(24),
            redis_password=secrets.token_urlsafe(24),
        )
        write_private(path, json.dumps(asdict(made)))
        return made

    def secret_key(self) -> str:
        """32 random bytes in URL-safe base64 (what Fernet takes), made once; never lose it."""
        path = self.root / "secret.key"
        if not path.exists():
            write_private(path, base64.urlsafe_b64encode(os.urandom(32)).decode())
        return path.read_text().strip()

    def socket_folder(self) -> Path:
        """`run/`, or a private folder with a short name where the path of `run/` is too long for a socket."""
        if len(os.fsencode(self.run / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT:
            return self.run
        uid = self.account.uid if self.account else os.geteuid()
        runtime = os.environ.get("XDG_RUNTIME_DIR", "") if self.account is None else ""
        parent = Path(runtime if 0 < len(runtime) < SOCKET_PATH_LIMIT - 40 else "/tmp")
        short = parent / f"hodei-{uid}-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]}"
        with contextlib.suppress(FileExistsError):
            short.mkdir(mode=0o700)
            self._give(short)
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise DataFolderRefused(
                f"{short} belongs to somebody else: remove it, or choose a shorter data folder."
            )
        return short

    def open_log(self, name: str) -> int:
        """A descriptor that appends to `log/<name>.log`; a big one is set aside first. Close it."""
        path = self.log_path(name)
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.rename(path.with_suffix(".log.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def log_path(self, name: str) -> Path:
        return self.log / f"{name}.log"

    def remove(self) -> None:
        """Removes the folder with all data, and its short socket folder."""
        with contextlib.suppress(OSError, DataFolderRefused):
            shutil.rmtree(self.socket_folder())
        shutil.rmtree(self.root, ignore_errors=True)

    def _set_permissions(self) -> None:
        self.root.chmod(0o710 if self.account else 0o700)
        if self.account:
            os.chown(self.root, 0, self.account.gid)
        else:
            (self.root / ".gitignore").write_text("*\n")
        self.log.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.postgres, self.redis, self.run):
            folder.mkdir(mode=0o700, exist_ok=True)
            self._give(folder)

    def _give(self, folder: Path) -> None:
        """Makes the servers' user the owner; all the way down when a restored or moved folder has another."""
        if self.account is None or folder.lstat().st_uid == self.account.uid:
            return
        for _, folders, files, fd in os.fwalk(folder, follow_symlinks=False):
            for name in (".", *folders, *files):
                os.chown(name, self.account.uid, self.account.gid, dir_fd=fd, follow_symlinks=False)


def hidden_from_jobs(root: Path, log_dir: Path | None = None) -> list[Path]:
    """The folders that no job on this machine may see: what is in them opens the embedded servers, the secrets in
    the database, or the API; and then the exported logs of all jobs.

    The data folder as a whole, because its files are replaced now and then; not when nothing secret is in it. The
    per-user folder in which `hodei dev` notes its token. And, when there is any of these, the sockets of programs
    that would start a process for the job, outside of all this.
    """
    found = [root.resolve()] if any((root / name).exists() for name in SECRET_FILES) else []
    with contextlib.suppress(RuntimeError):  # a user without a home
        if state_file.path().exists():
            found.append(state_file.path().parent)
    if not found:
        return []
    logs = [log_dir.resolve()] if log_dir is not None and log_dir.is_dir() else []
    return [*found, *logs, *_obedient_sockets()]


def _obedient_sockets() -> list[Path]:
    """Those that are there now: container engines, and the machine's and the user's systemd."""
    mine = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    engine = os.environ.get("DOCKER_HOST", "")
    known = [
        *(Path("/run", name) for name in OBEDIENT_TO_ROOT),
        *(mine / name for name in OBEDIENT_TO_USERS),
        *([Path(engine.removeprefix("unix://"))] if engine.startswith("unix:///") else []),
    ]
    found = []
    for path in known:
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(path.stat().st_mode):
                found.append(path.resolve())
    return sorted(set(found))


def temporary_root(account: Account | None) -> Path:
    """A new private folder for data that nobody keeps, where the servers' user can come."""
    usual = Path(tempfile.gettempdir())
    reachable = account is None or (account.may_traverse(usual) and account.closed_parent(usual) is None)
    return Path(tempfile.mkdtemp(prefix="hodei-", dir=usual if reachable else "/tmp"))


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Replaces a file in one step; only its owner can read it, at no moment anybody else."""
    fd, unfinished = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(fd, "w") as file:
        if account:
            os.fchown(fd, account.uid, account.gid)
        file.write(text)
        file.flush()
        os.fsync(fd)
    Path(unfinished).replace(path)


def _refuse_foreign(root: Path) -> None:
    """A folder with other things in it would change its owner and mode: somebody's home, for example."""
    ours = root == ROOT_HOME or root.name == USER_FOLDER or (root / "lock").exists()
    if root.exists() and not root.is_dir():
        raise DataFolderRefused(f"{root} is not a folder: choose another data folder.")
    if root.is_dir() and not ours and any(root.iterdir()):
        raise DataFolderRefused(f"{root} holds other things: choose an empty or a new data folder.")
