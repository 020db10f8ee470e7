"""The watch over a job: something must happen at least every ten seconds until it has ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from e2e.ledger import Off
from e2e.system import System
from hodei.client.client import HodeiClient
from hodei.client.errors import ServerRefused
from hodei.client.shapes import Worker

SILENCE_S = 10.0
LOOK_EVERY_S = 0.25


@dataclass
class _Watched:
    """A job, its ``hodei job wait``, and when it last gave a sign of life."""

    job_id: str
    waiter: subprocess.Popen[str]
    last_at: float = field(default_factory=time.monotonic)
    signs: dict[str, Any] = field(default_factory=dict)
    seen: int = 0
    longest_s: float = 0.0

    def close(self) -> str:
        """Ends its waiter if that still waits; what it said."""
        if self.waiter.poll() is None:
            self.waiter.kill()
        self.waiter.wait()
        stdout = self.waiter.stdout
        if stdout is None or stdout.closed:
            return ""
        with stdout:
            return stdout.read().strip()

    def look(self, client: HodeiClient) -> None:
        """Notices a new state, event, line of the log, or heartbeat of its worker."""
        job = client.job(self.job_id)
        worker = _worker(client, job.worker_id)
        signs = {
            "state": job.status.upper(),
            "attempt": job.attempts,
            "log entries": job.log.entries,
            "events": len(client.events(self.job_id)),
            "worker": worker.state if worker else None,
            "heartbeat": worker.last_heartbeat if worker else None,
        }
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - self.last_at)
        if signs != self.signs:
            self.signs, self.last_at, self.seen = signs, now, self.seen + 1


def _worker(client: HodeiClient, worker_id: str | None) -> Worker | None:
    """None also for one whose id is chosen and whose row is not there yet."""
    try:
        return client.worker(worker_id) if worker_id else None
    except ServerRefused as refused:
        if refused.http_status != 404:
            raise
        return None


def accompany(system: System, job_ids: Sequence[str], *, silence_s: float = SILENCE_S) -> dict[str, str]:
    """``hodei job wait`` for each, all at once; job id → the evidence. Off when one is silent, or does not end with 0."""
    watched = [_Watched(job_id, system.waiter(job_id)) for job_id in job_ids]
    try:
        with system.client() as client:
            _until_all_have_ended(client, watched, silence_s)
        return {one.job_id: _judged(one) for one in watched}
    finally:
        for one in watched:
            one.close()


def _until_all_have_ended(client: HodeiClient, watched: list[_Watched], silence_s: float) -> None:
    while live := [one for one in watched if one.waiter.poll() is None]:
        for one in live:
            one.look(client)
            if time.monotonic() - one.last_at > silence_s:
                raise Off(_silent(client, one, silence_s))
        time.sleep(LOOK_EVERY_S)


def _silent(client: HodeiClient, one: _Watched, silence_s: float) -> str:
    why = client.why(one.job_id)
    last = ", ".join(f"{name} {value}" for name, value in one.signs.items() if value is not None)
    return (
        f"Job {one.job_id}: no line, event, heartbeat or change of state for {silence_s:g} s.\n"
        f"It waited for: {why.summary} {' '.join(why.details)}\nThe last that was seen: {last}"
    )


def _judged(one: _Watched) -> str:
    said = one.close()
    if one.waiter.returncode != 0:
        raise Off(f"hodei job wait {one.job_id} ended with {one.waiter.returncode}: {said}")
    return f"{said}; {one.seen} signs of life, the longest pause {one.longest_s:.1f} s"


def cancel_unfinished(system: System, job_ids: Sequence[str]) -> list[str]:
    """Cancels those that have not ended, and waits until nothing of them lives; which they were."""
    cancelled = []
    with system.client() as client:
        for job_id in job_ids:
            if not client.job(job_id).has_ended:
                try:
                    client.cancel(job_id)
                    cancelled.append(job_id)
                except ServerRefused:
                    continue  # it has just ended
        for job_id in cancelled:
            client.job(job_id, wait_s=15.0)
    return cancelled
