"""``hodei serve``: open the ports, then the platform, then answer until SIGTERM."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from hodei.api.guard import check_exposure
from hodei.api.listeners import Dispatcher, Listener, listen
from hodei.errors import PortTaken
from hodei.observability.logs import configure_logging
from hodei.settings import Settings

if TYPE_CHECKING:
    from hodei.ports import Platform
    from hodei.services.presence import Presence

STACK_BYTES = 512 * 1024
AgentBinds = Iterable[tuple[str, int]] | Callable[["Platform"], Iterable[tuple[str, int]]]

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
    from hodei.bootstrap import bridge_binds, open_platform
    from hodei.sagas.engine import new_owner
    from hodei.services.presence import Presence

    platform = open_platform(settings, role=services[0] if len(services) == 1 else "all")
    door: Presence | None = None
    try:
        if "worker-manager" in services:
            listeners += _open_agent_listeners(platform, listeners, agent_binds or bridge_binds)
            door = Presence(platform.database, "door", new_owner()).start()
        _serve(platform, services, listeners, ready_file)
    finally:
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


def _open_agent_listeners(platform: Platform, own: list[Listener], binds: AgentBinds) -> list[Listener]:
    """Where workers come from. An address that cannot be opened is said, and does not stop the service."""
    manager = next(listener for listener in own if listener.service == "worker-manager")
    opened: list[Listener] = []
    for host, port in binds(platform) if callable(binds) else binds:
        if manager.is_wildcard and port in (0, manager.port):
            continue
        try:
            opened.append(listen("worker-manager", host, port or manager.port, agents_only=True))
        except PortTaken as error:
            log.warning("agents cannot be listened for", address=f"{host}:{port}", reason=error.message)
    return opened


def _serve(
    platform: Platform, services: Sequence[str], listeners: Sequence[Listener], ready_file: Path | None
) -> None:
    from hodei.api.app import create_app
    from hodei.api.server import Server
    from hodei.observability.memory import give_back_memory
    from hodei.observability.metrics import HttpMetrics

    threading.stack_size(STACK_BYTES)
    metrics = HttpMetrics()
    ports = {listener.service: listener.port for listener in listeners if not listener.agents_only}
    apps = {service: create_app(platform, service, metrics=metrics, ports=ports) for service in services}
    server = Server(
        Dispatcher(apps, listeners),
        listeners,
        threads=platform.settings.http_threads,
        stopping=platform.wakeups.close,
    )
    for listener in listeners:
        log.info(
            "listening",
            url=_url(listener),
            listens_for="agents" if listener.agents_only else listener.service,
        )
    give_back_memory()
    if ready_file is not None:
        _write_ready_file(ready_file, listeners)
    server.serve()
    log.info("stopped")


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
