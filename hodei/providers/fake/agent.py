"""A simulated agent: the protocol from registration to goodbye, without a process behind it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine
from typing import Any

from hodei_agent.protocol import AGENT_VERSION, PROTOCOL_VERSION

from hodei.providers.fake.calls import Calls, Leave, Superseded
from hodei.providers.fake.http import Server
from hodei.providers.fake.performance import Performance


class SimulatedAgent:
    """One worker's agent; :meth:`run` ends with its exit code."""

    def __init__(self, server: Server, worker_id: str, one_time_token: str) -> None:
        self._calls = Calls(server, one_time_token)
        self._worker_id = worker_id
        self._running: dict[str, Performance] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()
        self._left: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._one_job = True
        self._leaving: str | None = None

    async def run(self) -> int:
        """Live until told to leave, or until the platform does not want it any more."""
        try:
            settings = await self._register()
            self._one_job = int(settings.get("max_jobs", 1)) == 1
            self._do(self._poll(float(settings.get("poll_s", 25.0))))
            self._do(self._beat(float(settings.get("heartbeat_interval_s", 5.0))))
            return await self._left
        except Leave as leave:
            return leave.exit_code
        finally:
            for task in self._tasks:
                task.cancel()

    async def leave(self, reason: str = "sigterm") -> None:
        """As the real agent at SIGTERM: its job ends as `worker_stopped`, is reported, and the agent goes."""
        self._leaving = reason
        for performance in self._running.values():
            performance.end("worker_stopped")
        if not self._running:
            await self._goodbye(reason)

    async def _register(self) -> dict[str, Any]:
        session_token = secrets.token_urlsafe(32)
        answer = await self._calls.json(
            "POST",
            "register",
            {
                "worker_id": self._worker_id,
                "protocol": PROTOCOL_VERSION,
                "agent_version": AGENT_VERSION,
                "session_token": session_token,
                "hostname": "fleet",
                "pid": 1,
                "boot_id": "fleet",
                "python": "3.11.0",
                "shells": ["sh"],
                "cgroup": 0,
            },
        )
        self._calls.token = session_token
        return answer

    def _do(self, life: Coroutine[Any, Any, None]) -> None:
        """Run a part of the agent beside the others; what ends it ends the agent."""

        async def guarded() -> None:
            try:
                await life
            except Leave as leave:
                self._go(leave.exit_code)
            except Superseded:
                self._go(4)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _go(self, exit_code: int) -> None:
        if not self._left.done():
            self._left.set_result(exit_code)

    async def _poll(self, wait_s: float) -> None:
        connection = self._calls.server.connect()
        after = 0
        try:
            while True:
                path = f"inbox?after={after}&wait_s={wait_s:g}"
                answer = await self._calls.send(
                    "GET", path, None, connection=connection, timeout_s=wait_s + 15
                )
                for message in answer.get("messages") or ():
                    after = max(after, int(message["seq"]))
                    await self._receive(message)
        finally:
            connection.close()

    async def _receive(self, message: dict[str, Any]) -> None:
        kind = message.get("kind")
        if kind == "run":
            execution = message["execution"]
            if execution["execution_id"] not in self._known and self._leaving is None:
                self._known.add(execution["execution_id"])
                self._do(self._perform(Performance(self._calls, execution)))
        elif kind == "cancel":
            performance = self._running.get(message["execution_id"])
            if performance is not None and performance.fence == message["fence"]:
                performance.end(message.get("reason") or "cancelled")
        elif kind == "drain":
            self._leaving = "drained"
            if not self._running:
                await self._goodbye("drained")
        elif kind == "shutdown":
            await self.leave()

    async def _perform(self, performance: Performance) -> None:
        self._running[performance.execution_id] = performance
        reported = True
        try:
            await performance.run()
        except Superseded:
            reported = False
        finally:
            self._running.pop(performance.execution_id, None)
        if self._leaving is not None:
            await self._goodbye(self._leaving)
        elif self._one_job and reported:
            await self._goodbye("done")

    async def _beat(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            running = [{"id": one.execution_id, "fence": one.fence} for one in self._running.values()]
            sign = {
                "executions": running,
                "cpu_s": 0.0,
                "cpu_fraction": 0.0,
                "memory_bytes": 0,
                "memory_limit_bytes": None,
                "spool_bytes": 0,
            }
            answer = await self._calls.json("POST", "heartbeat", sign)
            for execution_id in answer.get("stale") or ():
                if (performance := self._running.get(execution_id)) is not None:
                    performance.abandon()

    async def _goodbye(self, reason: str) -> None:
        with contextlib.suppress(Leave, Superseded):
            await self._calls.json("POST", "goodbye", {"reason": reason})
        self._go(0)
