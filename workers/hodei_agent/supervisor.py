"""The main loop: waits in one poll() for signals, messages, the job's pipes and the next deadline."""

from __future__ import annotations

import select
import signal
import time
from collections import deque
from typing import Any, Callable

from hodei_agent import definition, job_environment, process_tree
from hodei_agent.client import Client
from hodei_agent.definition import Definition
from hodei_agent.echo import Echo
from hodei_agent.errors import (
    EXIT_DONE,
    EXIT_LEASE_LOST,
    EXIT_REFUSED,
    EXIT_UNAUTHORIZED,
    LeaseLost,
    Refused,
    Unauthorized,
)
from hodei_agent.execution import Execution
from hodei_agent.heartbeat import Heartbeat
from hodei_agent.inbox import Inbox
from hodei_agent.intake import Intake
from hodei_agent.lease import Lease
from hodei_agent.mailbox import Mailbox
from hodei_agent.outbox import Outbox
from hodei_agent.registration import Registration
from hodei_agent.sender import Sender
from hodei_agent.settings import Server, Settings
from hodei_agent.usage import Meter

SIGTERM_GRACE_S = 8.0
"""`docker stop` kills after 10 s: what is left is for the log and the result."""
GOODBYE_PATIENCE_S = 3.0
SAID_GOODBYE = "said"
"""Leaving, with nothing more to be said to the platform."""
LONGEST_WAIT_S = 1.0
"""poll() does not count while the machine sleeps, but the lease does: so look at it every second."""


