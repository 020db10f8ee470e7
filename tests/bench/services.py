"""Each HTTP service in a process of its own: from its start to its first answer of /health, and its memory (PSS) at rest.

The database is migrated, as it is at every start but the first. Starts are in turns with that of a bare interpreter which
imports Flask, SQLAlchemy and pydantic: what no service of this kind can do without.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.stage import Stage, arguments, open_stage, spread, table, verdict

START_S = 2.0
PSS_MB = 80
SERVICES = ("orchestrator", "scheduler", "worker-manager")
BARE = "import flask, sqlalchemy, pydantic, psycopg2"


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--starts", type=int, default=5, help="of each service")
    parser.add_argument(
        "--rest-s", type=float, default=20.0, help="how long they rest before they are measured"
    )
    given = parser.parse_args()
    with open_stage(given.servers, names=SERVICES, docker_enabled="auto") as stage:
        return 0 if measure(stage, given.starts, given.rest_s) else 1


def measure(stage: Stage, starts: int, rest_s: float) -> bool:
    """Print it all; True when every limit is kept."""
    took: dict[str, list[float]] = {name: [] for name in SERVICES}
    bare: list[float] = []
    for _ in range(starts):
        for name in SERVICES:
            stage.platform.kill(name)
            took[name].append(_start(stage, name))
        bare.append(_bare())
    for name in SERVICES:
        _ask(stage.platform.service_url(name), "/health")
    time.sleep(rest_s)
    memory = {name: pss_mb(stage.platform.processes[name].pid) for name in SERVICES}
    middle = statistics.median(bare)
    rows: list[list[object]] = [
        [
            name,
            spread(took[name]),
            f"{statistics.median(took[name]) / middle:.2f}",
            f"{memory[name]:.1f} MB",
        ]
        for name in SERVICES
    ]
    rows.append(["bare imports", spread(bare), "1", ""])
    head = ["service", "start, median (least to most)", "÷ bare imports", "PSS at rest"]
    table("Each service by itself", head, rows)
    good = True
    for name in SERVICES:
        good &= verdict(f"{name}, start", statistics.median(took[name]), START_S, " s")
        good &= verdict(f"{name}, PSS", memory[name], PSS_MB, " MB")
    return good


def _start(stage: Stage, name: str) -> float:
    began = time.monotonic()
    stage.platform.start(name)
    while not _ask(stage.platform.service_url(name), "/health"):
        assert stage.platform.processes[name].poll() is None, f"{name} ended"
        assert time.monotonic() - began < 60, f"{name} does not answer"
        time.sleep(0.01)
    return time.monotonic() - began


def _ask(url: str, path: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _bare() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", BARE], check=True)
    return time.monotonic() - began


def pss_mb(pid: int) -> float:
    """Its share of memory and its children's, in MB (10^6 bytes)."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(_pss_mb(process.pid) for process in processes)


def _pss_mb(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
