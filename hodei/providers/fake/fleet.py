"""The fleet: one process that holds all simulated workers, asked in lines of JSON over a Unix socket.

``python -m hodei.providers.fake.fleet --socket PATH``. Only one runs per socket. It ends by itself after a
minute without workers and without questions.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hodei.providers.fake.agent import SimulatedAgent
from hodei.providers.fake.http import Server

IDLE_S = 60.0


@dataclass
class Worker:
    """One simulated worker. ``state`` is a word of the contract's ResourceState."""

    worker_id: str
    deployment: str
    state: str = "starting"
    exit_code: int | None = None
    agent: SimulatedAgent | None = None
    life: asyncio.Task[None] | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)

    def view(self) -> dict[str, Any]:
        return {
            "worker_id": self.worker_id,
            "state": self.state,
            "exit_code": self.exit_code,
            "resource_id": f"fake-{self.worker_id}",
        }


class Fleet:
    """All workers, whatever their deployment, and the images that were pulled."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._servers: dict[str, Server] = {}
        self._pulled: dict[str, asyncio.Event] = {}
        self.used_at = time.monotonic()
        self.over = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        return not self._workers and time.monotonic() - self.used_at > IDLE_S

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question; ``op`` is the name of a method below."""
        self.used_at = time.monotonic()
        ask = getattr(self, f"op_{question.pop('op', '')}", None)
        if ask is None:
            return {"error": "unknown op"}
        try:
            found: dict[str, Any] = await ask(**question)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return found

    async def op_start(
        self, *, worker_id: str, deployment: str, token: str, server_url: str, delay_s: float, connects: bool
    ) -> dict[str, Any]:
        worker = self._workers.get(worker_id)
        if worker is not None:
            await worker.started.wait()
            return worker.view()
        worker = self._workers[worker_id] = Worker(worker_id, deployment)
        if delay_s:
            await asyncio.sleep(delay_s)
        if self._workers.get(worker_id) is worker:
            worker.state = "running"
            worker.life = asyncio.create_task(self._live(worker, server_url, token, connects=connects))
        worker.started.set()
        return worker.view()

    async def op_inspect(self, *, worker_id: str) -> dict[str, Any]:
        worker = self._workers.get(worker_id)
        return worker.view() if worker else {"worker_id": worker_id, "state": "gone"}

    async def op_list(self, *, deployment: str) -> dict[str, Any]:
        ours = [worker.view() for worker in self._workers.values() if worker.deployment == deployment]
        return {"workers": ours}

    async def op_stop(self, *, worker_id: str, grace_s: float) -> dict[str, Any]:
        worker = self._workers.get(worker_id)
        if worker is not None:
            if grace_s and worker.agent and worker.life and not worker.life.done():
                leaving = asyncio.create_task(worker.agent.leave())
                await asyncio.wait([worker.life], timeout=grace_s)
                leaving.cancel()
            await self._kill(worker)
            self._workers.pop(worker_id, None)
        return {}

    async def op_kill(self, *, worker_id: str) -> dict[str, Any]:
        """End a worker from outside, as a crash would."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            await self._kill(worker)
            worker.state, worker.exit_code = "exited", 137
        return {}

    async def op_has_image(self, *, image: str) -> dict[str, Any]:
        event = self._pulled.get(image)
        return {"there": event is not None and event.is_set()}

    async def op_pull(self, *, image: str, pull_s: float | None, timeout_s: float) -> dict[str, Any]:
        event = self._pulled.setdefault(image, asyncio.Event())
        if pull_s is not None and pull_s <= timeout_s:
            await asyncio.sleep(pull_s)
            event.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), timeout_s)
        return {"there": event.is_set()}

    async def op_finish_pull(self, *, image: str) -> dict[str, Any]:
        self._pulled.setdefault(image, asyncio.Event()).set()
        return {}

    async def op_health(self) -> dict[str, Any]:
        return {"workers": len(self._workers), "pid": os.getpid()}

    async def op_shutdown(self) -> dict[str, Any]:
        self.over.set()
        return {}

    async def close(self) -> None:
        for worker in self._workers.values():
            await self._kill(worker)
        for server in self._servers.values():
            server.close()

    async def _live(self, worker: Worker, server_url: str, token: str, *, connects: bool) -> None:
        if not connects:
            await asyncio.Event().wait()
        server = self._servers.get(server_url)
        if server is None:
            server = self._servers[server_url] = Server(server_url)
        worker.agent = SimulatedAgent(server, worker.worker_id, token)
        worker.exit_code = await worker.agent.run()
        worker.state = "exited"

    async def _kill(self, worker: Worker) -> None:
        if worker.life is not None:
            worker.life.cancel()
            await asyncio.wait([worker.life])


async def serve(path: Path) -> None:
    """Answer at the socket until told to end, or idle."""
    fleet = Fleet()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(json.dumps(await fleet.answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(talk, path, limit=1 << 20, backlog=512)
    try:
        while not fleet.over.is_set() and not fleet.is_idle:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(fleet.over.wait(), 1.0)
    finally:
        path.unlink(missing_ok=True)
        server.close()
        await fleet.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hodei.providers.fake.fleet")
    parser.add_argument("--socket", type=Path, required=True)
    path: Path = parser.parse_args().socket
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # another fleet is there already
        path.unlink(missing_ok=True)
        asyncio.run(serve(path))


if __name__ == "__main__":
    main()
