"""One job that prints 200,000 lines of 100 bytes (20 MB): how soon all of it can be read, and how much printing slows it.

On Docker and on process, with ``cat`` of a prepared file and with a loop of the shell. In turns with the same command
writing to a file in the same kind of worker, and to a pipe whose reader throws everything away: what any pipe costs. The
job says by its own clock when it began and ended. All is readable when the whole log has been downloaded and is what was
written, byte for byte.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass

from support.platform import E2E_IMAGE
from support.short_jobs import wrong_short_logs
from support.waiting import until

from bench.stage import Stage, arguments, open_stage, table, verdict
from hodei.domain.ids import DOCKER_PROVIDER_ID

LINES = 200_000
READABLE_S = 1.5
SLOWER = 1.10
SEEN_IN_CONTAINERS = "/bench"
PREPARED = "prepared"
COMMANDS = {
    "cat": 'cat "$BLOCK"',
    "shell loop": f'for ((i = 1; i <= {LINES}; i++)); do echo "$LINE"; done',
}
TO_A_FILE = "> written"
THROWN_AWAY = "| cat > /dev/null"
TIMED = 'began=$EPOCHREALTIME; {{ {command}; }} {into}; echo "$began $EPOCHREALTIME"'
LINE = "the line of the loop, without a number ".ljust(99, ".")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Seconds: what the command took by the job's clock, from its end until all was read, and from submit until then."""

    took: float
    readable: float = 0.0
    whole: float = 0.0


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", default=E2E_IMAGE)
    parser.add_argument("--providers", nargs="+", default=["docker", "process"])
    parser.add_argument(
        "--short-jobs",
        type=int,
        default=0,
        help="of each provider: jobs that print and exit at once, instead",
    )
    given = parser.parse_args()
    enabled = "1" if "docker" in given.providers else "0"
    with open_stage(given.servers, docker_enabled=enabled, worker_image=given.image) as stage:
        if given.short_jobs:
            return _short_jobs(stage, given.providers, given.short_jobs)
        content = prepare(stage)
        good = True
        for provider in given.providers:
            good &= _measure(stage, provider, content, given.rounds)
    return 0 if good else 1


def prepare(stage: Stage) -> bytes:
    """The file, where the workers of both providers see it."""
    content = b"".join(b"%08d %s\n" % (number, b"." * 90) for number in range(LINES))
    stage.platform.folder.chmod(0o755)
    block = stage.platform.folder / PREPARED
    block.mkdir(mode=0o755)
    (block / "block").write_bytes(content)
    mounts = [{"source": str(block), "target": SEEN_IN_CONTAINERS, "read_only": True}]
    config = json.dumps({"mounts": mounts})
    stage.platform.sql(
        "UPDATE provider_configs SET config = %s, updated_at = now() WHERE id = %s",
        config,
        DOCKER_PROVIDER_ID,
    )
    seen = {"name": "sees", "provider": "docker", "command": f"test -e {SEEN_IN_CONTAINERS}/block"}
    if stage.platform.env["HODEI_DOCKER_ENABLED"] == "1":  # a change is noticed within seconds
        until(lambda: stage.wait(stage.submit(**seen))["exit_code"] == 0, within_s=30, what="the mount")
    return content


def _measure(stage: Stage, provider: str, content: bytes, rounds: int) -> bool:
    rows, good = [], True
    for name, command in COMMANDS.items():
        expected = content if name == "cat" else f"{LINE}\n".encode() * LINES
        _printing(stage, provider, command, expected)  # warm
        printing, writing, piping = [], [], []
        for _ in range(rounds):
            writing.append(_redirected(stage, provider, command, into=TO_A_FILE))
            piping.append(_redirected(stage, provider, command, into=THROWN_AWAY))
            printing.append(_printing(stage, provider, command, expected))
        took = [run.took for run in printing]
        ratio = statistics.median(took) / statistics.median(writing)
        readable = [run.readable for run in printing]
        rows.append(
            [
                name,
                _seconds(writing),
                _seconds(piping),
                _seconds(took),
                f"{statistics.median(piping) / statistics.median(writing):.2f}",
                f"{ratio:.2f}",
                _seconds(readable),
                _seconds([run.whole for run in printing]),
            ]
        )
        good &= verdict(
            f"{provider}, {name}, end to all readable", statistics.median(readable), READABLE_S, " s"
        )
        good &= verdict(f"{provider}, {name}, printing to writing a file", ratio, SLOWER)
    head = ["20 MB by", "to a file", "| cat > /dev/null", "printed", "pipe ÷ file", "printed ÷ file"]
    head += ["end → all read", "submit → all read"]
    table(f"{provider}: median of {rounds} (least to most)", head, rows)
    return good


def _seconds(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"


def _submit(stage: Stage, provider: str, command: str, into: str) -> str:
    folder = SEEN_IN_CONTAINERS if provider == "docker" else stage.platform.folder / PREPARED
    env = {"BLOCK": f"{folder}/block", "LINE": LINE}
    return stage.submit(
        name="volume", provider=provider, command=TIMED.format(command=command, into=into), env=env
    )


def _printing(stage: Stage, provider: str, command: str, expected: bytes) -> Run:
    """The times are the log's last line: it is read when all is."""
    submitted = time.time()
    job_id = _submit(stage, provider, command, into="")
    path = f"/api/v1/jobs/{job_id}/logs"
    size = len(expected)
    until(lambda: _is_stored(stage, job_id, size), within_s=120, what="the job's last line")
    log = stage.http.get(path, params={"raw": 1}, timeout=60).content
    read = time.time()
    assert log[:size] == expected, "what was read is not what was written"
    began, ended = map(float, log[size:].split())
    stage.wait(job_id)
    return Run(took=ended - began, readable=read - ended, whole=read - submitted)


def _is_stored(stage: Stage, job_id: str, size: int) -> bool:
    job = stage.http.get(f"/api/v1/jobs/{job_id}").json()
    return bool(job["log"]["bytes"] > size or job["completed_at"])


def _redirected(stage: Stage, provider: str, command: str, *, into: str) -> float:
    job_id = _submit(stage, provider, command, into=into)
    stage.wait(job_id)
    began, ended = map(
        float, stage.http.get(f"/api/v1/jobs/{job_id}/logs", params={"raw": 1}).content.split()
    )
    return ended - began


def _short_jobs(stage: Stage, providers: list[str], count: int) -> int:
    wrong, rows = [], []
    with stage.platform.client() as client:
        for provider in providers:
            began = time.monotonic()
            found = wrong_short_logs(client, provider, count, at_once=12)
            rows.append([provider, count, len(found), f"{time.monotonic() - began:.1f} s"])
            wrong += found
    table("jobs that print and exit at once, 12 at a time", ["provider", "jobs", "wrong logs", "took"], rows)
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
