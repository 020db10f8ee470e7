"""Free ports, and who holds a taken one."""

from __future__ import annotations

import socket
import subprocess
import sys

from hodei.embedded.ports import free_port, is_free, port_holder


def test_a_free_port_is_free_and_held_by_nobody() -> None:
    port = free_port()

    assert is_free(port)
    assert port_holder(port) is None


def test_the_holder_of_a_port_is_named_in_a_sentence() -> None:
    server = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        port = int(process.stdout.readline())

        sentence = port_holder(port)

        process.communicate("\n")
    assert sentence is not None
    assert f"Port {port} is taken by python" in sentence
    assert f"(process {process.pid})" in sentence
    assert sentence.endswith("stop it, or choose another port.")


def test_a_port_bound_but_not_listening_is_not_free() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]

        assert not is_free(port)
        assert (
            port_holder(port) == f"Port {port} is taken by another program: stop it, or choose another port."
        )
