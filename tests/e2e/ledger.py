"""What was checked, what came out, and on which evidence."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import httpx
import psycopg2

from hodei.errors import HodeiError

Fact = TypeVar("Fact")
LOOK_AGAIN_S = 0.1


class Off(Exception):
    """It is not as it has to be: the message says how it is."""


class CannotGoOn(Exception):
    """What follows would make no sense."""


@dataclass(frozen=True, kw_only=True)
class Check:
    phase: str
    name: str
    ok: bool
    evidence: str
    took_s: float


@dataclass(kw_only=True)
class Ledger:
    """All checks of a run, each told to ``say`` when it is done."""

    say: Callable[[str], None]
    phase: str = ""
    checks: list[Check] = field(default_factory=list)

    def begin(self, number: int, phase: str, about: str) -> None:
        self.phase = phase
        self.say(f"\n{number}. {phase}: {about}")

    def prove(self, name: str, fact: Callable[[], str]) -> bool:
        """Calls ``fact`` and writes down what it returned, or why it could not."""
        began = time.monotonic()
        try:
            evidence, ok = fact(), True
        except (
            Off,
            HodeiError,
            OSError,
            psycopg2.Error,
            httpx.HTTPError,
            subprocess.SubprocessError,
        ) as error:
            evidence, ok = str(error).strip() or type(error).__name__, False
        took_s = round(time.monotonic() - began, 2)
        self.checks.append(Check(phase=self.phase, name=name, ok=ok, evidence=evidence, took_s=took_s))
        self.say(f"   {'ok  ' if ok else 'FAIL'}  {name}")
        for line in evidence.splitlines():
            self.say(f"           {line}")
        return ok

    def demand(self, name: str, fact: Callable[[], str]) -> None:
        """As ``prove``, for what everything after it needs."""
        if not self.prove(name, fact):
            raise CannotGoOn(name)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    def document(self) -> list[dict[str, Any]]:
        return [asdict(check) for check in self.checks]


def equal(what: str, found: object, wanted: object) -> None:
    """Raises Off with both when they differ."""
    if found != wanted:
        raise Off(f"{what}:\n  is     {found}\n  wanted {wanted}")


def within(limit_s: float, what: str, fact: Callable[[], Fact]) -> Fact:
    """The first true answer of ``fact``. Off when there is none within a limit that the contract names."""
    deadline = time.monotonic() + limit_s
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Off(f"{what} not within {limit_s:g} s")
        time.sleep(LOOK_AGAIN_S)
