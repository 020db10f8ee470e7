"""Whether jobs can be kept from the platform's own files on this machine, and what to say where they cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import structlog

from hodei.providers.agent_package import agent_folder
from hodei.providers.process.agent import ISOLATED

log = structlog.get_logger(__name__)

TRY_S = 5.0
NOTHING = "Nothing secret of the platform is kept here that jobs would have to be kept from."
HIDDEN = "Jobs do not see the platform's own files."
INSTEAD = (
    "Use Docker for jobs that may not know them, or run the platform on a Postgres and Redis of your own "
    "(HODEI_DATABASE_URL, HODEI_REDIS_URL, HODEI_SECRET_KEY)."
)


class Hiding:
    """What agents are told to hide from their jobs. Safe to share between threads.

    The agent hides or refuses the job; whether it is asked to is decided here, where an operator sees it.
    """

    def __init__(
        self, way: Literal["auto", "required", "off"], secret: Callable[[], Sequence[Path]], kept: Path
    ) -> None:
        self._way = way
        self._secret = secret
        self._kept = kept
        self._warned = False
        self._reason: str | None = None
        self._tried: list[Path] = []

    @property
    def is_required(self) -> bool:
        return self._way == "required"

    def paths(self) -> list[Path]:
        """What the next worker's agent has to hide: nothing where that is impossible."""
        wanted = list(self._secret())
        if wanted != self._tried:
            self._try(wanted)
        return [] if self._reason else wanted

    def check(self) -> tuple[bool, str]:
        """Look anew: whether jobs are kept from the platform's files as far as is wanted, and a sentence."""
        self._try(list(self._secret()))
        if not self._tried:
            return True, NOTHING
        return self.refusal() is None, self.warning() or HIDDEN

    def warning(self) -> str | None:
        """What the last look found wrong."""
        if not self._reason:
            return None
        return f"Jobs can read the passwords of the platform's own servers: {self._reason}. {INSTEAD}"

    def refusal(self) -> str | None:
        """Why no job may run here, if so."""
        return self.warning() if self.is_required else None

    def _try(self, wanted: list[Path]) -> None:
        reason = self._obstacle(wanted) if wanted else None
        self._tried, self._reason = wanted, reason
        if reason and not self._warned:
            self._warned = True
            log.warning(
                "process provider: jobs are not kept from the platform's files",
                reason=reason,
                instead=INSTEAD,
            )

    def _obstacle(self, wanted: Sequence[Path]) -> str | None:
        """Really do it, in a process that ends at once."""
        if self._way == "off":
            return "config.hiding is off"
        command = [sys.executable, *ISOLATED, str(agent_folder()), "--try-hiding", str(self._kept)]
        try:
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            tried = subprocess.run(
                [*command, *map(str, wanted)], env={}, cwd="/", capture_output=True, text=True, timeout=TRY_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"it could not be tried ({error})"
        return (
            None
            if tried.returncode == 0
            else tried.stdout or tried.stderr.strip()[-200:] or "it did not work"
        )
