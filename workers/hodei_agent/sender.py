"""The thread that speaks for one execution: accept, started, frames, result, and perhaps goodbye."""

from __future__ import annotations

import threading
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
        self._frames_per_post = POST_BYTES // BATCH_BYTES
        self._seq = 0
        self._entries = 0
        self._started = threading.Event()
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

    def abandon(self) -> None:
        """Say nothing more."""
        self._result = {}
        self._outbox.discard()
        self._started.set()

    def _run(self) -> None:
        try:
            self._speak()
        except StaleAttempt:
            self._mailbox.post("stale", self)
        except Unauthorized:
            self._mailbox.post("unauthorized", self)
        except LeaseLost:
            self._mailbox.post("lease_lost", self)
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
        try:
            if self._started_report is not None:
                self._client.call("POST", self._path + "started", self._started_report)
            self._send_output()
        except Refused:  # The result still counts; it names the last frame, so the log shows as incomplete.
            pass
        if not self._result:
            return
        result = {**self._result, "last_frame": self._seq}
        result["dropped_entries"] += self._outbox.lost_entries
        result["dropped_bytes"] += self._outbox.lost_bytes
        result["lost_bytes"] += self._outbox.lost_bytes
        try:
            self._client.call("POST", self._path + "result", result)
        except Refused as refusal:
            self.refusal = refusal
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
        """A proxy on the way may allow less than the platform does: send frames one by one from then on."""
        if " 413 " in trouble:
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
        answer = self._client.call(
            "POST",
            f"{self._path}frames?fence={self._fence}",
            lambda: b"".join(packed[: self._frames_per_post]),
            content_type=FRAMES_CONTENT_TYPE,
            timeout_s=FRAMES_TIMEOUT_S,
            on_failure=self._shrink,
        )
        return int(answer.get("acknowledged") or 0)
