"""The sockets that a process listens on, and which service answers on which.

A request belongs to the listener that it came through, known by the listener's own address and never by
what the request says. On an agents' listener nothing but ``/api/v1/agent/`` exists.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hodei.api.port_holder import process_listening_on
from hodei.api.problems import problem
from hodei.api.serialise import PROBLEM_TYPE, to_json
from hodei.errors import PortTaken

AGENT_PREFIX = "/api/v1/agent/"
ENVIRON_KEY = "hodei.listener"
IP_FREEBIND = 15
"""Linux, ip(7): an address may be bound that this machine does not have yet."""

BACKLOG = 2048


@dataclass(frozen=True, kw_only=True)
class Listener:
    """An open socket and what it is for. ``shared``: many workers may come from one address (a Kubernetes node)."""

    service: str
    socket: socket.socket
    agents_only: bool = False
    shared: bool = False

    @property
    def host(self) -> str:
        return self.socket.getsockname()[0]

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    @property
    def is_wildcard(self) -> bool:
        """True when it takes connections to any of this host's addresses."""
        return self.host in ("0.0.0.0", "::")


def listen(
    service: str, host: str, port: int, *, agents_only: bool = False, shared: bool = False
) -> Listener:
    """Open a socket; port 0 is any free one. Raises PortTaken, naming the setting and what holds the port."""
    variable = f"HODEI_{service.upper().replace('-', '_')}_PORT"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        sentence = f"HODEI_BIND={host} is not an address of this machine: {error.strerror}."
        raise PortTaken(sentence, field="HODEI_BIND") from None
    family, kind, protocol, _, address = found[0]
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited: head and body are sent apart
    if agents_only and sys.platform == "linux":
        opened.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)  # Docker's bridge may come up after us
    try:
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise PortTaken(_refusal(service, host, port, variable, error), field=variable) from None
    return Listener(service=service, socket=opened, agents_only=agents_only, shared=shared)


def _refusal(service: str, host: str, port: int, variable: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = process_listening_on(port)
        by = f" by {holder}" if holder else ""
        return f"Port {port} for {service} is taken{by}: stop that, or choose another with {variable}."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be opened by this user: choose one above 1023 with {variable}."
    return f"{service} cannot listen on {host}:{port} ({error.strerror}): check HODEI_BIND and {variable}."


class Dispatcher:
    """One WSGI application for a process with several listeners."""

    def __init__(self, apps: Mapping[str, Callable[..., Any]], listeners: Iterable[Listener]) -> None:
        self._apps = dict(apps)
        self._listeners: dict[tuple[str, str], Listener] = {}
        for listener in listeners:
            self.add(listener)

    def add(self, listener: Listener) -> None:
        """Answer what comes through this one, too."""
        self._listeners[listener.host, str(listener.port)] = listener

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        listener = self._listeners.get((environ["SERVER_NAME"], environ["SERVER_PORT"]))
        if listener is None or (listener.agents_only and not environ["PATH_INFO"].startswith(AGENT_PREFIX)):
            return _nothing_here(start_response)
        environ[ENVIRON_KEY] = listener
        return self._apps[listener.service](environ, start_response)


def _nothing_here(start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = to_json(problem(404, "not_found", "There is nothing here but what agents call.")).encode()
    start_response("404 Not Found", [("Content-Type", PROBLEM_TYPE), ("Content-Length", str(len(body)))])
    return [body]
