from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

ALL = "orchestrator,scheduler,worker-manager"
AGENT = {"Authorization": "Bearer session"}
PSS_LIMIT_KB = 80_000


def get(port: int, path: str, host: str = "127.0.0.1", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def eventually(fact: Callable[[], bool], within_s: float = 20.0) -> None:
    give_up = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def waiting_agent(port: int, wait_s: int = 60) -> socket.socket:
    agent = socket.create_connection(("127.0.0.1", port), timeout=10)
    lines = [
        f"GET /api/v1/agent/inbox?wait_s={wait_s} HTTP/1.1",
        "Host: localhost",
        "Authorization: Bearer a",
        "",
        "",
    ]
    agent.sendall("\r\n".join(lines).encode())
    return agent


def pss_kb(pid: int) -> int:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))


def test_three_services_answer_from_one_process_each_on_its_port(serve):
    served = serve(ALL)

    for service in ALL.split(","):
        status, _, body = get(served.port(service), "/health")
        assert status == 200
        assert f'"service":"{service}"'.encode() in body
        for sibling in ALL.split(","):
            assert served.url(sibling).encode() in body


@pytest.mark.skipif(sys.platform != "linux", reason="smaps_rollup is Linux's")
@pytest.mark.parametrize("service", ALL.split(","))
def test_an_idle_service_is_small(serve, service):
    served = serve(service)

    assert get(served.port(service), "/health")[0] == 200
    assert pss_kb(served.process.pid) <= PSS_LIMIT_KB


def test_on_the_agents_address_there_is_nothing_but_what_agents_call(serve):
    served = serve("worker-manager", "127.0.0.2")
    port = served.port("worker-manager")

    for path in ("/health", "/metrics", "/api/v1/workers", "/openapi.json", "/swagger-ui", "/api/v1/agent"):
        status, headers, _ = get(port, path, "127.0.0.2", Host=f"localhost:{port}")
        assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    assert get(port, "/api/v1/agent/inbox", "127.0.0.2", Host="host.docker.internal:8082", **AGENT)[0] == 200
    assert get(port, "/api/v1/agent/inbox", "127.0.0.1", **AGENT)[0] == 200


def test_an_agents_address_that_becomes_known_later_is_listened_on_then(serve, tmp_path):
    docker_is_up = tmp_path / "up"
    served = serve("worker-manager", "127.0.0.2", f"127.0.0.3@{docker_is_up}")
    port = served.port("worker-manager")
    assert get(port, "/api/v1/agent/inbox", "127.0.0.2", **AGENT)[0] == 200
    with pytest.raises(ConnectionRefusedError):
        get(port, "/health", "127.0.0.3")

    docker_is_up.touch()

    def answers() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            return get(port, "/api/v1/agent/inbox", "127.0.0.3", **AGENT)[0] == 200
        return False

    eventually(answers)
    assert get(port, "/health", "127.0.0.3")[0] == 404
    assert get(port, "/api/v1/agent/inbox", "127.0.0.2", **AGENT)[0] == 200
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(5) == 0


def test_headers_that_a_proxy_would_send_do_not_move_a_request(serve):
    served = serve("worker-manager", "127.0.0.2")
    port = served.port("worker-manager")
    forged = {"X-Forwarded-Host": "127.0.0.1", "SCRIPT_NAME": "/api/v1/agent", "X-Forwarded-Prefix": "/x"}

    status, _, _ = get(port, "/api/v1/agent/../workers", "127.0.0.2", **forged)

    assert status in (400, 404)


