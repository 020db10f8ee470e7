"""A way to worker-manager that can be cut and mended, as a network is: for workers whose own network nobody can take away."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

BLOCK_BYTES = 65536
RESET = struct.pack("ii", 1, 0)


class Severable:
    """Forwards what comes in at ``address`` to a port of loopback. Use it as a context manager.

    While it is cut, what comes from this machine itself goes nowhere and nobody is told, as when packets are lost:
    connections that there were stay open and silent, and so are new ones. Those from ``spared`` (containers, whose
    network Docker can take away) go on. Mended, whoever was cut off gets a reset.
    """

    def __init__(self, address: str, port: int, target_port: int, *, spared: str) -> None:
        self.address = address
        self._spared = ipaddress.ip_network(spared)
        self.port = port
        self.target_port = target_port
        self._listener = socket.create_server((address, port))
        self._guard = threading.Lock()
        self._whole = threading.Event()
        self._whole.set()
        self._cuts = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False

    @property
    def server_host(self) -> str:
        """What ``HODEI_SERVER_HOST`` is to be."""
        return f"{self.address}:{self.port}"

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._whole.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with self._guard:
            for end in self._open:
                _reset(end)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def cut(self) -> None:
        """From now on nothing of this machine's own gets through, in either direction."""
        with self._guard:
            self._cuts += 1
            self._whole.clear()

    def mend(self) -> None:
        """New connections get through again."""
        self._whole.set()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, (peer, _) = self._listener.accept()
            except OSError:
                return
            inside = ipaddress.ip_address(peer) in self._spared and peer != self.address
            self._begin(self._carry, client, not inside)

    def _begin(self, task: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=task, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _carry(self, client: socket.socket, cuttable: bool) -> None:
        if cuttable:
            self._whole.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            _reset(client)
            client.close()
            return
        with client, server:
            self._both_ways(client, server, cuttable)

    def _both_ways(self, client: socket.socket, server: socket.socket, cuttable: bool) -> None:
        with self._guard:
            cuts = self._cuts
            self._open |= {client, server}
        back = threading.Thread(target=self._pump, args=(server, client, cuts, cuttable), daemon=True)
        back.start()
        self._pump(client, server, cuts, cuttable)
        back.join()
        with self._guard:
            self._open -= {client, server}

    def _pump(self, source: socket.socket, target: socket.socket, cuts: int, cuttable: bool) -> None:
        """Until either end is closed, or a cut: then both are reset when it is mended."""
        try:
            while block := source.recv(BLOCK_BYTES):
                if cuttable and self._cuts != cuts:
                    break
                target.sendall(block)
            else:
                target.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass
        if cuttable:
            self._whole.wait()
        _reset(source)
        _reset(target)


def _reset(end: socket.socket) -> None:
    """End the connection at once; whoever reads from it in another thread wakes up."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.shutdown(socket.SHUT_RDWR)
