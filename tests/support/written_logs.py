"""Jobs whose output a test writes, as their agent would send it, into a platform whose servers run elsewhere."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from hodei_agent.frames import Segment, pack
from hodei_agent.protocol import STDERR, STDOUT

from hodei.queue.fanout import RedisWakeups
from hodei.queue.names import key_prefix
from hodei.sagas.registry import engine
from hodei.services import agents
from support.core import Core, result

STREAMS = {"stdout": STDOUT, "stderr": STDERR}


class LiveCore(Core):
    """A :class:`Core` whose wake-ups reach the servers of the same deployment."""

    def __init__(self, database_url: str, redis_url: str, folder: Path, **settings: Any) -> None:
        super().__init__(database_url, folder, **settings)
        channel = f"{key_prefix(self.database.deployment)}wake"
        wakeups = RedisWakeups(redis_url, channel, lambda keys: set())
        self.platform = replace(self.platform, wakeups=wakeups)
        self.engine = engine(self.platform)
        self._numbers = itertools.count()

    def write_job(self, **spec: Any) -> WrittenJob:
        """A job that runs and whose output the test writes."""
        name = f"writer-{next(self._numbers)}"
        self.provider(name)
        return WrittenJob(self, name, **spec)


class WrittenJob:
    """A running job, from its agent's side."""

    def __init__(self, core: LiveCore, provider: str, **spec: Any) -> None:
        self.core = core
        self.job_id = core.submit(provider, **spec)
        self.begin_attempt()

    def begin_attempt(self) -> None:
        """Have a worker take the job that waits."""
        self.core.make_due()
        self.core.courier.look()
        self.core.drain()
        self.worker_id: UUID = self.core.job(self.job_id).worker_id
        self.core.connect(self.worker_id)
        self.core.drain()
        given = self.core.assigned(self.worker_id)
        self.agent = agents.AgentIdentity(worker_id=self.worker_id)
        self.execution_id, self.fence = UUID(given["execution_id"]), int(given["fence"])
        agents.accept(self.core.platform, self.agent, self.execution_id, self.fence)
        agents.started(self.core.platform, self.agent, self.execution_id, self.fence, pid=1, at_us=1)
        self.frames = 0
        self.entries = 0

    @property
    def path(self) -> str:
        return f"/api/v1/jobs/{self.job_id}/logs"

    def write(self, *pieces: bytes | tuple[str, bytes], at_us: int | None = None) -> None:
        """One frame: what the job wrote to stdout, or to the stream that is named."""
        at = int(time.time() * 1e6) if at_us is None else at_us
        named = [piece if isinstance(piece, tuple) else ("stdout", piece) for piece in pieces]
        segments = [Segment(STREAMS[stream], at, data) for stream, data in named]
        frame, count = pack(self.frames + 1, self.entries + 1, segments)
        self.frames, self.entries = self.frames + 1, self.entries + count
        agents.store_frames(self.core.platform, self.agent, self.execution_id, self.fence, frame)

    def end(self, exit_code: int = 0, *, last_frame: int | None = None, **more: Any) -> None:
        """Report the result; with all frames there, the attempt is over."""
        last = self.frames if last_frame is None else last_frame
        report = result(exit_code, last_frame=last, **more)
        agents.report_result(self.core.platform, self.agent, self.execution_id, self.fence, report)
        self.core.drain()
