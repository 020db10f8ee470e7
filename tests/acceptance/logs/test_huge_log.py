"""One job writes some 20 MB a second: the others do not feel it, and nobody's memory grows with it."""

from __future__ import annotations

from pathlib import Path

import psutil
from support.platform import RunningPlatform
from support.waiting import until

from hodei.client.client import HodeiClient

MIB = 1024**2
BLOCK = (b"x" * 99 + b"\n") * 20_000
AHEAD_BYTES = 256 * MIB
OTHERS = 8
OTHERS_WITHIN_S = 30.0
MOST_BYTES = 192 * MIB
"""Of worker-manager and of the agent, each: much less than what has been written."""

HUGE = 'until [ -e "{stop}" ]; do cat "{block}"; sleep 0.1; done'


def test_a_huge_log_slows_no_other_job_and_fills_no_memory(running: RunningPlatform, tmp_path: Path) -> None:
    # given a job that has written more than anybody may keep in memory, and writes on
    stop, block = tmp_path / "stop", tmp_path / "block"
    block.write_bytes(BLOCK)
    command = HUGE.format(stop=stop, block=block)
    with running.client() as client:
        huge = client.create_job({"name": "huge", "provider": "process", "command": command})
        try:
            until(lambda: written(client, huge.id) > AHEAD_BYTES, within_s=60, what="256 MiB of a log")
            (row,) = running.sql(
                "SELECT provider_resource_id FROM workers WHERE current_job_id = %s", huge.id
            )
            agent = psutil.Process(int(row[0]))
            server = psutil.Process(running.processes["serve"].pid)
            before = written(client, huge.id)

            # when others run beside it
            jobs = [
                {"name": f"other-{n}", "provider": "process", "command": f"echo {n}"} for n in range(OTHERS)
            ]
            ids = [job.id for job in client.create_jobs(jobs)]
            until(
                lambda: all(client.job(job_id).has_ended for job_id in ids),
                within_s=OTHERS_WITHIN_S,
                what="the others' end",
            )

            # then theirs are whole while it writes on, and what it wrote is in nobody's memory
            assert [client.log_text(job_id) for job_id in ids] == [f"{n}\n" for n in range(OTHERS)]
            until(lambda: written(client, huge.id) > before, what="more of the huge log")
            assert client.job(huge.id).status == "running"
            assert server.memory_info().rss < MOST_BYTES
            assert agent.memory_info().rss < MOST_BYTES
        finally:
            stop.touch()
        ended = client.wait(huge.id)
    assert (ended.status, ended.log.complete) == ("succeeded", True)


def written(client: HodeiClient, job_id: str) -> int:
    return client.job(job_id).log.bytes
