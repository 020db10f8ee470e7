"""The copy of a job's output on the agent's own stdout and stderr, for `docker logs` and `kubectl logs`."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from hodei_agent.protocol import MAX_LINE_BYTES, STDOUT

QUEUE_BYTES = 4 * 1024 * 1024
STUCK_AFTER_S = 2.0


class Echo:
    """Writes whole lines, in a thread of its own: whoever reads our stdout may be slow, blocked or gone.

    A writer that is merely slow slows the caller. One that made no progress for 2 s is given up until it
    moves again, and what it missed is left out; a closed stdout is ignored.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[tuple[int, bytes]] = deque()
        self._queued_bytes = 0
        self._progress_at = 0.0
        self._stuck = False
        self._rest: dict[int, bytes] = {}
        # Started before the job is: a job that uses up its processes leaves us none for a thread.
        self._thread = threading.Thread(target=self._write_all, name="echo", daemon=True)
        self._thread.start()

    def put(self, stream: int, data: bytes) -> None:
        """Add output of a stream; it shows when its line is whole, or has 64 KiB."""
        rest = self._rest.get(stream, b"")
        end = data.rfind(b"\n") + 1
        if end == 0 and len(rest) + len(data) < MAX_LINE_BYTES:
            self._rest[stream] = rest + data
            return
        end = end or len(data)
        self._rest[stream] = data[end:]
        self._enqueue(stream, rest + data[:end])

    def finish(self) -> None:
        """Add the unfinished lines."""
        for stream, rest in sorted(self._rest.items()):
            if rest:
                self._enqueue(stream, rest)
        self._rest.clear()

    def wait_written(self, timeout_s: float) -> bool:
        """Wait until all was written. False when it was not in time, or nobody reads."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued_bytes == 0 or self._stuck, timeout_s)
            return self._queued_bytes == 0

    def _enqueue(self, stream: int, data: bytes) -> None:
        with self._changed:
            while self._queued_bytes >= QUEUE_BYTES:
                patience_s = self._progress_at + STUCK_AFTER_S - time.monotonic()
                if self._stuck or patience_s <= 0:
                    self._stuck = True
                    return
                self._changed.wait(patience_s)
            if not self._queue:
                self._progress_at = time.monotonic()
            self._queue.append((1 if stream == STDOUT else 2, data))
            self._queued_bytes += len(data)
            self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue))
                descriptor, data = self._queue.popleft()
            view = memoryview(data)
            while view:
                try:
                    done = os.write(descriptor, view[: 64 * 1024])
                except BlockingIOError:  # Somebody who shares our stdout made it non-blocking.
                    import select

                    select.select([], [descriptor], [], 1.0)
                    continue
                except OSError:
                    done = len(view)
                view = view[done:]
                with self._changed:
                    self._queued_bytes -= done
                    self._progress_at = time.monotonic()
                    self._stuck = False
                    self._changed.notify_all()
