"""Where agents come in: a door that cannot be opened now is opened later."""

from __future__ import annotations

import socket
from types import SimpleNamespace

from hodei.api.listeners import listen
from hodei.api.serve import AgentDoors


def test_a_door_whose_port_was_taken_is_opened_when_it_is_free() -> None:
    # given
    manager = listen("worker-manager", "127.0.0.1", 0)
    holder = socket.create_server(("127.0.0.7", 0))
    port = holder.getsockname()[1]
    doors = AgentDoors(SimpleNamespace(), [manager], [("127.0.0.7", port, True)])  # type: ignore[arg-type]
    assert doors.open() == []

    # when
    holder.close()
    (opened,) = doors.open()

    # then
    assert (opened.host, opened.port, opened.agents_only, opened.shared) == ("127.0.0.7", port, True, True)
    assert doors.open() == []
    opened.socket.close()
    manager.socket.close()
