"""Several jobs write as fast as they can into one worker-manager process until 2 GiB are stored: how fast, and with what memory.

Each job prints a prepared file again and again. Throughput is of output, as the jobs wrote it, from the first byte that
is stored to the last; memory is the resident set of worker-manager and of the agents, looked at twice a second meanwhile.
"""

from __future__ import annotations

import random
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from support.waiting import until

from bench.stage import Stage, arguments, open_stage, table, verdict

MIB = 1024**2
MB = 1_000_000
LEAST_MB_PER_S = 40
GROWTH_MIB = 32
"""By how much the median of the last quarter may be above that of the first, each process: what is flat."""

BLOCK_BYTES = 32 * MIB
LOOK_S = 0.5
NAMES = ("orchestrator", "worker-manager", "controller", "beat")
WORDS = (
    "GET",
    "POST",
    "done",
    "waiting",
    "retry",
    "fetched",
    "stored",
    "checksum",
    "worker",
    "queue",
    "timeout",
    "failed",
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    at: float
    stored: int
    server: int
    agents: tuple[int, ...]


@dataclass(kw_only=True)
class Watch:
    """Looks at how much is stored and at everybody's memory until it is told to stop."""

    stage: Stage
    job_ids: Sequence[str]
    samples: list[Sample] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        server = psutil.Process(self.stage.platform.processes["worker-manager"].pid)
        pids = "SELECT provider_resource_id FROM workers WHERE state = 'BUSY'"
        agents = [psutil.Process(int(row[0])) for row in self.stage.platform.sql(pids)]
        while not self.over.wait(LOOK_S):
            alive = [rss for rss in map(_rss, agents) if rss]
            self.samples.append(
                Sample(
                    at=time.monotonic(),
                    stored=_stored(self.stage, self.job_ids),
                    server=_rss(server),
                    agents=tuple(alive),
                )
            )


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--mib", type=int, default=2048, help="output of all jobs together")
    given = parser.parse_args()
    with open_stage(given.servers, names=NAMES) as stage:
        block = stage.platform.folder / "block"
        block.write_bytes(lines(BLOCK_BYTES))
        times = given.mib * MIB // BLOCK_BYTES // given.jobs
        watch = _run(stage, block, given.jobs, times)
        return 0 if _report(stage, watch, given.jobs, given.jobs * times * BLOCK_BYTES) else 1


def lines(size: int) -> bytes:
    """Lines like those of programs: a time, words, numbers; they pack to about a fifth."""
    rng = random.Random(3)
    made, length = [], 0
    while length < size:
        words = " ".join(rng.choices(WORDS, k=6))
        line = f"2026-01-01T00:00:{rng.random() * 60:09.6f}Z INFO [{rng.getrandbits(48):012x}] {words} {rng.randrange(10**6)}\n"
        made.append(line)
        length += len(line)
    return "".join(made).encode()[: size - 1] + b"\n"


def _run(stage: Stage, block: Path, jobs: int, times: int) -> Watch:
    go = stage.platform.folder / "go"
    command = f'while [ ! -e "{go}" ]; do sleep 0.05; done; for i in $(seq {times}); do cat "{block}"; done'
    ids = stage.submit_batch([{"name": "ingest", "provider": "process", "command": command}] * jobs)
    running = "SELECT count(*) FROM jobs WHERE state = 'RUNNING'"
    until(lambda: stage.platform.sql(running)[0][0] == jobs, within_s=60, what="all jobs")
    watch = Watch(stage=stage, job_ids=ids)
    thread = threading.Thread(target=watch.run)
    thread.start()
    go.touch()
    try:
        ended = [stage.wait(job_id, within_s=600) for job_id in ids]
    finally:
        watch.over.set()
        thread.join()
    assert all(job["status"] == "succeeded" for job in ended), [job["error"] for job in ended]
    whole = {"entries": 0, "bytes": times * BLOCK_BYTES, "complete": True}
    assert [job["log"] | {"entries": 0} for job in ended] == [whole] * jobs, [job["log"] for job in ended]  # type: ignore[operator]
    return watch


def _report(stage: Stage, watch: Watch, jobs: int, size: int) -> bool:
    first = next(index for index, sample in enumerate(watch.samples) if sample.stored)
    last = next(index for index, sample in enumerate(watch.samples) if sample.stored == size)
    seen = watch.samples[max(0, first - 1) : last + 1]
    rate = (seen[-1].stored - seen[0].stored) / MB / (seen[-1].at - seen[0].at)
    stored = "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'hodei.log_chunks'::regclass"
    on_disk = int(stage.platform.sql(stored)[0][0])
    row = [jobs, f"{size / MIB:.0f} MiB", f"{seen[-1].at - seen[0].at:.1f} s", f"{rate:.1f} MB/s"]
    table(
        "Output into one worker-manager",
        ["jobs", "output", "took", "sustained", "in Postgres"],
        [[*row, f"{on_disk / MIB:.0f} MiB"]],
    )
    with_all = [sample for sample in seen if len(sample.agents) == jobs]
    curves = {"worker-manager": [sample.server for sample in seen]}
    curves |= {
        f"agent {number + 1}": [sample.agents[number] for sample in with_all] for number in range(jobs)
    }
    table(
        "Resident memory, MiB",
        ["process", "least", "most", "first quarter", "last quarter"],
        [_memory(*curve) for curve in curves.items()],
    )
    good = verdict("seconds for each 40 MB of output", LEAST_MB_PER_S / rate, 1.0, " s")
    for name, curve in curves.items():
        good &= verdict(
            f"{name}, growth from the first to the last quarter", _growth(curve) / MIB, GROWTH_MIB, " MiB"
        )
    return good


def _memory(name: str, curve: Sequence[int]) -> list[str]:
    shown = (min(curve), max(curve), *_quarters(curve))
    return [name, *(f"{value / MIB:.1f}" for value in shown)]


def _quarters(curve: Sequence[int]) -> tuple[float, float]:
    """The medians of the first and of the last quarter."""
    quarter = max(1, len(curve) // 4)
    return statistics.median(curve[:quarter]), statistics.median(curve[-quarter:])


def _growth(curve: Sequence[int]) -> float:
    first, last = _quarters(curve)
    return last - first


def _stored(stage: Stage, job_ids: Sequence[str]) -> int:
    total = "SELECT coalesce(sum(log_bytes), 0)::bigint FROM hodei.executions WHERE job_id = ANY(%s::uuid[])"
    return int(stage.platform.sql(total, list(job_ids))[0][0])


def _rss(process: psutil.Process) -> int:
    """0: it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


if __name__ == "__main__":
    sys.exit(main())
