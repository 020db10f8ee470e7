"""`run_embedded`, as the Procfile's first process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hodei.embedded.connection import discover, wait_for_embedded
from hodei.embedded.errors import NotRunning

PROGRAM = """
import functools, sys
from pathlib import Path
from hodei.embedded.foreground import run_embedded

database, redis = (word or None for word in sys.argv[2:])
say = functools.partial(print, flush=True)
sys.exit(run_embedded(Path(sys.argv[1]), database_url=database, redis_url=redis, say=say))
"""


@contextmanager
def embedded(data: Path, database: str = "", redis: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, str(data), database, redis]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_other_processes_wait_for_it_and_it_leaves_nothing(
    place: Path, gone: Callable[..., None]
) -> None:
    with embedded(place / ".hodei") as process:
        urls = wait_for_embedded(place / ".hodei", timeout_s=30)
        assert urls.database_url and urls.redis_url and urls.secret_key
        assert (place / ".hodei" / "connection.json").stat().st_mode & 0o777 == 0o600

        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=5)

    assert process.returncode == 0
    assert said == f"Postgres and Redis ready; data in {place / '.hodei'}\nPostgres and Redis stopped\n"
    assert discover(place / ".hodei") is None


def test_with_both_configured_it_says_so_and_waits(place: Path) -> None:
    with embedded(place / ".hodei", "postgresql://db/x", "redis://broker/0") as process:
        assert process.stdout
        assert process.stdout.readline() == "Postgres and Redis are configured: nothing to run here.\n"

        process.send_signal(signal.SIGTERM)

        assert process.wait(5) == 0
    assert not (place / ".hodei").exists()


def test_with_one_configured_it_runs_the_other(place: Path) -> None:
    with embedded(place / ".hodei", "postgresql://db/x") as process:
        urls = wait_for_embedded(place / ".hodei", timeout_s=30)
        assert urls.database_url is None
        assert urls.redis_url
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


def test_waiting_in_vain_ends_with_a_sentence(place: Path) -> None:
    with pytest.raises(
        NotRunning, match=r"within 0.1 s: start `hodei embedded` there, or set HODEI_DATABASE_URL"
    ):
        wait_for_embedded(place / ".hodei", timeout_s=0.1)
