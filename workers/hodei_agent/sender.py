"""The thread that speaks for one execution: accept, started, frames, result, and perhaps goodbye."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from hodei_agent.client import Client
from hodei_agent.echo import Echo
from hodei_agent.errors import LeaseLost, Refused, StaleAttempt, Unauthorized
from hodei_agent.frames import first_at_us, pack_payload
from hodei_agent.mailbox import Mailbox
from hodei_agent.outbox import BATCH_BYTES, Batch, Outbox, remark
from hodei_agent.protocol import FRAMES_CONTENT_TYPE

POST_BYTES = 3 * 1024 * 1024
FRAMES_TIMEOUT_S = 60.0
QUICK_S = 5.0
"""A call that took longer is not followed by a larger one: the line is slow."""
TOO_LARGE_ANSWERS = 5
"""So often in a row a single frame may be too large for a proxy on the way."""
ESSENTIAL = ("fence", "outcome", "exit_code", "signal", "error_code", "last_frame", "lost_bytes", "truncated")
"""What of a result the platform cannot do without."""
ECHO_PATIENCE_S = 4.0
"""So long the agent stays for a reader of our stdout who is slow; one who is stuck is given up after 2 s."""
GOODBYE_PATIENCE_S = 3.0
STUCK_ANSWERS = 20
"""So often in a row the platform may have all before a frame, and not take that one."""
GAP_ANSWERS = 3
"""So often in a row it may answer that frames are missing which it had acknowledged before."""


class Mark(NamedTuple):
    """Up to where a log goes: how many frames, entries (-1: an older server does not tell) and bytes of output that are."""

    seq: int
    entries: int
    size: int


class Numbered(NamedTuple):
    """A batch as a frame, and the marks before and after it."""

    before: Mark
    after: Mark
    batch: Batch
    packed: bytes


class Sender:
    """Calls in the protocol's order, each until it is answered, and tells the main thread by the mailbox.

    Posts `accepted` when the job may be started, `not_accepted` when it may not, `stale`, `unauthorized`,
    `lease_lost`, and `delivered` when the platform has the result; each with itself.
    """

    def __init__(
        self, client: Client, mailbox: Mailbox, echo: Echo, execution_id: str, fence: int, outbox: Outbox
    ) -> None:
        self._client = client
        self._mailbox = mailbox
        self._echo = echo
        self._fence = fence
        self._outbox = outbox
        self._path = f"executions/{execution_id}/"
        self._most_per_post = POST_BYTES // BATCH_BYTES
        self._frames_per_post = self._most_per_post
        self._too_large = 0
        self._sent = Mark(0, 0, 0)
        self._started = threading.Event()
        self._finished = threading.Event()
        self._started_report: dict[str, Any] | None = None
        self._result: dict[str, Any] = {}
        self.may_start_until = 0.0
        """On the lease's clock: so long the job may be started, once it is accepted."""
        self.goodbye: str | None = None
        """The reason to leave after the result; None when the worker stays."""
        self.said_goodbye = False
        """Whether it was said, or could not be."""
        self.refusal: Refused | None = None
        """Why the platform did not take the result, if so."""

    def begin(self) -> None:
        """Start: ask whether the job may be started."""
        threading.Thread(target=self._run, name="sender", daemon=True).start()

    def started(self, pid: int, at_us: int) -> None:
        """The job runs."""
        self._started_report = {"fence": self._fence, "pid": pid, "at": at_us}
        self._started.set()

    def finish(self, result: dict[str, Any]) -> None:
        """All output is in the outbox: after it send this result, and goodbye if the worker leaves then."""
        self._result = result
        self._outbox.end()
        self._started.set()
        self._finished.set()

    def abandon(self) -> None:
        """Say nothing more."""
        self._result = {}
        self._outbox.discard()
        self._started.set()
        self._finished.set()

    def _run(self) -> None:
        try:
            with self._mailbox.told_of_the_end(self):
                try:
                    self._speak()
                except StaleAttempt:
                    self._mailbox.post("stale", self)
        finally:
            self._echo.end()
            self._client.close()

    def _speak(self) -> None:
        try:
            self._client.call("POST", self._path + "accept", {"fence": self._fence})
        except Refused:
            self._mailbox.post("not_accepted", self)
            return
        self.may_start_until = self._client.holds_until
        self._mailbox.post("accepted", self)
        self._started.wait()
        if self._started_report is not None:
            try:
                self._client.call("POST", self._path + "started", self._started_report)
            except Refused:  # Frames and result imply it.
                pass
        try:
            self._send_output()
        except Refused:  # The result still counts; it says what is missing, so the log shows as incomplete.
            self._outbox.refuse()
        self._finished.wait()
        if not self._result:
            return
        result = {**self._result, "last_frame": self._sent.seq}
        result["dropped_entries"] += self._outbox.lost_entries
        result["dropped_bytes"] += self._outbox.lost_bytes
        result["lost_bytes"] += self._outbox.lost_bytes
        self._report(result)
        self._echo.wait_written(ECHO_PATIENCE_S)
        if self.goodbye is not None:
            try:
                self._client.call(
                    "POST", "goodbye", {"reason": self.goodbye}, timeout_s=3.0, patience_s=GOODBYE_PATIENCE_S
                )
            except (Refused, LeaseLost, Unauthorized):
                pass
            self.said_goodbye = True
        self._mailbox.post("delivered", self)

    def _report(self, result: dict[str, Any]) -> None:
        """Send the result; without all that may be left out when something of it is not taken."""
        for document in (result, {name: result[name] for name in ESSENTIAL}):
            try:
                self._client.call("POST", self._path + "result", document)
            except Refused as refusal:
                self.refusal = refusal
            else:
                self.refusal = None
                return

    def _send_output(self) -> None:
        while True:
            batches = self._outbox.take(POST_BYTES)
            if not batches:
                return
            while batches:
                batches = self._deliver(batches)

    def _shrink(self, trouble: str) -> None:
        """Go on with one frame: a slow line carries that in time, and a proxy on the way may allow less than the platform does.

        Not every proxy says so (413): some close the connection while the body is still being sent.
        """
        if " 413 " in trouble:
            self._most_per_post = max(1, self._most_per_post // 2)
            self._too_large = self._too_large + 1 if self._frames_per_post == 1 else 0
            if self._too_large > TOO_LARGE_ANSWERS:
                raise Refused(413, "payload_too_large", "not even one frame is let through")
        self._frames_per_post = 1

    def _deliver(self, batches: list[Batch]) -> list[Batch]:
        """Number them and send them until the platform has them. What is to be numbered anew, when it never will."""
        waiting = [self._number(batch) for batch in batches]
        unmoved = 0
        while waiting:
            first = waiting[0]
            stored = self._post([frame.packed for frame in waiting])
            waiting = [frame for frame in waiting if frame.after.seq > stored.seq]
            unmoved = unmoved + 1 if stored.seq <= first.before.seq else 0
            if unmoved >= (STUCK_ANSWERS if stored.seq == first.before.seq else GAP_ANSWERS):
                return self._go_on_from(stored, waiting)
            if unmoved:
                threading.Event().wait(min(0.1 * unmoved, 1.0))
        return []

    def _number(self, batch: Batch) -> Numbered:
        before = self._sent
        packed = pack_payload(before.seq + 1, before.entries + 1, batch.entries, batch.plain)
        self._sent = Mark(before.seq + 1, before.entries + batch.entries, before.size + batch.size)
        return Numbered(before, self._sent, batch, packed)

    def _go_on_from(self, stored: Mark, waiting: list[Numbered]) -> list[Batch]:
        """What the platform had acknowledged and does not have any more (another database took over) is lost: a line in its place
        says so, and the rest is numbered after what is there. What it never takes is lost as well.
        """
        if stored.entries < 0:
            return []
        first = waiting[0]
        is_never_taken = stored.seq == first.before.seq
        until = waiting[-1].after if is_never_taken else first.before
        entries, size = until.entries - stored.entries, until.size - stored.size
        self._outbox.note_lost(entries, size)
        self._sent = stored
        if is_never_taken:
            return []
        text = f"[hodei: {entries} lines ({size} bytes) were lost here, the platform did not keep them]\n"
        return [remark(text, first_at_us(first.batch.plain)), *(frame.batch for frame in waiting)]

    def _post(self, packed: list[bytes]) -> Mark:
        """Send the first frames, as many as one call may hold; return up to where the platform has all of them."""
        began = time.monotonic()
        answer = self._client.call(
            "POST",
            f"{self._path}frames?fence={self._fence}",
            lambda: b"".join(packed[: self._frames_per_post]),
            content_type=FRAMES_CONTENT_TYPE,
            timeout_s=FRAMES_TIMEOUT_S,
            on_failure=self._shrink,
        )
        self._outbox.note_taken()
        self._too_large = 0
        if time.monotonic() - began < QUICK_S:
            self._frames_per_post = min(self._most_per_post, 2 * self._frames_per_post)
        return Mark(int(answer["acknowledged"]), int(answer.get("entries", -1)), int(answer.get("bytes", 0)))
