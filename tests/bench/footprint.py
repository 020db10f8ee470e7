"""Memory of all of `hodei dev` at rest without Flower, as PSS, process by process; and how quick `hodei --help` is."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from support.waiting import until

from bench.stage import arguments, leave_by_sigterm, scrub_environment, spread, table, verdict
from hodei.embedded.ports import free_port

PSS_MB = 500
HELP_S = 0.3


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rest-s", type=float, default=20.0, help="how long it rests before it is measured")
    given = parser.parse_args()
    scrub_environment()
    leave_by_sigterm()
    good = _help()
    good &= _memory(given.rest_s)
    return 0 if good else 1


def _help() -> bool:
    took = []
    for _ in range(21):
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "hodei.cli.main", "--help"], check=True, capture_output=True)
        took.append(time.monotonic() - began)
    table("hodei --help, 20 times", ["what", "median (least to most)"], [["hodei --help", spread(took[1:])]])
    return verdict("hodei --help", statistics.median(took[1:]), HELP_S, " s")


def _memory(rest_s: float) -> bool:
    ports = {name: free_port() for name in ("ORCHESTRATOR", "SCHEDULER", "WORKER_MANAGER", "FLOWER")}
    parent = "/var/lib/hodei" if os.geteuid() == 0 else None
    if parent:
        Path(parent).mkdir(mode=0o711, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
        Path(folder).chmod(0o711)
        env = os.environ | {f"HODEI_{name}_PORT": str(port) for name, port in ports.items()}
        env |= {"HODEI_DATA_DIR": f"{folder}/data", "HODEI_LOG_DIR": f"{folder}/logs"}
        env |= {"XDG_STATE_HOME": f"{folder}/state", "HODEI_KUBERNETES_ENABLED": "0"}
        with open(f"{folder}/dev.log", "wb") as output:
            dev = subprocess.Popen(
                [sys.executable, "-m", "hodei.cli.main", "dev"],
                env=env,
                stdout=output,
                stderr=output,
                cwd="/",
            )
        try:
            url = f"http://127.0.0.1:{ports['ORCHESTRATOR']}"
            until(lambda: _well(dev, url), within_s=60, what="hodei dev's health")
            time.sleep(rest_s)
            measured = [_measure(process) for process in _family(dev.pid)]
        finally:
            dev.send_signal(signal.SIGINT)
            dev.wait(20)
    kept = [(name, pss) for name, pss in measured if name != "flower"]
    rows: list[list[object]] = [[name, f"{pss:.1f} MB"] for name, pss in _summed(measured)]
    whole = sum(pss for _, pss in kept)
    rows.append(["all without flower", f"{whole:.1f} MB"])
    table("hodei dev at rest", ["process", "PSS"], rows)
    return verdict("PSS without flower", whole, PSS_MB, " MB")


def _well(dev: subprocess.Popen[bytes], url: str) -> bool:
    assert dev.poll() is None, "hodei dev ended"
    try:
        answer = httpx.get(f"{url}/health", timeout=5, trust_env=False).json()
    except httpx.HTTPError:
        return False
    return bool(answer["status"] == "ok")


def _family(pid: int) -> list[psutil.Process]:
    """`hodei dev`, all that came from it, and what those left behind as daemons of its data folder."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _measure(process: psutil.Process) -> tuple[str, float]:
    """What it is, and its share of memory in MB (10^6 bytes)."""
    words = process.cmdline()
    name = process.name()
    if "hodei.cli.main" in words:
        name = words[words.index("hodei.cli.main") + 1]
    elif name.startswith("postgres"):
        name = "postgres"
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    pss_kb = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return name, pss_kb * 1024 / 1e6


def _summed(measured: list[tuple[str, float]]) -> list[tuple[str, float]]:
    names = dict.fromkeys(name for name, _ in measured)
    found = {name: [pss for other, pss in measured if other == name] for name in names}
    return [
        (f"{name} ({len(sizes)} processes)" if len(sizes) > 1 else name, sum(sizes))
        for name, sizes in found.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
