"""What tests do to the API: away, slow, refusing, silent, forgetful."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from support.k8s_stand_in import refusals
from support.k8s_stand_in.requests import Request

WRITES = ("create", "update", "patch", "delete", "deletecollection")


class ConnectionCut(Exception):
    """The connection ends here, without an answer."""


@dataclass
class _Countdown:
    user: str
    left: int
    answer_lost: bool


class Faults:
    """Nothing is wrong until a test says so; :meth:`mend` takes everything back."""

    def __init__(self) -> None:
        self.watches = 0
        self._lock = threading.Lock()
        self._delay_s: dict[str, float] = {}
        self._refusing: list[tuple[int, refusals.Refusal, str]] = []
        self._countdown: _Countdown | None = None

    def slow(self, user: str, delay_s: float) -> None:
        """Each request of this account is answered so much later."""
        self._delay_s[user] = delay_s

    def refuse(self, code: int, *, times: int, verb: str = "") -> None:
        """The next requests (of this verb) are refused so, as a server with too much to do does: 429, 500, 503."""
        reasons = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
        words = "the server is currently unable to handle the request"
        refusal = refusals.Refusal(code, reasons[code], words, retry_after_s=1 if code == 429 else 0)
        with self._lock:
            self._refusing = [(times, refusal, verb)]

    def cut_after(self, writes: int, *, user: str, answer_lost: bool = False) -> None:
        """As if the account's process were killed after so many writes from now on.

        Everything that it asks afterwards ends without an answer; with ``answer_lost``, that of the last write too.
        """
        with self._lock:
            self._countdown = _Countdown(user, writes, answer_lost)

    def silence_watches(self) -> None:
        """The watches that are open now stay open, and say nothing more."""
        self.watches += 1

    def mend(self) -> None:
        with self._lock:
            self._delay_s.clear()
            self._refusing.clear()
            self._countdown = None

    def before(self, request: Request) -> None:
        """Raises what the request gets instead of an answer."""
        if delay_s := self._delay_s.get(request.user.name):
            time.sleep(delay_s)
        with self._lock:
            countdown = self._countdown
            if countdown and request.user.name == countdown.user and countdown.left <= 0:
                raise ConnectionCut
            if self._refusing and self._refusing[0][2] in ("", request.verb):
                times, refusal, verb = self._refusing.pop()
                if times > 1:
                    self._refusing = [(times - 1, refusal, verb)]
                raise refusal

    def after(self, request: Request) -> None:
        """The request has had its effect. Raises ConnectionCut when its answer is to be lost."""
        with self._lock:
            countdown = self._countdown
            if countdown is None or request.user.name != countdown.user or request.verb not in WRITES:
                return
            countdown.left -= 1
            if countdown.left == 0 and countdown.answer_lost:
                raise ConnectionCut
