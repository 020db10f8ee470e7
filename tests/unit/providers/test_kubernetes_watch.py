"""The informer: in step with the server, or silent; never wrong for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_script import Answer, ScriptedServer, hangs_up, kubeconfig, refuses, says, scripted, streams
from support.waiting import until

from hodei.providers.kubernetes import watch
from hodei.providers.kubernetes.api import ApiServer
from hodei.providers.kubernetes.watch import PodWatch


def pod(name: str, version: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"u-{name}", "resourceVersion": version},
        "status": {"phase": phase},
    }


def pods(version: str, *items: dict[str, Any]) -> Answer:
    return says({"kind": "PodList", "metadata": {"resourceVersion": version}, "items": list(items)})


def event(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": document}


class Watched:
    """A watch over a scripted server."""

    def __init__(self, folder: Path, server: ScriptedServer) -> None:
        self.server = server
        self.watch = PodWatch(ApiServer(kubeconfig(folder, server.url), None, timeout_s=5), "/pods", "a=b")

    def names(self) -> list[str] | None:
        found = self.watch.pods()
        return None if found is None else sorted(each["metadata"]["name"] for each in found)

    def shows(self, *names: str) -> None:
        until(lambda: self.names() == list(names), within_s=15, what=f"the watch to show {names}")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SHORTEST_S", 0.0)
    monkeypatch.setattr(watch, "LONGEST_PAUSE_S", 0.02)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set at the test's end: watches that last that long end then."""
    ended = threading.Event()
    yield ended
    ended.set()


def lasting(over: threading.Event, *events: dict[str, Any]) -> Answer:
    return streams(*events, then=lambda: over.wait(30))


def asks(server: ScriptedServer) -> list[str]:
    return ["watch" if "watch=1" in request["path"] else "list" for request in server.asked]


def test_it_lists_and_then_follows(tmp_path: Path, over: threading.Event, quick: None) -> None:
    events = [
        event("ADDED", pod("b", "6")),
        event("MODIFIED", pod("a", "7", "Failed")),
        event("DELETED", pod("b", "8")),
        event("ADDED", pod("c", "9")),
        event("BOOKMARK", {"metadata": {"resourceVersion": "12"}}),
    ]
    with scripted(pods("5", pod("a", "3")), lasting(over, *events)) as server:
        seen = Watched(tmp_path, server)
        assert seen.names() is None, "nothing is known before the first list"

        seen.shows("a", "c")

        [_, followed] = [request["path"] for request in server.asked]
        assert (
            "resourceVersion=5" in followed
            and "timeoutSeconds=60" in followed
            and "labelSelector=a%3Db" in followed
        )
        last = seen.watch.last_seen("b")
        assert last is not None and last["metadata"]["uid"] == "u-b"
        assert seen.watch.last_seen("a") is None
        seen.watch.stop()
        over.set()


def test_a_watch_that_the_server_ends_goes_on_where_it_was(
    tmp_path: Path, over: threading.Event, quick: None
) -> None:
    with scripted(
        pods("5"), streams(event("ADDED", pod("a", "8"))), lasting(over, event("ADDED", pod("b", "9")))
    ) as server:
        seen = Watched(tmp_path, server)

        seen.names()
        seen.shows("a", "b")

        assert asks(server) == ["list", "watch", "watch"]
        assert "resourceVersion=8" in server.asked[2]["path"]
        seen.watch.stop()
        over.set()


@pytest.mark.parametrize(
    "broken",
    [
        streams(event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})),
        refuses(410, "Expired"),
        refuses(500, "InternalError"),
        hangs_up,
    ],
    ids=["410 in the stream", "410", "500", "cut"],
)
def test_after_an_error_it_lists_anew_and_notes_who_went_meanwhile(
    tmp_path: Path, over: threading.Event, quick: None, broken: Answer
) -> None:
    again = pods("20", pod("b", "19"))
    with scripted(pods("5", pod("a", "3")), broken, again, lasting(over)) as server:
        seen = Watched(tmp_path, server)

        seen.names()
        seen.shows("b")

        assert asks(server)[:3] == ["list", "watch", "list"] or asks(server)[:4] == [
            "list",
            "watch",
            "watch",
            "list",
        ]
        assert seen.watch.last_seen("a") is not None
        seen.watch.stop()
        over.set()


def test_silence_ends_the_watch_and_what_it_knew_is_old(
    tmp_path: Path, over: threading.Event, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that died without a word: the server believes that it watches, and says nothing."""
    monkeypatch.setattr(watch, "SILENCE_S", 0.2)
    with scripted(pods("5", pod("a", "3")), lasting(over), pods("9", pod("b", "8")), lasting(over)) as server:
        seen = Watched(tmp_path, server)

        seen.names()
        seen.shows("b")

        assert asks(server)[:3] == ["list", "watch", "list"]
        seen.watch.stop()
        over.set()


def test_while_the_server_is_away_nothing_is_known(
    tmp_path: Path, over: threading.Event, quick: None
) -> None:
    back = threading.Event()

    def away(handler: Any, request: dict[str, Any]) -> None:
        well = lasting(over) if "watch=1" in request["path"] else pods("9", pod("a", "8"))
        (well if back.is_set() else refuses(503, "ServiceUnavailable"))(handler, request)

    with scripted(pods("5", pod("a", "3")), streams(), away) as server:
        seen = Watched(tmp_path, server)
        seen.names()
        server.wait_for(3)
        until(lambda: seen.names() is None, what="the watch to be out of step")

        back.set()

        seen.shows("a")
        seen.watch.stop()
        over.set()


def test_a_watch_that_nobody_asks_any_more_ends(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handler: Any, request: dict[str, Any]) -> None:
        (streams() if "watch=1" in request["path"] else pods("5", pod("a", "3")))(handler, request)

    with scripted(answer) as server:
        seen = Watched(tmp_path, server)
        seen.names()
        seen.shows("a")
        monkeypatch.setattr(watch, "UNUSED_S", 0.0)

        until(
            lambda: seen.watch._thread is not None and not seen.watch._thread.is_alive(),
            what="its thread's end",
        )

        monkeypatch.setattr(watch, "UNUSED_S", 60.0)
        assert seen.names() is None, "what it knew is old"
        seen.shows("a")
        seen.watch.stop()
