"""One execution, acted out: accepted, started, printed, reported."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from hodei_agent.frames import Segment, pack
from hodei_agent.protocol import FRAMES_CONTENT_TYPE, STDOUT

from hodei.providers.fake.acting import play
from hodei.providers.fake.calls import Calls, Superseded

_ENDS = {
    "cancelled": (None, "The job was cancelled."),
    "timeout": ("ERR_1005", "The job ran longer than its time-out."),
    "worker_stopped": ("ERR_1008", "The worker was told to leave."),
}


class Performance:
    """Acts out one definition. :meth:`end` cuts it short; it is reported with that outcome."""

    def __init__(self, calls: Calls, execution: dict[str, Any]) -> None:
        self._calls = calls
        self._execution = execution
        self.execution_id = str(execution["execution_id"])
        self.fence = int(execution["fence"])
        self._cut: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._frames = self._entries = self._bytes = 0
        self._pending: list[Segment] = []

    def end(self, outcome: str) -> None:
        if not self._cut.done():
            self._cut.set_result(outcome)

    def abandon(self) -> None:
        """The attempt was superseded: it ends, and nothing more is reported."""
        self.end("superseded")

    async def run(self) -> None:
        """From accept to the acknowledged result. Raises Leave and Superseded."""
        await self._tell("accept")
        started_at = _now_us()
        await self._tell("started", pid=1, at=started_at)
        outcome, exit_code = await self._act()
        if outcome == "superseded":
            raise Superseded
        await self._flush()
        code, message = _ENDS.get(outcome, (_code_of(exit_code), None))
        await self._tell(
            "result",
            outcome=outcome,
            exit_code=exit_code,
            signal=None if outcome == "exited" else 15,
            error_code=code,
            error_message=message,
            started_at=started_at,
            finished_at=_now_us(),
            last_frame=self._frames,
            log_entries=self._entries,
            log_bytes=self._bytes,
            dropped_entries=0,
            dropped_bytes=0,
            truncated=False,
            usage={"cpu_s": 0.0, "max_rss_bytes": 0},
        )

    async def _act(self) -> tuple[str, int]:
        """The outcome and the exit code; 143 (SIGTERM) when it was cut short."""
        timeout_s = self._execution.get("timeout_s")
        ends_at = None if timeout_s is None else time.monotonic() + float(timeout_s)
        for step in play(self._execution):
            if step.output:
                self._pending.append(Segment(STDOUT, _now_us(), step.output))
            if step.wait_s:
                await self._flush()
                left_s = (
                    step.wait_s if ends_at is None else min(step.wait_s, max(0.0, ends_at - time.monotonic()))
                )
                await asyncio.wait([self._cut], timeout=left_s)
                if left_s < step.wait_s:
                    self.end("timeout")
            if self._cut.done():
                return self._cut.result(), 143
            if step.exit_code is not None:
                return "exited", step.exit_code
        return "exited", 0

    async def _flush(self) -> None:
        """Send what was printed as one frame, until it is acknowledged."""
        if not self._pending:
            return
        segments, self._pending = self._pending, []
        self._frames += 1
        frame, entries = pack(self._frames, self._entries + 1, segments)
        self._entries += entries
        self._bytes += sum(len(segment.data) for segment in segments)
        path = f"executions/{self.execution_id}/frames?fence={self.fence}"
        while True:
            answer = await self._calls.send("POST", path, frame, content_type=FRAMES_CONTENT_TYPE)
            if int(answer.get("acknowledged", 0)) >= self._frames:
                return
            await asyncio.sleep(0.1)

    async def _tell(self, what: str, **fields: Any) -> None:
        await self._calls.json(
            "POST", f"executions/{self.execution_id}/{what}", {"fence": self.fence, **fields}
        )


def _code_of(exit_code: int) -> str | None:
    return {0: None, 126: "ERR_1002", 127: "ERR_1001"}.get(exit_code, "ERR_1007")


def _now_us() -> int:
    return time.time_ns() // 1000
