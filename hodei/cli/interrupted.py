"""Ctrl-C beside a job or a run: whether to leave it running or to cancel it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import typer

from hodei.cli import output
from hodei.client.errors import ServerRefused

if TYPE_CHECKING:
    from hodei.client.client import HodeiClient

Ended = TypeVar("Ended")

QUESTION = "\nDetach, and {thing} goes on (d), or cancel it (c; so does Ctrl-C)? "
BY_INTERRUPT = 130


@dataclass(frozen=True, kw_only=True)
class Words:
    """What it is called, and how to go on after leaving it."""

    thing: str
    goes_on: str
    look: str


def of_job(job_id: str) -> Words:
    """The words for a job."""
    return Words(
        thing="the job",
        goes_on=f"The job goes on. Cancel it with: hodei job cancel {job_id}",
        look=f"Look again with: hodei job logs {job_id} --follow",
    )


def accompany(
    platform: HodeiClient,
    cancel: Callable[[], object],
    stay: Callable[[], Ended],
    detached: Callable[[], None],
    words: Words,
) -> Ended:
    """What ``stay`` returns. Ctrl-C asks; after a cancel it stays on, and the next Ctrl-C leaves.

    Where nobody can be asked, because stdin is no terminal, it leaves it running and says how to go on. ``detached``
    is called before leaving, which is with exit code 130.
    """
    cancelled = False
    while True:
        try:
            return stay()
        except KeyboardInterrupt:
            platform.forget_connections()
            if cancelled or not _wants_to_cancel(words):
                detached()
                output.say("It is being cancelled." if cancelled else words.goes_on)
                output.say(words.look)
                raise typer.Exit(BY_INTERRUPT) from None
        _cancel(cancel)
        cancelled = True


def _wants_to_cancel(words: Words) -> bool:
    if not sys.stdin or not sys.stdin.isatty():
        output.say("")
        return False
    try:
        while True:
            sys.stdout.flush()
            sys.stderr.write(QUESTION.format(thing=words.thing))
            sys.stderr.flush()
            answer = sys.stdin.readline()
            if not answer or answer.strip().lower() in ("d", "detach"):
                return False
            if answer.strip().lower() in ("c", "cancel"):
                return True
    except KeyboardInterrupt:
        return True


def _cancel(cancel: Callable[[], object]) -> None:
    try:
        cancel()
    except ServerRefused as refusal:
        if refusal.http_status != 409:
            raise
        return  # it has ended meanwhile: its end is shown
    output.say("\nIt is being cancelled. Ctrl-C leaves without waiting for that.")
