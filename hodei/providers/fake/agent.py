"""A simulated agent: the protocol from registration to goodbye, without a process behind it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Any

from hodei_agent.frames import Segment, pack
from hodei_agent.protocol import AGENT_VERSION, FRAMES_CONTENT_TYPE, PROTOCOL_VERSION, STDOUT

from hodei.providers.fake.acting import play
from hodei.providers.fake.calls import Calls, Leave, Superseded
from hodei.providers.fake.http import Server


class SimulatedAgent:
    """One worker's agent; :meth:`run` ends with its exit code."""

    def __init__(self, server: Server, worker_id: str, one_time_token: str) -> None:
        self._calls = Calls(server, one_time_token)
        self._worker_id = worker_id
        self._running: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._known: set[str] = set()
        self._ends: dict[str, str] = {}
        self._left: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._max_jobs = 1
        self._draining = False

    async def run(self) -> int:
        """Live until told to leave, or until the platform does not want it any more."""
        tasks: list[asyncio.Task[None]] = []
        try:
            settings = await self._register()
            self._max_jobs = int(settings.get("max_jobs", 1))
            tasks = [
                asyncio.create_task(self._guard(self._poll(float(settings.get("poll_s", 25.0))))),
                asyncio.create_task(self._guard(self._beat(float(settings["heartbeat_interval_s"])))),
            ]
            return await self._left
        except Leave as leave:
            return leave.exit_code
        finally:
            for task in [*tasks, *(task for _, task in self._running.values())]:
                task.cancel()

    async def leave(self) -> None:
        """As the real agent at SIGTERM: its job ends as `worker_stopped`, is reported, and the agent goes."""
        self._draining = True
        for execution_id in list(self._running):
            self._end(execution_id, "worker_stopped")
        if not self._running:
            await self._goodbye("sigterm")

    async def _register(self) -> dict[str, Any]:
        session_token = secrets.token_urlsafe(32)
        answer = await self._calls.json("POST", "register", {
            "worker_id": self._worker_id, "protocol": PROTOCOL_VERSION, "agent_version": AGENT_VERSION,
            "session_token": session_token, "hostname": "fleet", "pid": 1, "boot_id": "fleet", "python": "simulated",
            "shells": ["sh"], "cgroup": 0,
        })  # fmt: skip
        self._calls.token = session_token
        return answer

    async def _guard(self, life: Any) -> None:
        """Run a part of the agent; what ends it ends the agent."""
        try:
            await life
        except Leave as leave:
            self._go(leave.exit_code)
        except Superseded:
            self._go(4)

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
            self._begin(message["execution"])
        elif kind == "cancel" and message["execution_id"] in self._running:
            if self._running[message["execution_id"]][0] == message["fence"]:
                self._end(message["execution_id"], message.get("reason") or "cancelled")
        elif kind == "drain":
            self._draining = True
            if not self._running:
                await self._goodbye("drained")
        elif kind == "shutdown":
            await self.leave()

    async def _beat(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            running = [{"id": id_, "fence": fence} for id_, (fence, _) in self._running.items()]
            answer = await self._calls.json("POST", "heartbeat", {
                "executions": running, "cpu_s": 0.0, "cpu_fraction": 0.0, "memory_bytes": 0,
                "memory_limit_bytes": None, "spool_bytes": 0,
            })  # fmt: skip
            for execution_id in answer.get("stale") or ():
                if execution_id in self._running:
                    self._running[execution_id][1].cancel()

    def _begin(self, execution: dict[str, Any]) -> None:
        execution_id = execution["execution_id"]
        if execution_id not in self._known and not self._draining:
            self._known.add(execution_id)
            task = asyncio.create_task(self._guard(self._execute(execution)))
            self._running[execution_id] = (execution["fence"], task)

    def _end(self, execution_id: str, outcome: str) -> None:
        """Let a running execution end so; it notices when it next waits."""
        waiting = self._ends.get(execution_id)
        if waiting is None:
            self._ends[execution_id] = outcome
            event = self._wakes.get(execution_id)
            if event is not None:
                event.set()

    async def _goodbye(self, reason: str) -> None:
        with contextlib.suppress(Leave, Superseded):
            await self._calls.json("POST", "goodbye", {"reason": reason})
        self._go(0)
