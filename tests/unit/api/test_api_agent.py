from __future__ import annotations

from uuid import UUID

import pytest
from hodei_agent.protocol import FRAMES_CONTENT_TYPE

from hodei.errors import StaleAttempt

EXECUTION = UUID("0196a3c4-0000-7000-8000-0000000000e1")
WORKER = UUID("0196a3c4-0000-7000-8000-0000000000f1")
BASE = "/api/v1/agent"
SESSION = {"Authorization": "Bearer session", "Hodei-Protocol": "1"}
REGISTRATION = {
    "worker_id": str(WORKER),
    "protocol": 1,
    "agent_version": "0.1.0",
    "session_token": "a" * 43,
    "hostname": "h",
    "pid": 1,
    "boot_id": "b",
    "python": "3.11.2",
    "shells": ["sh"],
    "cgroup": 1,
    "future": {"x": 1},
}


@pytest.fixture
def manager(client, calls):
    calls.answer("agents.authenticate", lambda token: f"agent of {token}")
    return client("worker-manager")


def test_an_agent_registers_with_its_one_time_token(manager, calls):
    calls.answer("agents.register", {"worker_id": str(WORKER), "lease_s": 270.0})

    response = manager.post(f"{BASE}/register", json=REGISTRATION, headers={"Authorization": "Bearer once"})

    assert response.json["lease_s"] == 270.0
    worker_id, token, registration = calls.seen["register"][0]
    assert (worker_id, token) == (WORKER, "once")
    assert registration["shells"] == ["sh"]
    assert "future" not in registration


@pytest.mark.parametrize("protocol", ["2", "17"])
def test_an_agent_that_speaks_a_newer_protocol_is_told_so(manager, protocol):
    by_header = manager.get(f"{BASE}/inbox", headers=SESSION | {"Hodei-Protocol": protocol})
    by_body = manager.post(
        f"{BASE}/register", json=REGISTRATION | {"protocol": int(protocol)}, headers=SESSION
    )

    assert (by_header.status_code, by_body.status_code) == (426, 426)


def test_without_a_token_no_agents_route_answers(manager):
    for path in ("heartbeat", "goodbye", f"executions/{EXECUTION}/accept"):
        response = manager.post(f"{BASE}/{path}", json={"fence": 1, "reason": "done"})
        assert (response.status_code, response.json["code"]) == (401, "unauthorized")


def test_the_operators_token_opens_nothing_here_and_is_not_wanted(client, calls):
    calls.answer("agents.authenticate", lambda token: token)
    calls.answer("agents.poll_inbox", [])

    response = client("worker-manager", api_token="operators").get(f"{BASE}/inbox", headers=SESSION)

    assert response.status_code == 200
    assert calls.seen["authenticate"][0] == ("session",)


def test_the_inbox_is_waited_at(manager, calls):
    calls.answer("agents.poll_inbox", [{"seq": 4, "kind": "drain"}])

    response = manager.get(f"{BASE}/inbox?after=3&wait_s=25", headers=SESSION)

    assert response.json == {"messages": [{"seq": 4, "kind": "drain"}]}
    assert calls.seen["poll_inbox"][0] == ("agent of session", 3, 25.0)


def test_a_superseded_attempt_is_told_so(manager, calls):
    calls.answer("agents.accept", StaleAttempt())

    response = manager.post(f"{BASE}/executions/{EXECUTION}/accept", json={"fence": 1}, headers=SESSION)

    assert (response.status_code, response.json["code"]) == (409, "stale_attempt")


def test_started_and_heartbeat_and_goodbye_reach_their_use_cases(manager, calls):
    for name in ("started", "heartbeat", "goodbye"):
        calls.answer(f"agents.{name}", {"lease_s": 1.0})
    started = {"fence": 2, "pid": 12, "at": 1_700_000_000_000_000}
    beat = {"executions": [{"id": str(EXECUTION), "fence": 2}], "cpu_s": 1.5, "memory_bytes": 10, "new": 1}

    assert (
        manager.post(f"{BASE}/executions/{EXECUTION}/started", json=started, headers=SESSION).status_code
        == 200
    )
    assert manager.post(f"{BASE}/heartbeat", json=beat, headers=SESSION).status_code == 200
    assert manager.post(f"{BASE}/goodbye", json={"reason": "done"}, headers=SESSION).status_code == 200
    assert calls.seen["started"][0][1:] == (EXECUTION, 2, 12, 1_700_000_000_000_000)
    assert calls.seen["heartbeat"][0][1]["executions"] == [{"id": EXECUTION, "fence": 2}]
    assert calls.seen["goodbye"][0][1] == "done"


def test_frames_go_through_as_they_are(manager, calls):
    stored = {"acknowledged": 7, "entries": 3, "bytes": 12}
    calls.answer("agents.store_frames", stored)
    headers = SESSION | {"Content-Type": FRAMES_CONTENT_TYPE}

    response = manager.post(f"{BASE}/executions/{EXECUTION}/frames?fence=3", data=b"\0\xff", headers=headers)

    assert response.json == stored
    assert calls.seen["store_frames"][0][1:] == (EXECUTION, 3, b"\0\xff")


def test_four_mebibytes_of_frames_are_taken_and_five_are_not(manager, calls):
    calls.answer("agents.store_frames", {"acknowledged": 1, "entries": 0, "bytes": 0})
    headers = SESSION | {"Content-Type": FRAMES_CONTENT_TYPE}
    path = f"{BASE}/executions/{EXECUTION}/frames?fence=1"

    assert manager.post(path, data=bytes(4 * 1024**2), headers=headers).status_code == 200
    assert manager.post(path, data=bytes(5 * 1024**2), headers=headers).status_code == 413


def test_frames_that_say_they_are_json_are_refused(manager):
    path = f"{BASE}/executions/{EXECUTION}/frames?fence=1"

    assert manager.post(path, json={}, headers=SESSION).status_code == 415


def test_a_result_is_given_on_without_what_a_database_cannot_hold(manager, calls):
    calls.answer("agents.report_result", {})
    result = {"fence": 1, "outcome": "exited", "exit_code": 1, "error_message": "a\0b", "last_frame": 7}

    response = manager.post(f"{BASE}/executions/{EXECUTION}/result", json=result, headers=SESSION)

    assert response.status_code == 200
    given = calls.seen["report_result"][0][3]
    assert (given["outcome"], given["error_message"]) == ("exited", "a\ufffdb")


def test_a_message_of_any_length_is_no_obstacle_to_a_result(manager, calls):
    calls.answer("agents.report_result", {})
    result = {"fence": 1, "outcome": "not_started", "error_message": "x" * 20_000, "last_frame": 0}

    response = manager.post(f"{BASE}/executions/{EXECUTION}/result", json=result, headers=SESSION)

    assert response.status_code == 200
    given = calls.seen["report_result"][0][3]["error_message"]
    assert given == "x" * 8191 + "…"


def test_a_result_without_the_last_frame_is_refused(manager):
    result = {"fence": 1, "outcome": "exited", "exit_code": 0}

    response = manager.post(f"{BASE}/executions/{EXECUTION}/result", json=result, headers=SESSION)

    assert (response.status_code, response.json["field"]) == (422, "last_frame")


def test_agents_routes_are_at_worker_manager_alone(client):
    assert client("orchestrator").get(f"{BASE}/inbox", headers=SESSION).status_code == 404
