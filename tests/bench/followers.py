"""200 followers of one job beside 1,000 idle agents on one server process, and what other requests feel of it.

The agents are the fake provider's: each has a running job, a long poll and heartbeats. The followers are in a process of
their own. At the end the server gets a SIGTERM: all streams end, and go on at a server that was started afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

from support.platform import CHECKOUT
from support.waiting import until

from bench.stage import Stage, arguments, open_stage, percentile, spread, table, verdict
from bench.thousand_running import count_running, other_requests, run_many, settle, shut_down_fleet

P99_S = 0.1
STREAMS_END_S = 2.0
WRITES = "i=0; while [ ! -e {stop} ]; do i=$((i+1)); echo $i; echo $((i+=1)); sleep 0.1; done"


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--for-s", type=float, default=30.0, help="how long other requests are measured")
    parser.add_argument("--fleet", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fleet:
        url, path, place = given.fleet
        asyncio.run(follow_all(url, path, json.loads(place)))
        return 0
    with open_stage(given.servers, controller_threads="4") as stage:
        stage.add_fake_provider(max_workers=2 * given.agents, config=json.dumps({"pull_s": None}))
        try:
            return 0 if measure(stage, given.followers, given.agents, given.for_s) else 1
        finally:
            shut_down_fleet(stage)


async def follow_all(url: str, path: str, places: list[str]) -> None:
    """Follow with one connection for each place; the last ids and the lines, as JSON, when all have ended."""
    print("ready", flush=True)
    found = await asyncio.gather(*(_follow(url, path, place) for place in places))
    ended = time.monotonic()
    print(json.dumps({"ended": ended, "followers": found}), flush=True)


async def _follow(url: str, path: str, place: str) -> dict[str, object]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nLast-Event-ID: {place}\r\n\r\n".encode())
    lines: list[str] = []
    ended = False
    try:
        while line := await reader.readline():
            if line.startswith(b"id: "):
                place = line[4:].strip().decode()
            elif line.startswith(b'data: {"seq"'):
                lines.append(json.loads(line[6:])["text"])
            elif line.startswith(b"event: end"):
                ended = True
            elif line == b"0\r\n":
                break
    except ConnectionError:
        pass
    writer.close()
    return {"place": place, "lines": lines, "ended": ended}


class Fleet:
    """The followers, in a process of their own."""

    def __init__(self, stage: Stage, path: str, places: list[str]) -> None:
        command = [sys.executable, "-m", "tests.bench.followers", "--fleet", stage.platform.url, path]
        self._process = subprocess.Popen(
            [*command, json.dumps(places)], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def result(self) -> dict[str, object]:
        """What they got, once all streams have ended."""
        out, _ = self._process.communicate(timeout=60)
        return dict(json.loads(out))


def measure(stage: Stage, followers: int, agents: int, for_s: float) -> bool:
    """Print it all; True when every limit is kept."""
    run_many(stage, agents)
    settle(stage)
    stop = stage.platform.folder / "enough"
    job_id = stage.submit(name="followed", provider="process", command=WRITES.format(stop=stop))
    path = f"/api/v1/jobs/{job_id}/logs?follow=1"
    fleet = Fleet(stage, path, ["0-0"] * followers)
    open_streams = "SELECT log_entries FROM hodei.executions WHERE job_id = %s"
    until(lambda: (stage.platform.sql(open_streams, job_id) or [(0,)])[0][0] > 20, within_s=60, what="lines")
    held: list[int] = []
    watcher = threading.Thread(target=_watch_connections, args=(stage, for_s, held))
    watcher.start()
    others = other_requests(stage, for_s)
    watcher.join()
    running = count_running(stage)
    began = time.monotonic()
    stage.platform.kill("serve", signal.SIGTERM)
    first = fleet.result()
    took_to_end = float(str(first["ended"])) - began
    stage.platform.start("serve")
    stage.platform.wait_until_ready()
    again = Fleet(stage, path, [entry["place"] for entry in _followers(first)])
    stop.touch()
    stage.wait(job_id)
    second = again.result()
    whole = [
        before["lines"] + after["lines"]
        for before, after in zip(_followers(first), _followers(second), strict=True)
    ]
    count = stage.platform.sql(open_streams, job_id)[0][0]
    wrong = sum(lines != [str(number) for number in range(1, count + 1)] for lines in whole)
    assert running == agents, f"{running} of {agents} still run"
    rows: list[list[object]] = [
        [name, spread(took), f"{percentile(took, 0.99) * 1000:.0f} ms", "100 ms"]
        for name, took in others.items()
    ]
    rows.append(["connections in use (most of all looks)", max(held), "", ""])
    rows.append(["streams ended after SIGTERM", f"{took_to_end:.2f} s", "", "2 s"])
    rows.append([f"followers of {followers} with a line lost, repeated or out of order", wrong, "", "0"])
    title = f"{followers} followers of one job ({count} lines), {agents} idle agents, one server process"
    table(title, ["what", "median (least to most)", "p99", "limit"], rows)
    good = verdict("streams ended after SIGTERM", took_to_end, STREAMS_END_S, " s")
    good &= verdict("followers with another log", wrong, 0)
    for name, took in others.items():
        good &= verdict(f"{name} p99", percentile(took, 0.99), P99_S, " s")
    return good


def _followers(result: dict[str, object]) -> list[dict[str, list[str] | str]]:
    return list(result["followers"])  # type: ignore[call-overload]


def _watch_connections(stage: Stage, for_s: float, held: list[int]) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hodei all' AND state <> 'idle'"
    ends = time.monotonic() + for_s
    while time.monotonic() < ends:
        held.append(stage.platform.sql(query)[0][0])
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
