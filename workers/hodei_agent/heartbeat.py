"""The regular sign of life, with what the worker uses."""

from __future__ import annotations

import threading
from typing import Any, Callable

from hodei_agent.client import Client
from hodei_agent.errors import Refused, StaleAttempt
from hodei_agent.mailbox import Mailbox


class Heartbeat:
    """Calls at every interval, whatever the other threads do. `describe` gives each call's body."""

    def __init__(
        self, client: Client, mailbox: Mailbox, interval_s: float, describe: Callable[[], dict[str, Any]]
    ) -> None:
        self._client = client
        self._mailbox = mailbox
        self._interval_s = interval_s
        self._describe = describe

    def begin(self) -> None:
        """Start, for as long as the process lives."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        with self._mailbox.told_of_the_end():
            while True:
                pause.wait(self._interval_s)
                try:
                    answer = self._client.call("POST", "heartbeat", self._describe)
                except (Refused, StaleAttempt):
                    continue
                for execution_id in answer.get("stale") or []:
                    self._mailbox.post("stale_execution", str(execution_id))
