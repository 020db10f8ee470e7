"""The thread that speaks for one execution: accept, started, frames, result, and perhaps goodbye."""

from __future__ import annotations

import threading
import time
from typing import Any

from hodei_agent.client import Client
from hodei_agent.echo import Echo
from hodei_agent.errors import LeaseLost, Refused, StaleAttempt, Unauthorized
from hodei_agent.frames import pack_payload
from hodei_agent.mailbox import Mailbox
from hodei_agent.outbox import BATCH_BYTES, Outbox
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
UNMOVED_ANSWERS = 20
"""So often in a row the platform may answer that frames are missing which it had acknowledged before."""


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
        self._seq = 0
        self._entries = 0
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
        result = {**self._result, "last_frame": self._seq}
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
            waiting: list[tuple[int, bytes]] = []
            for batch in batches:
                self._seq += 1
                waiting.append(
                    (self._seq, pack_payload(self._seq, self._entries + 1, batch.entries, batch.plain))
                )
                self._entries += batch.entries
            self._deliver(waiting)

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

    def _deliver(self, waiting: list[tuple[int, bytes]]) -> None:
        unmoved = 0
        while waiting and unmoved < UNMOVED_ANSWERS:
            acknowledged = self._post([frame for _, frame in waiting])
            unmoved = unmoved + 1 if acknowledged < waiting[0][0] else 0
            waiting = [(seq, frame) for seq, frame in waiting if seq > acknowledged]
            if unmoved:
                threading.Event().wait(min(0.1 * unmoved, 1.0))

    def _post(self, packed: list[bytes]) -> int:
        """Send the first frames, as many as one call may hold; return the highest that is acknowledged."""
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
        return int(answer.get("acknowledged") or 0)
