"""A job that prints a thousand numbered lines a second until it is told to stop, and a reader that is there all the time."""

from __future__ import annotations

import threading
from datetime import datetime

from hodei.client.client import HodeiClient
from hodei.client.shapes import LogEnd, LogEntry

LINES_PER_S = 1000
PATIENCE_S = 120.0
PROGRAM = f"""\
import os, time

began, number = time.monotonic(), 0
while not os.path.exists(os.environ["STOP"]):
    while number < (time.monotonic() - began) * {LINES_PER_S}:
        number += 1
        os.write(1, b"line %d\\n" % number)
    time.sleep(0.005)
os.write(1, b"end %d %d\\n" % (number, time.monotonic() - began))
"""
"""Every line is a write of its own; one that has to wait makes those after it come faster. The last line says how many
there were, and for how many seconds."""


def numbered_job(provider: str, stop: str) -> dict[str, object]:
    """The job; it ends when there is a file ``stop``."""
    return {
        "name": f"numbered-{provider}",
        "provider": provider,
        "command": "python3",
        "args": ["-c", PROGRAM],
        "env": {"STOP": stop},
    }


def numbered_lines(last: str) -> list[str]:
    """All lines of the job whose last line this is."""
    word, count, _ = last.split()
    assert word == "end", f"the last line is {last!r}"
    return [*(f"line {number}" for number in range(1, int(count) + 1)), last]


class Reader(threading.Thread):
    """Follows a job's log from its beginning to its end, over whatever happens meanwhile."""

    def __init__(self, client: HodeiClient, job_id: str) -> None:
        super().__init__(daemon=True)
        self.job_id = job_id
        self.entries: list[LogEntry] = []
        self.end: LogEnd | None = None
        self._client = client

    def run(self) -> None:
        with self._client:
            for said in self._client.log_events(self.job_id, patience_s=PATIENCE_S):
                if isinstance(said, LogEntry):
                    self.entries.append(said)
                if isinstance(said, LogEnd):
                    self.end = said

    @property
    def written_at(self) -> float:
        """When the newest line that was received was written, by the clock of this machine; 0 before the first."""
        newest = self.entries[-1].at if self.entries else None
        return datetime.fromisoformat(newest).timestamp() if newest else 0.0
