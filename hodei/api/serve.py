"""``hodei serve``: open the ports, then the platform, then answer until SIGTERM."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from hodei.api.listeners import Dispatcher, Listener, listen
from hodei.errors import HodeiError, PortTaken
from hodei.exposure import check_exposure
from hodei.observability.logs import configure_logging
from hodei.settings import Settings

if TYPE_CHECKING:
    from hodei.ports import Platform
    from hodei.services.presence import Presence

STACK_BYTES = 512 * 1024
LOOK_FOR_DOORS_S = 5.0
"""How often the addresses where workers come from are asked for again."""

AgentBind = tuple[str, int] | tuple[str, int, bool]
"""Host, port, and whether many workers may come from one address there."""

AgentBinds = Iterable[AgentBind] | Callable[["Platform"], Iterable[AgentBind]]

log = structlog.get_logger("hodei.server")


def run(
    settings: Settings,
    services: Sequence[str],
    *,
    agent_binds: AgentBinds | None = None,
    ready_file: Path | None = None,
) -> None:
    """Serve one or more of ``orchestrator``, ``scheduler``, ``worker-manager`` from here until SIGTERM.

    ``agent_binds`` are further addresses on which agents, and nobody else, find worker-manager: a list, or a
    function that is called with the open platform; port 0 there is worker-manager's own. ``ready_file`` gets
    ``{"pid": …, "orchestrator": "http://…", …, "agents": […]}`` once requests are answered.
    Raises ConfigurationError or PortTaken before anything else is started.
    """
    check_exposure(settings)
    listeners = open_listeners(settings, services)
    configure_logging(settings.log_format, service=services[0] if len(services) == 1 else "all")
    from hodei.bootstrap import open_platform
    from hodei.doors import bridge_binds
    from hodei.sagas.engine import new_owner
    from hodei.services.presence import Presence

    platform = open_platform(settings, role=services[0] if len(services) == 1 else "all")
    door: Presence | None = None
    agent_doors: AgentDoors | None = None
    try:
        if "worker-manager" in services:
            agent_doors = AgentDoors(platform, listeners, agent_binds or bridge_binds)
            listeners += agent_doors.open()
            door = Presence(platform.database, "door", new_owner()).start()
        _serve(platform, services, listeners, ready_file, agent_doors)
    finally:
        if agent_doors is not None:
            agent_doors.close()
        if door is not None:
            door.stop()
        platform.close()
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
    _leave()


def open_listeners(settings: Settings, services: Sequence[str]) -> list[Listener]:
    """The services' own ports, all or none. Raises PortTaken."""
    ports = {
        "orchestrator": settings.orchestrator_port,
        "scheduler": settings.scheduler_port,
        "worker-manager": settings.worker_manager_port,
    }
    listeners: list[Listener] = []
    try:
        for service in services:
            listeners.append(listen(service, settings.bind, ports[service]))
    except PortTaken:
        for opened in listeners:
            opened.socket.close()
        raise
    return listeners


class AgentDoors:
    """The addresses where workers come from. They are asked for again and again: Docker may come up after us, elsewhere than it
    usually is, and a provider may be added."""

    def __init__(self, platform: Platform, own: Sequence[Listener], binds: AgentBinds) -> None:
        self._platform = platform
        self._manager = next(listener for listener in own if listener.service == "worker-manager")
        self._binds = binds
        self._known: set[tuple[str, int]] = set()
        self._refused: set[tuple[str, int]] = set()
        self._closing = threading.Event()

    def open(self) -> list[Listener]:
        """Open those that are new. One that cannot be opened is said, once, tried again, and does not stop the service."""
        opened: list[Listener] = []
        binds = self._binds
        for host, port, *shared in binds(self._platform) if callable(binds) else binds:
            address = (host, port or self._manager.port)
            if address in self._known or (self._manager.is_wildcard and address[1] == self._manager.port):
                continue
            try:
                opened.append(listen("worker-manager", *address, agents_only=True, shared=any(shared)))
                self._known.add(address)
            except PortTaken as error:
                say = log.debug if address in self._refused else log.warning
                say("agents cannot be listened for", address=f"{host}:{address[1]}", reason=error.message)
                self._refused.add(address)
        return opened

    def watch(self, opened: Callable[[Listener], None]) -> None:
        """Look for new ones from now on, in a thread; ``opened`` is called with each."""
        threading.Thread(target=self._watch, args=(opened,), name="agent doors", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def _watch(self, opened: Callable[[Listener], None]) -> None:
        while not self._closing.wait(LOOK_FOR_DOORS_S):
            try:
                for listener in self.open():
                    opened(listener)
                    _say(listener)
            except HodeiError as error:  # the database is away
                log.debug("agent doors not looked for", reason=error.message)


def _serve(
    platform: Platform,
    services: Sequence[str],
    listeners: Sequence[Listener],
    ready_file: Path | None,
    agent_doors: AgentDoors | None,
) -> None:
    from hodei.api.app import create_app
    from hodei.api.server import Server
    from hodei.observability.memory import ShortPauses, give_back_memory
    from hodei.observability.metrics import HttpMetrics
    from hodei.observability.page import PlatformFigures
    from hodei.services import figures

    threading.stack_size(STACK_BYTES)
    metrics, read = HttpMetrics(), PlatformFigures(lambda: figures.read(platform))
    ports = {listener.service: listener.port for listener in listeners if not listener.agents_only}
    apps = {
        service: create_app(platform, service, metrics=metrics, figures=read, ports=ports)
        for service in services
    }
    dispatcher = Dispatcher(apps, listeners)
    server = Server(
        dispatcher,
        listeners,
        threads=platform.settings.http_threads,
        stopping=platform.wakeups.close,
    )
    for listener in listeners:
        _say(listener)

    def opened(listener: Listener) -> None:
        dispatcher.add(listener)
        server.add(listener)

    if agent_doors is not None:
        agent_doors.watch(opened)
    give_back_memory()
    ShortPauses().start()
    if ready_file is not None:
        _write_ready_file(ready_file, listeners)
    server.serve()
    log.info("stopped")


def _say(listener: Listener) -> None:
    listens_for = "agents" if listener.agents_only else listener.service
    log.info("listening", url=_url(listener), listens_for=listens_for)


def _write_ready_file(path: Path, listeners: Sequence[Listener]) -> None:
    document: dict[str, object] = {"pid": os.getpid()}
    document |= {listener.service: _url(listener) for listener in listeners if not listener.agents_only}
    document["agents"] = [_url(listener) for listener in listeners if listener.agents_only]
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(document))
    fresh.replace(path)


def _url(listener: Listener) -> str:
    host = "127.0.0.1" if listener.is_wildcard else listener.host
    return f"http://[{host}]:{listener.port}" if ":" in host else f"http://{host}:{listener.port}"


def _leave() -> None:
    """End now when a request outlived the grace: its thread would hold the process as long as it likes."""
    alive = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon
    ]
    if alive:
        log.debug("leaving threads behind", count=len(alive))
        os._exit(0)
