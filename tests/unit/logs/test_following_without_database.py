"""A stream whose database is away waits for it; it does not ask as fast as it can."""

from __future__ import annotations

import threading
from datetime import date
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from hodei.domain.states import JobState
from hodei.errors import DatabaseUnavailable
from hodei.logs.chunks import Log
from hodei.logs.feeds import Attempt, Facts, Feed
from hodei.services import following
from hodei.services.following import Following

EXECUTION = uuid4()


def facts(entries: int) -> Facts:
    log = Log(execution_id=EXECUTION, day=date(2026, 3, 1), entries=entries)
    attempt = Attempt(number=1, log=log, log_bytes=entries, log_complete=False, state="running")
    return Facts(
        state=JobState.RUNNING, exit_code=None, error_code=None, error_message=None, attempts=(attempt,)
    )


def test_while_the_database_is_away_news_make_nobody_ask_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a follower that has been told of lines that cannot be read, and news that came in the meantime
    monkeypatch.setattr(following, "NO_DATABASE_S", 0.2)
    feed, asked, third = Feed(), [0], threading.Event()
    feed.followers = 1
    feed.tell(facts(1))

    def away() -> Any:
        asked[0] += 1
        if asked[0] == 1:
            feed.tell(facts(2))
        if asked[0] == 3:
            third.set()
        raise DatabaseUnavailable()

    platform: Any = SimpleNamespace(
        wakeups=SimpleNamespace(closing=False), database=SimpleNamespace(glance=away)
    )
    follower = following._Follower(platform, Following(job_id=uuid4(), attempt=1), feed)
    reader = threading.Thread(target=lambda: list(follower.run()), daemon=True)

    # when it has asked three times
    reader.start()
    assert third.wait(20)
    asked_in_two_pauses = asked[0]
    platform.wakeups.closing = True
    feed.close()
    reader.join(20)

    # then each time but the first it had waited, and it ends when everybody is to go
    assert asked_in_two_pauses == 3
    assert asked[0] <= 4
    assert not reader.is_alive()
