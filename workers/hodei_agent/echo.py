"""The copy of a job's output on the agent's own stdout and stderr, for `docker logs` and `kubectl logs`."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from hodei_agent.protocol import MAX_LINE_BYTES, STDOUT
from hodei_agent.spool import Backlog

MEMORY_BYTES = 2 * 1024 * 1024
LIMIT_BYTES = 64 * 1024 * 1024
WRITE_BYTES = 256 * 1024
STUCK_AFTER_S = 2.0
GIVE_WAY_BYTES = 16 * 1024 * 1024
GIVE_WAY_S = 0.05
PACE_BYTES_PER_S = 4_000_000
"""Whoever reads our stdout works on the same machine: dockerd takes longer over a line than the shell that printed it. A copy
can come later, so while the job prints it is written at this pace, until it is 16 MiB behind or nothing was printed for 50 ms."""


class Echo:
    """Writes whole lines, in a thread of its own: whoever reads our stdout may be slow, blocked or gone.

    Nobody waits here: what is not read yet waits on disk, in `folder`. At 64 MiB of it :meth:`is_ready` asks to wait for
    as long as the reader reads. One that made no progress for 2 s is given up until it moves again, and what finds no
    room then is left out; a closed stdout is ignored. While the job prints much the copy gives way to it.
    """

    def __init__(self, folder: str) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._backlog = Backlog(folder, MEMORY_BYTES)
        self._waiting: deque[tuple[int, int]] = deque()
        """Of each piece in the backlog, to which descriptor it goes and its size."""
        self._unwritten_bytes = 0
        self._progress_at = 0.0
        self._put_at = 0.0
        self._finished = False
        self._rest: dict[int, bytes] = {}
        self._ended = False
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

    def is_ready(self) -> bool:
        """Whether to go on putting in: there is room, or waiting for it would be in vain."""
        with self._changed:
            return self._unwritten_bytes <= LIMIT_BYTES or self._is_stuck()

    def finish(self) -> None:
        """Add the unfinished lines."""
        for stream, rest in sorted(self._rest.items()):
            if rest:
                self._enqueue(stream, rest)
        self._rest.clear()
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def wait_written(self, timeout_s: float) -> bool:
        """Wait until all was written. False when it was not in time, or the reader makes no progress."""
        give_up_at = time.monotonic() + timeout_s
        with self._changed:
            while self._unwritten_bytes and not self._is_stuck() and time.monotonic() < give_up_at:
                self._changed.wait(min(give_up_at, self._progress_at + STUCK_AFTER_S) - time.monotonic())
            return self._unwritten_bytes == 0

    def end(self) -> None:
        """Nothing more will be put in: the thread ends when all is written."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _is_stuck(self) -> bool:
        return self._unwritten_bytes > 0 and time.monotonic() >= self._progress_at + STUCK_AFTER_S

    def _enqueue(self, stream: int, data: bytes) -> None:
        with self._changed:
            if self._unwritten_bytes > LIMIT_BYTES and self._is_stuck():
                return
            if not self._unwritten_bytes:
                self._progress_at = time.monotonic()
            self._put_at = time.monotonic()
            try:
                self._backlog.append(data)
            except OSError:  # The disk is full: the log itself is what the room is for.
                if self._unwritten_bytes > GIVE_WAY_BYTES:
                    return
                self._backlog.keep(data)
            self._waiting.append((1 if stream == STDOUT else 2, len(data)))
            self._unwritten_bytes += len(data)
            self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._backlog) > 0 or self._ended)
                if not self._backlog:
                    return
                descriptor, size = self._waiting.popleft()
                try:
                    data = self._backlog.take()
                except OSError:  # The disk does not give it back: what comes after it is written.
                    self._unwritten_bytes -= size
                    self._changed.notify_all()
                    continue
            view = memoryview(data)
            while view:
                try:
                    done = os.write(descriptor, view[:WRITE_BYTES])
                except BlockingIOError:  # Somebody who shares our stdout made it non-blocking.
                    import select

                    select.select([], [descriptor], [], 1.0)
                    continue
                except OSError:
                    done = len(view)
                view = view[done:]
                with self._changed:
                    self._unwritten_bytes -= done
                    self._progress_at = time.monotonic()
                    if not self._unwritten_bytes:
                        self._changed.notify_all()
                    self._give_way(done / PACE_BYTES_PER_S)

    def _give_way(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while not (self._finished or self._ended) and self._unwritten_bytes < GIVE_WAY_BYTES:
            now = time.monotonic()
            wait_s = min(until, self._put_at + GIVE_WAY_S) - now
            if wait_s <= 0:
                return
            self._changed.wait(wait_s)