def test_a_thousand_waiting_agents_do_not_slow_other_requests(serve):
    served = serve("worker-manager")
    port = served.port("worker-manager")
    tasks = Path(f"/proc/{served.process.pid}/task")

    def took_s(_: int) -> float:
        began = time.perf_counter()
        assert get(port, "/health")[0] == 200
        return time.perf_counter() - began

    def p99_s() -> float:
        with ThreadPoolExecutor(4) as pool:
            return sorted(pool.map(took_s, range(300)))[297]

    with contextlib.ExitStack() as agents:
        for _ in range(1000):
            agents.enter_context(waiting_agent(port))
        eventually(lambda: len(list(tasks.iterdir())) > 1000)

        best_s = min(p99_s() for _ in range(3))  # what others do on this machine is not the server's
        assert best_s <= 0.1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_whoever_waits_and_is_over_within_two_seconds(serve, number):
    served = serve(ALL)
    agents = [waiting_agent(served.port("worker-manager")) for _ in range(20)]
    idle = HTTPConnection("127.0.0.1", served.port("orchestrator"), timeout=5)
    idle.request("GET", "/health")
    idle.getresponse().read()
    silent = socket.create_connection(("127.0.0.1", served.port("scheduler")))
    time.sleep(0.2)

    began = time.monotonic()
    served.process.send_signal(number)

    for agent in agents:
        assert agent.recv(65536).startswith(b"HTTP/1.1 200 OK")
        agent.close()
    assert served.process.wait(5) == 0
    assert time.monotonic() - began < 2.0
    assert "platform closed" in served.errors.read_text()
    with pytest.raises(ConnectionRefusedError):
        get(served.port("orchestrator"), "/health")
    idle.close()
    silent.close()


def test_what_is_not_http_is_answered_as_a_problem(serve):
    served = serve("orchestrator")

    with socket.create_connection(("127.0.0.1", served.port("orchestrator")), timeout=5) as strange:
        strange.sendall(b"NONSENSE\r\n\r\n")
        answer = strange.recv(65536)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_a_body_that_is_too_large_is_answered_although_it_is_still_being_sent(serve):
    served = serve("orchestrator")
    connection = HTTPConnection("127.0.0.1", served.port("orchestrator"), timeout=10)

    connection.request("POST", "/api/v1/jobs", b" " * 3_000_000, {"Content-Type": "application/json"})
    response = connection.getresponse()

    assert response.status == 413
    assert b'"code":"payload_too_large"' in response.read()
    connection.close()


def test_a_body_without_a_length_is_bounded_too(serve):
    served = serve("orchestrator")
    connection = HTTPConnection("127.0.0.1", served.port("orchestrator"), timeout=10)

    pieces = (b" " * 100_000 for _ in range(30))
    connection.request(
        "POST", "/api/v1/jobs", pieces, {"Content-Type": "application/json"}, encode_chunked=True
    )

    assert connection.getresponse().status == 413
    connection.close()


def test_a_taken_port_is_one_sentence_with_the_setting_and_the_holder(tmp_path, command, environment):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        ended = subprocess.run(
            [*command, str(tmp_path / "ready"), ALL],
            env=environment(HODEI_SCHEDULER_PORT=port),
            capture_output=True,
            text=True,
            timeout=30,
        )

    assert ended.returncode == 3
    sentences = ended.stderr.strip().splitlines()
    assert len(sentences) == 1
    assert port in sentences[0]
    assert "HODEI_SCHEDULER_PORT" in sentences[0]
    assert f"(pid {os.getpid()})" in sentences[0]
    assert "platform opened" not in ended.stderr


def test_an_open_door_to_the_network_is_refused_before_anything_starts(tmp_path, command, environment):
    ended = subprocess.run(
        [*command, str(tmp_path / "ready"), ALL],
        env=environment(HODEI_BIND="0.0.0.0"),
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 2
    assert "HODEI_API_TOKEN" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_server_outlives_the_shell_that_started_it(tmp_path, command, environment):
    ready = tmp_path / "ready.json"
    line = " ".join([*command, str(ready), "orchestrator"])
    subprocess.run(["sh", "-c", f"{line} 2>{tmp_path / 'errors'} &"], env=environment(), check=True)
    eventually(ready.exists)
    time.sleep(1.5)  # longer than the server's own look at its parent would take

    document = json.loads(ready.read_text())
    assert get(int(document["orchestrator"].rpartition(":")[2]), "/health")[0] == 200
    os.kill(document["pid"], signal.SIGTERM)