class Supervisor:
    """Runs executions, one at a time, until the worker leaves. `on_begin` is told each one's id before anything of it starts."""

    def __init__(
        self,
        settings: Settings,
        registration: Registration,
        lease: Lease,
        state_dir: str,
        *,
        subreaper: bool,
        on_begin: Callable[[str], object] | None = None,
    ) -> None:
        assert settings.server is not None
        self._server: Server = settings.server
        self._on_begin = on_begin
        self._path = settings.path
        self._hidden = settings.hidden
        self._registration = registration
        self._lease = lease
        self._state_dir = state_dir
        self._subreaper = subreaper
        self._mailbox = Mailbox()
        self._meter = Meter()
        self._known: set[str] = set()
        self._waiting: deque[Definition] = deque()
        self._cancelled: dict[str, str] = {}
        self._current: Execution | None = None
        self._outbox: Outbox | None = None
        self._number = 0
        self._leaving: str | None = None
        self._exit_code: int | None = None
        self._poller = select.poll()
        self._polled: set[int] = set()

    def run(self, first_client: Client) -> int:
        """Work until it is time to leave; return the exit code. `first_client` becomes the inbox's."""
        signal.set_wakeup_fd(self._mailbox.signal_fd, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        Inbox(first_client, self._mailbox, self._registration.poll_s).begin()
        interval_s = self._registration.heartbeat_interval_s
        Heartbeat(self._client(), self._mailbox, interval_s, self._describe).begin()
        self._poller.register(self._mailbox.wake_fd, select.POLLIN)
        while True:
            self._wait()
            self._note_events()
            if self._lease.remaining_s <= 0 and self._exit_code is None:
                self._give_up(EXIT_LEASE_LOST)
            if self._current is not None:
                self._current.tick()
            exit_code = self._next()
            if exit_code is not None:
                return exit_code

    def _wait(self) -> None:
        wait_s = LONGEST_WAIT_S
        if self._exit_code is None:
            wait_s = max(0.0, min(wait_s, self._lease.remaining_s))
        pipes: set[int] = set()
        if self._current is not None:
            due_at = self._current.next_at()
            if due_at is not None:
                wait_s = max(0.0, min(wait_s, due_at - time.monotonic()))
            pipes = set(self._current.pipes)
        for gone in self._polled - pipes:
            self._poller.unregister(gone)
        for new in pipes - self._polled:
            self._poller.register(new, select.POLLIN)
        self._polled = pipes
        # One more millisecond, because poll() rounds and a deadline must have passed when it returns.
        ready = {descriptor for descriptor, _ in self._poller.poll(int(wait_s * 1000) + (1 if wait_s else 0))}
        if self._current is not None and ready & pipes:
            self._current.readable()

    def _note_events(self) -> None:
        signals, events = self._mailbox.collect()
        if signal.SIGCHLD in signals or self._current is not None:
            for child in process_tree.reap():
                if self._current is not None:
                    self._current.reaped(child)
        if signals & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            self._leave("sigterm", None)
        for kind, subject in events:
            self._note(kind, subject)

    def _note(self, kind: str, subject: Any) -> None:
        current = self._current
        if kind == "message":
            self._obey(subject)
        elif kind == "unauthorized":
            self._give_up(EXIT_UNAUTHORIZED)
        elif kind == "lease_lost":
            self._give_up(EXIT_LEASE_LOST)
        elif current is None or subject not in (current.sender, current.definition.execution_id):
            return
        elif kind == "accepted":
            if self._lease.now() < current.sender.may_start_until:
                current.start()
            else:  # We were stopped meanwhile, and the platform may have given the job away.
                self._give_up(EXIT_LEASE_LOST)
        elif kind in ("not_accepted", "stale", "stale_execution"):
            current.abandon()
        elif kind == "delivered":
            current.is_delivered = True
            if current.sender.said_goodbye:
                self._exit_code = EXIT_DONE if current.sender.refusal is None else EXIT_REFUSED
                self._leaving = SAID_GOODBYE

    def _obey(self, message: dict[str, Any]) -> None:
        kind = message.get("kind")
        if kind == "run":
            self._enqueue(message.get("execution") or {})
        elif kind == "cancel":
            self._cancel(message)
        elif kind == "drain" and self._leaving is None:
            self._leaving = "drained"
            self._waiting.clear()
        elif kind == "shutdown":
            self._leave("done", float(message.get("grace_s") or 0.0))

    def _enqueue(self, document: dict[str, Any]) -> None:
        try:
            job = definition.read(document)
        except (KeyError, TypeError, ValueError, AttributeError):
            return
        full = self._registration.max_jobs == 1 and self._known
        if job.execution_id in self._known or self._leaving is not None or full:
            return
        self._known.add(job.execution_id)
        self._waiting.append(job)

    def _cancel(self, message: dict[str, Any]) -> None:
        execution_id, reason = str(message.get("execution_id")), str(message.get("reason") or "cancelled")
        if reason != "timeout":
            reason = "cancelled"
        current = self._current
        if current is not None and current.definition.execution_id == execution_id:
            if int(message.get("fence") or current.definition.fence) == current.definition.fence:
                current.stop(reason, float(message.get("grace_s") or 0.0))
        elif any(job.execution_id == execution_id for job in self._waiting):
            self._cancelled[execution_id] = reason

    def _leave(self, reason: str, grace_s: float | None) -> None:
        """End the job if there is one, deliver what is to be said about it, and go."""
        self._leaving = self._leaving or reason
        self._waiting.clear()
        if self._current is not None:
            self._current.sender.goodbye = reason
            if grace_s is None:
                grace_s = min(self._current.definition.grace_s, SIGTERM_GRACE_S)
            self._current.stop("worker_stopped", grace_s)

    def _give_up(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._leaving = SAID_GOODBYE
        self._waiting.clear()
        if self._current is not None:
            self._current.abandon()

    def _next(self) -> int | None:
        """Start what waits, or return the exit code when there is nothing more to do."""
        if self._current is not None and self._current.is_over and self._current.is_delivered:
            self._close()
        if self._current is not None:
            return None
        if self._leaving is None:
            if self._waiting:
                self._begin(self._waiting.popleft())
                return None
            if not (self._registration.max_jobs == 1 and self._known):
                return None
            self._leaving = "idle"  # Its only job was superseded or refused: there will be no other.
        if self._leaving != SAID_GOODBYE:
            self._say_goodbye(self._leaving)
        return EXIT_DONE if self._exit_code is None else self._exit_code

    def _begin(self, job: Definition) -> None:
        if self._on_begin is not None:
            self._on_begin(job.execution_id)
        echo = Echo(self._state_dir)
        self._outbox = Outbox(self._state_dir, self._registration.spool_bytes)
        client = self._client()
        sender = Sender(client, self._mailbox, echo, job.execution_id, job.fence, self._outbox)
        max_bytes = self._registration.log_max_bytes
        if job.log_max_bytes is not None:
            max_bytes = min(max_bytes, int(job.log_max_bytes))
        self._number += 1
        number = self._number
        self._current = Execution(
            job,
            sender,
            Intake(self._outbox, echo, max_bytes, secrets=job.secrets),
            process_tree.Tree(job.execution_id, subreaper=self._subreaper),
            lambda: job_environment.make_folders(self._state_dir, number),
            self._state_dir,
            self._path,
            self._hidden,
        )
        if self._registration.max_jobs == 1:
            sender.goodbye = "done"
        if job.execution_id in self._cancelled:
            self._current.stop(self._cancelled.pop(job.execution_id), 0.0)
        sender.begin()

    def _close(self) -> None:
        """Forget the execution and what it left on disk."""
        if self._current is not None and self._current.folders is not None and self._leaving != SAID_GOODBYE:
            job_environment.remove(self._current.folders.root)
        self._current = None
        self._outbox = None

    def _describe(self) -> dict[str, Any]:
        current, outbox = self._current, self._outbox
        job = None if current is None else current.definition
        executions = [] if job is None else [{"id": job.execution_id, "fence": job.fence}]
        return {
            "executions": executions,
            **self._meter.read(),
            "spool_bytes": 0 if outbox is None else outbox.spool_bytes,
        }

    def _client(self) -> Client:
        return Client(self._server, self._registration.session_token, self._lease)

    def _say_goodbye(self, reason: str) -> None:
        client = self._client()
        try:
            client.call(
                "POST",
                "goodbye",
                {"reason": reason},
                timeout_s=GOODBYE_PATIENCE_S,
                patience_s=GOODBYE_PATIENCE_S,
            )
        except (LeaseLost, Refused, Unauthorized):
            pass
        finally:
            client.close()
