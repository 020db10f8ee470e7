"""The jobs that are submitted meanwhile: each kind with the ends that it may have."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hodei.client.errors import ServerRefused, ServerUnreachable
from support.chaos_arena import Arena

SHORTEST_S, LONGEST_S = 0.5, 5.0
CANCEL_WITHIN_S = 6.0
FAILS_WITH = 3


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of job. ``share``: of all that are submitted; ``ends``: the states that it may end in, but for a used-up budget."""

    name: str
    share: float
    ends: frozenset[str]
    user_retries: int = 0


KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="succeeds", share=0.79, ends=frozenset({"SUCCEEDED"})),
        Kind(name="fails", share=0.04, ends=frozenset({"FAILED"})),
        Kind(name="fails twice", share=0.04, ends=frozenset({"FAILED"}), user_retries=1),
        Kind(name="runs too long", share=0.05, ends=frozenset({"TIMEOUT"})),
        Kind(name="is cancelled", share=0.08, ends=frozenset({"CANCELLED", "SUCCEEDED"})),
        Kind(name="target", share=0.0, ends=frozenset({"SUCCEEDED"})),
    )
}


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job that was accepted, under the key that it was submitted with."""

    key: str
    job_id: str
    kind: Kind
    provider: str


class Submitter:
    """Submits jobs, as many as there are places for and a few more, until it is told that it is enough.

    It takes turns between the providers; what kind a job is and how long it runs is drawn. Some are cancelled a moment later.
    """

    def __init__(self, arena: Arena, providers: tuple[str, ...], *, in_flight: int) -> None:
        self.arena = arena
        self.providers = providers
        self.in_flight = in_flight
        self.submitted: list[Submitted] = []
        self.cancels: Counter[str] = Counter()
        self._rng = random.Random(arena.rng.random())
        self._lock = threading.Lock()
        self._cancelling = ThreadPoolExecutor(max_workers=8, thread_name_prefix="cancel")

    def run(self, *, at_least: int, until_true: threading.Event) -> None:
        """Submit until there are that many and the event is set."""
        while len(self.submitted) < at_least or not until_true.is_set():
            room = self.in_flight - self._open()
            for _ in range(max(0, room)):
                self.submit_one()
            time.sleep(0.2)
        self._cancelling.shutdown(wait=True)

    def _open(self) -> int:
        return int(
            self.arena.value(
                "SELECT count(*) FROM jobs WHERE state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING')"
            )
        )

    def submit_one(self) -> Submitted:
        kind = self._rng.choices(list(KINDS.values()), [kind.share for kind in KINDS.values()])[0]
        provider = self.providers[len(self.submitted) % len(self.providers)]
        made = self.submit(kind, provider, **self._details(kind))
        if kind.name == "is cancelled":
            self._cancelling.submit(self._cancel, made.job_id, self._rng.uniform(0, CANCEL_WITHIN_S))
        return made

    def submit(self, kind: Kind, provider: str, *, seconds: float, **more: Any) -> Submitted:
        """Submit this one now; also called by the faults that need a job to hit."""
        with self._lock:
            key = f"{kind.name}-{len(self.submitted)}-{self._rng.getrandbits(32):08x}".replace(" ", "-")
        job = self.arena.job(key, provider, seconds=seconds, **more)
        job_id = self.arena.submit(job, key)
        made = Submitted(key=key, job_id=job_id, kind=kind, provider=provider)
        with self._lock:
            self.submitted.append(made)
        return made

    def _details(self, kind: Kind) -> dict[str, Any]:
        seconds = self._rng.uniform(SHORTEST_S, LONGEST_S)
        if kind.name == "fails":
            return {"seconds": seconds / 2, "code": FAILS_WITH}
        if kind.name == "fails twice":
            return {"seconds": seconds / 4, "code": FAILS_WITH, "retries": 1}
        if kind.name == "runs too long":
            return {"seconds": 3600, "timeout_s": 1, "grace_s": 1}
        return {"seconds": seconds}

    def _cancel(self, job_id: str, after_s: float) -> None:
        time.sleep(after_s)  # a random moment of the job's life is what is wanted
        for _ in range(200):
            try:
                with self.arena.api() as client:
                    client.cancel(job_id)
                self.cancels["accepted"] += 1
                return
            except ServerRefused as refused:
                assert refused.http_status == 409, refused  # it had ended before
                self.cancels["came too late"] += 1
                return
            except ServerUnreachable:
                time.sleep(0.3)
        raise AssertionError(f"the cancel of {job_id} was never answered")
