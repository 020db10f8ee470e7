"""The eight phases in their order, and the way out of them, whichever it is."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from e2e import (
    activity,
    batch,
    build,
    infrastructure,
    jobs,
    pods_of_jobs,
    providers,
    remains,
    report,
    services,
    validation,
)
from e2e.ledger import CannotGoOn, Ledger, Off
from e2e.own import OwnSystem
from e2e.records import Submitted
from e2e.system import System, running

LIMIT_S = 300.0
PHASES: dict[str, Sequence[int]] = {
    "infra": (1,),
    "build": (1, 2),
    "jobs": (1, 2, 3, 4, 5, 7, 8),
    "validate": (1, 3, 6),
    "all": (1, 2, 3, 4, 5, 6, 7, 8),
}
"""What each word runs. The servers are looked at in any case: nothing is proved on a system that is not there."""


@dataclass(frozen=True, kw_only=True)
class Options:
    folder: Path
    own: bool = False
    silence_s: float = activity.SILENCE_S
    log_files_here: bool = True


@dataclass(kw_only=True)
class Procedure:
    """One run. ``say`` shows it to whoever started it; ``variables`` is the environment."""

    options: Options
    say: Callable[[str], None]
    variables: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    jobs: list[Submitted] = field(default_factory=list)
    submitted: list[Submitted] = field(default_factory=list)
    verdict: str = "INTERRUPTED."

    def __post_init__(self) -> None:
        self.ledger = Ledger(say=self.say)
        self.deployment = ""
        self.url, self.whose = "none", "nothing was started"
        self.built_s = 0.0

    def run(self, word: str) -> int:
        """The exit code: 0 when every check came out well, 1 when one did not. A report is written in any case."""
        began, began_at = time.monotonic(), datetime.now(UTC)
        try:
            with contextlib.suppress(CannotGoOn):
                self._phases(PHASES[word])
                took_s = time.monotonic() - began - self.built_s
                if word == "all":
                    self.ledger.prove("all of it took less than five minutes", lambda: _in_time(took_s))
            self.verdict = "FAILED." if self.ledger.failed or not self.ledger.checks else "PASSED."
        finally:
            known = self.jobs or report.jobs_of(report.read(self.options.folder), self.deployment)
            document = report.write(
                self.options.folder, self.ledger, verdict=self.verdict, jobs=known, phases=word, url=self.url,
                whose=self.whose, deployment=self.deployment, began_at=f"{began_at:%Y-%m-%d %H:%M:%S} UTC",
                took_s=round(time.monotonic() - began, 1),
            )  # fmt: skip
            self._conclude(document)
        return 0 if self.verdict == "PASSED." else 1

    def _phases(self, numbers: Sequence[int]) -> None:
        self.ledger.begin(1, "Infrastructure", "what must be there, Postgres, Redis")
        found = None if self.options.own else running(self.variables)
        infrastructure.check_prerequisites(self.ledger, self.variables, own_system=found is None)
        with self._system(found) as system:
            infrastructure.check_servers(self.ledger, system)
            self.deployment = system.deployment()
            with self._nothing_left_running(system):
                for number in numbers[1:]:
                    self._phase(number, system)

    def _phase(self, number: int, system: System) -> None:
        ledger, here = self.ledger, self.options.log_files_here
        watcher = jobs.Watcher(
            ledger=ledger, system=system, note=self._note, silence_s=self.options.silence_s
        )
        if number == 2:
            ledger.begin(2, "Build", "the command line, the worker image")
            began = time.monotonic()
            build.check(ledger, system)
            self.built_s = time.monotonic() - began
        elif number == 3:
            ledger.begin(3, "Services", "three services, and what works behind them")
            services.check(ledger, system)
        elif number == 4:
            ledger.begin(4, "Providers", "where workers are made")
            providers.check(ledger, system)
        elif number == 5:
            ledger.begin(5, "Jobs", "five types, typed and watched")
            jobs.check(watcher)
            self.jobs = list(self.submitted)
        elif number == 6:
            self._validate(system, watcher)
        elif number == 7:
            ledger.begin(7, "Kubernetes", "the same in pods, where there is a cluster")
            pods_of_jobs.check(watcher, self.jobs, log_files_here=here)
        elif number == 8:
            ledger.begin(8, "Batch", "five jobs at once")
            batch.check(watcher, log_files_here=here)

    def _validate(self, system: System, watcher: jobs.Watcher) -> None:
        """About the jobs of this run, else of the last one on this very system, else of five that are run for it."""
        self.jobs = self.jobs or report.jobs_of(report.read(self.options.folder), self.deployment)
        if not self.jobs:
            self.say("\n   No run of this system is on record: its jobs come first.")
            for number in (2, 4, 5):
                self._phase(number, system)
        self.ledger.begin(6, "Validation", f"SQL about {len(self.jobs)} jobs, and their isolation")
        validation.check(self.ledger, system, self.jobs, log_files_here=self.options.log_files_here)

    def _note(self, job: Submitted) -> None:
        self.submitted.append(job)

    @contextlib.contextmanager
    def _system(self, found: System | None) -> Iterator[System]:
        """The one that was found, else one that is started here and stopped on every way out."""
        if found is not None:
            self.url, self.whose = found.url, "it ran already"
            self.say(f"   The system at {found.url} is looked at.")
            yield found
            return
        own = OwnSystem(self.variables, build.worker_image(self.variables))
        try:
            self.url, self.whose = own.system.url, "started for this"
            self.ledger.demand("a system of its own starts", own.start)
            yield own.system
        except CannotGoOn:
            if own.log.exists():
                self.say(f"   What hodei dev said last:\n{own.last_words()}")
            raise
        finally:
            self.say("\n   Stopping the system that was started for this ...")
            own.stop()
            if self.deployment:
                self.ledger.prove(
                    "nothing of the stopped system is left", lambda: remains.check_deployment(self.deployment)
                )
                with contextlib.suppress(Off):
                    remains.remove_deployment(self.deployment)

    @contextlib.contextmanager
    def _nothing_left_running(self, system: System) -> Iterator[None]:
        """Jobs that have not ended when the procedure does are cancelled."""
        try:
            yield
        finally:
            ids = [job.id for job in self.submitted]
            cancelled: list[str] = []
            try:
                cancelled = activity.cancel_unfinished(system, ids) if ids else []
            except Exception as error:  # the way out is not to be cut by what is broken
                self.say(f"   Jobs could not be looked after: {error}")
            for job_id in cancelled:
                self.say(f"   Cancelled {job_id}, which had not ended.")

    def _conclude(self, document: dict[str, object]) -> None:
        self.say(f"\n{self.verdict} {report.summary(document)}")
        for check in self.ledger.failed:
            self.say(f"   FAIL  {check.phase}: {check.name}")
        self.say(f"   The report: {self.options.folder / report.MARKDOWN_FILE}")


def _in_time(took_s: float) -> str:
    if took_s > LIMIT_S:
        raise Off(f"it took {took_s:.0f} s, without the image's build")
    return f"{took_s:.0f} s, without the image's build"
