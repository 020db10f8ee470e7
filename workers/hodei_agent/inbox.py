"""The long poll for messages."""

from __future__ import annotations

import threading

from hodei_agent.client import Client
from hodei_agent.errors import Refused, StaleAttempt
from hodei_agent.mailbox import Mailbox

ANSWER_MARGIN_S = 10.0
REFUSED_PAUSE_S = 5.0


class Inbox:
    """Posts each message to the mailbox once, as `message`, in order."""

    def __init__(self, client: Client, mailbox: Mailbox, poll_s: float) -> None:
        self._client = client
        self._mailbox = mailbox
        self._poll_s = poll_s
        self._after = 0

    def begin(self) -> None:
        """Start polling, for as long as the process lives."""
        threading.Thread(target=self._run, name="inbox", daemon=True).start()

    def _run(self) -> None:
        with self._mailbox.told_of_the_end():
            while True:
                self._poll()

    def _poll(self) -> None:
        path = f"inbox?after={self._after}&wait_s={self._poll_s:g}"
        try:
            answer = self._client.call("GET", path, timeout_s=self._poll_s + ANSWER_MARGIN_S)
        except (Refused, StaleAttempt):
            threading.Event().wait(REFUSED_PAUSE_S)
            return
        for message in answer.get("messages") or []:
            seq = int(message.get("seq") or 0)
            if seq > self._after:
                self._after = seq
                self._mailbox.post("message", message)
