"""A log as Server-Sent Events, from anywhere in it until its end, over attempts and whatever server it is asked of.

An event's id is ``<attempt>-<seq>``: the place after which to go on. Everything comes from Postgres, so another server
goes on where this one stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID

from hodei.domain.states import JobState
from hodei.errors import DatabaseUnavailable, InvalidInput
from hodei.logs import forms, store, window
from hodei.logs.chunks import Entry, forward
from hodei.logs.feeds import Attempt, Facts, Feed
from hodei.logs.lines import BEGINNING, Lines, Start
from hodei.logs.selection import EVERYTHING, Selection
from hodei.ports import Platform
from hodei.services import logs
from hodei.services.jobs import error_view

KEEP_ALIVE_S = 15.0
NO_DATABASE_S = 1.0
RECONNECT_MS = 500
GREETING = f"retry: {RECONNECT_MS}\n\n".encode()
KEEP_ALIVE = b": keep-alive\n\n"


@dataclass(frozen=True, kw_only=True)
class Following:
    """What is followed. ``attempt`` 0: the first that there will be. ``one_attempt``: to its end and no further."""

    job_id: UUID
    attempt: int = 0
    start: Start = BEGINNING
    one_attempt: bool = False
    resumed: bool = False
    selection: Selection = field(default=EVERYTHING)


def begin(platform: Platform, which: logs.Which, part: logs.Part, place: tuple[int, int] | None) -> Following:
    """Where to begin: at ``place`` (attempt and seq), else in the last attempt.

    Raises NotFound, LogExpired, and InvalidInput for a place in an attempt that nobody can have seen.
    """
    one = which.execution_id is not None or which.attempt is not None
    view = logs.find(platform, which)
    selection = part.selection
    if place is not None and (not one or place[0] == view.attempt):
        number, start, resumed = place[0], _again(platform, view, part, place), place[1] > 0
        if resumed:  # a moment that is so long ago would be a later one now
            selection = replace(selection, since_us=None)
    else:
        number, start, resumed = view.attempt, _first(platform, view, part), False
    return Following(
        job_id=view.job_id,
        attempt=number,
        start=start,
        one_attempt=one,
        resumed=resumed,
        selection=selection,
    )


def _again(platform: Platform, view: logs.View, part: logs.Part, place: tuple[int, int]) -> Start:
    attempt, after = place
    if attempt > max(1, view.attempt):  # the first is waited for
        raise InvalidInput(f"The job has no attempt {attempt}.", field="Last-Event-ID")
    if view.log is None or attempt != view.attempt:
        return Start(after)
    return store.start_after(platform.database, view.log, after, part.selection)


def _first(platform: Platform, view: logs.View, part: logs.Part) -> Start:
    """Where to begin; what is older than what is wanted is not looked through."""
    if view.log is None:
        return Start(part.after)
    if part.tail is None and part.selection.since_us is not None:
        moment = store.start_of_moment(platform.database, view.log, part.selection.since_us)
        if moment.after >= part.after:
            return moment
    return logs.start(platform, view.log, part)


def follow(platform: Platform, following: Following) -> Iterator[bytes]:
    """The events. Ends after the ``end`` event, or without one when the process stops: then go on elsewhere."""
    yield GREETING
    with platform.feeds.following(platform.database, platform.wakeups, following.job_id) as feed:
        yield from _Follower(platform, following, feed).run()


class _Follower:
    """One stream, and its place in the log."""

    def __init__(self, platform: Platform, following: Following, feed: Feed) -> None:
        self._platform = platform
        self._following = following
        self._feed = feed
        self._number = following.attempt
        self._seq = self._sent_seq = following.start.after
        self._lines = self._lines_from(following.start)
        self._announced = following.resumed
        self._window: window.Window | None = None

    def run(self) -> Iterator[bytes]:
        facts = self._feed.wait(None, KEEP_ALIVE_S)
        while not self._platform.wakeups.closing:
            if facts is not None:
                attempt = self._attempt(facts)
                if attempt is not None:
                    try:
                        yield from self._news(attempt)
                    except DatabaseUnavailable:  # what is stored is not lost: it is sent when it can be read
                        self._feed.pause(NO_DATABASE_S)
                        continue
                    if self._seq < attempt.log.entries and not self._platform.wakeups.closing:
                        continue
                if not self._platform.wakeups.closing and self._is_over(facts, attempt):
                    yield from self._held()
                    if self._go_on(facts):
                        continue
                    yield self._end(facts, attempt)
                    return
            newer = self._feed.wait(facts, KEEP_ALIVE_S)
            if newer is facts and not self._platform.wakeups.closing:
                if self._lines is not None and self._lines.holds_up:
                    yield from self._held()
                yield self._keep_alive()
            facts = newer

    def _attempt(self, facts: Facts) -> Attempt | None:
        if self._number == 0 and facts.attempts:
            self._number = facts.attempts[0].number
        return facts.attempt(self._number)

    def _news(self, attempt: Attempt) -> Iterator[bytes]:
        """What is stored and not yet sent, as far as these facts tell."""
        if not self._announced:
            self._announced = True
            document = (
                f'{{"attempt":{attempt.number},"job_id":"{self._following.job_id}",'
                f'"execution_id":"{attempt.log.execution_id}"}}'
            )
            yield forms.named_event("attempt", self._place, document)
        if self._window is None:
            self._window = self._feed.window(attempt.number)
        while self._seq < attempt.log.entries and not self._platform.wakeups.closing:
            piece = self._window.after(self._platform.database, attempt.log, self._seq)
            if piece is None:
                yield from self._catch_up(attempt)
                return
            yield from self._send(piece)

    def _catch_up(self, attempt: Attempt) -> Iterator[bytes]:
        """Older than what is kept for all: read for this one alone."""
        for chunk in forward(self._platform.database, attempt.log, after=self._seq):
            for piece in window.cut(chunk, attempt.number):
                if piece.last > self._seq:
                    yield from self._send(piece.after(self._seq))
                if self._platform.wakeups.closing:
                    return

    def _send(self, piece: window.Piece) -> Iterator[bytes]:
        self._seq = piece.last
        if self._lines is None:
            self._sent_seq = piece.last
            yield piece.events
            return
        yield from self._sent(list(self._lines.of(piece.entries)))

    def _held(self) -> Iterator[bytes]:
        """What waits for the end of a line that does not end."""
        if self._lines is not None:
            yield from self._sent(list(self._lines.rest()))

    def _sent(self, wanted: list[Entry]) -> Iterator[bytes]:
        if wanted:
            self._sent_seq = wanted[-1].seq
            yield forms.events(wanted, self._number)

    def _lines_from(self, start: Start) -> Lines | None:
        selection = self._following.selection
        if selection == EVERYTHING and not start.unwanted:
            return None
        return Lines(selection, start)

    def _is_over(self, facts: Facts, attempt: Attempt | None) -> bool:
        """Nothing more comes of this attempt; all that is stored was sent."""
        if attempt is None:
            return facts.state.is_terminal
        if not attempt.is_over:
            return False
        more = facts.next_attempt(self._number) is not None
        return self._following.one_attempt or more or facts.state.is_terminal

    def _go_on(self, facts: Facts) -> bool:
        """To the next attempt, if there is one and it is wanted."""
        after = facts.next_attempt(self._number)
        if after is None or self._following.one_attempt:
            return False
        self._number, self._seq, self._sent_seq = after.number, 0, 0
        self._lines = self._lines_from(BEGINNING)
        self._announced, self._window = False, None
        return True

    @property
    def _place(self) -> str:
        return f"{self._number}-{self._decided_seq}"

    @property
    def _decided_seq(self) -> int:
        return self._seq if self._lines is None else self._lines.place(self._seq)

    def _keep_alive(self) -> bytes:
        if self._decided_seq <= self._sent_seq:
            return KEEP_ALIVE
        self._sent_seq = (
            self._decided_seq
        )  # nothing was wanted up to here: whoever goes on elsewhere need not look again
        return f"id: {self._place}\n\n".encode()

    def _end(self, facts: Facts, attempt: Attempt | None) -> bytes:
        document = json.dumps(_ending(self._following.job_id, facts, attempt), separators=(",", ":"))
        return forms.named_event("end", self._place, document)


def _ending(job_id: UUID, facts: Facts, attempt: Attempt | None) -> dict[str, object]:
    state: JobState = facts.state
    return {
        "job_id": str(job_id),
        "status": state.value.lower(),
        "status_code": state.code,
        "exit_code": facts.exit_code,
        "error": error_view(facts.error_code, facts.error_message, job_id),
        "attempt": attempt.number if attempt else 0,
        "execution_id": str(attempt.log.execution_id) if attempt else None,
        "execution_status": attempt.state if attempt else None,
        "log": {
            "entries": attempt.log.entries if attempt else 0,
            "bytes": attempt.log_bytes if attempt else 0,
            "complete": attempt.log_complete if attempt else True,
        },
    }
