"""What happens is counted where it happens: the platform's numbers outlive every process, and only grow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.core import Core, failure
from support.waiting import until

from hodei.domain.states import JobState
from hodei.observability.catalogue import BY_NAME, CATALOGUE, Shown
from hodei.observability.page import PlatformFigures, families, page
from hodei.observability.samples import Figures
from hodei.providers.contract import ProviderError
from hodei.services import figures

Labels = dict[str, str]


def shown(core: Core) -> Figures:
    return figures.read(core.platform)


def value(found: Figures, name: str, **labels: str) -> float:
    """The value of the one sample of this name that has these labels, or the sum of several; 0 without any."""
    names = BY_NAME[name].labels
    return sum(
        sample.value
        for sample in found.samples
        if sample.name == name and labels.items() <= dict(zip(names, sample.labels, strict=True)).items()
    )


def times(found: Figures, name: str, **labels: str) -> int:
    """How often this histogram was observed."""
    names = BY_NAME[name].labels
    return sum(
        bucket.times
        for bucket in found.buckets
        if bucket.name == name and labels.items() <= dict(zip(names, bucket.labels, strict=True)).items()
    )


def run_one(core: Core, *, exit_code: int = 0) -> None:
    _, worker_id = core.to_running_worker("here")
    core.perform(worker_id, exit_code=exit_code)
    core.drain()


@pytest.mark.parametrize("folded", [False, True])
def test_a_jobs_whole_way_is_counted_once_whether_or_not_a_clock_has_looked(
    core: Core, *, folded: bool
) -> None:
    core.provider("here")

    run_one(core)
    run_one(core, exit_code=3)
    if folded:
        figures.fold(core.platform)
        figures.fold(core.platform)

    found = shown(core)
    assert value(found, "hodei_jobs_submitted_total", provider="here") == 2
    assert value(found, "hodei_jobs_ended_total", state="succeeded", code="", provider="here") == 1
    why = {"code": "ERR_1007", "severity": "USER"}
    assert value(found, "hodei_jobs_ended_total", state="failed", provider="here", **why) == 1
    assert value(found, "hodei_jobs_ended_total") == 2
    for state in ("pending", "scheduled", "assigned", "running"):
        assert times(found, "hodei_job_state_duration_seconds", state=state, provider="here") == 2
    assert times(found, "hodei_job_duration_seconds", provider="here") == 2
    for saga_type in ("PROVISIONING", "EXECUTION"):
        assert times(found, "hodei_saga_duration_seconds", saga_type=saga_type, state="completed") == 2
        assert times(found, "hodei_step_duration_seconds", saga_type=saga_type, state="completed") == 8
    assert times(found, "hodei_worker_start_duration_seconds", provider_type="fake") == 2
    assert times(found, "hodei_worker_destroy_duration_seconds", provider_type="fake") == 2
    assert core.sql("SELECT count(*) AS n FROM hodei.observations")[0].n == (0 if folded else 40)


def test_an_attempt_that_is_followed_by_another_is_a_retry_with_its_cause_and_no_end(core: Core) -> None:
    place = core.places.get(core.provider("here"))

    def fail_once(_: Any) -> None:
        place.on_start = lambda _: None
        raise ProviderError(failure("ERR_3007"))

    place.on_start = fail_once
    core.submit("here")
    core.drain()

    found = shown(core)
    assert value(found, "hodei_job_retries_total", code="ERR_3007", severity="CRITICAL") == 1
    assert value(found, "hodei_jobs_ended_total") == 0
    assert times(found, "hodei_step_duration_seconds", step="CreateInfrastructure", state="failed") == 1
    assert value(found, "hodei_queue_delayed_jobs", provider="here") == 1


def test_numbers_only_grow_while_jobs_run_and_clocks_fold(core: Core) -> None:
    core.provider("here")
    over = threading.Event()

    def keep_folding() -> None:
        while not over.is_set():
            figures.fold(core.platform)

    clocks = [threading.Thread(target=keep_folding) for _ in range(2)]
    for clock in clocks:
        clock.start()
    seen = 0
    for _ in range(5):
        run_one(core)
        now = times(shown(core), "hodei_step_duration_seconds")
        assert now >= seen + 8
        seen = now
    over.set()
    for clock in clocks:
        clock.join(20)

    assert times(shown(core), "hodei_step_duration_seconds") == 5 * 8
    assert value(shown(core), "hodei_jobs_ended_total", state="succeeded") == 5


def test_what_waits_is_shown_by_the_provider_that_was_asked_for_and_an_empty_queue_is_a_zero(
    core: Core,
) -> None:
    core.provider("full", max_workers=0)
    core.provider("free")
    for _ in range(3):
        core.submit("full")
    core.sql(
        "UPDATE jobs SET queued_at = queued_at - interval '1 hour', state_since = state_since - interval '2 hours'"
    )
    core.submit("full")
    core.drain()

    found = shown(core)
    assert value(found, "hodei_queue_jobs", provider="full") == 4
    assert 3600 <= value(found, "hodei_queue_oldest_age_seconds", provider="full") < 3700
    assert value(found, "hodei_jobs", state="pending", provider="full") == 4
    assert 7200 <= value(found, "hodei_jobs_oldest_age_seconds", state="pending", provider="full") < 7300
    assert [s.value for s in found.samples if s.name == "hodei_queue_jobs" and s.labels == ("free",)] == [0]


def test_every_number_that_is_shown_is_in_the_catalogue_with_its_labels(core: Core) -> None:
    core.provider("here")
    run_one(core)
    core.submit("here")
    core.drain()

    found = shown(core)
    known = {metric.name: metric for metric in CATALOGUE if metric.shown is Shown.PLATFORM}
    for name, labels, *_ in (*found.samples, *found.buckets):
        assert len(labels) == len(known[name].labels), name
    shown_names = {name for name, *_ in (*found.samples, *found.buckets)}
    of_redis = {name for name in known if "celery" in name}
    rare = {"hodei_job_retries_total", "hodei_clock_loop_age_seconds", "hodei_clock_loop_interval_seconds"}
    rare |= {"hodei_database_up", "hodei_schedules", "hodei_provider_check_age_seconds"}
    assert known.keys() - shown_names <= of_redis | rare
    assert list(families(found))


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_many_scrapes_at_once_read_the_numbers_once(release: threading.Event) -> None:
    reads: list[int] = []

    def read() -> Figures:
        reads.append(1)
        release.wait(10)
        return Figures()

    one = PlatformFigures(read)
    texts: list[bytes] = []
    scrapes = [threading.Thread(target=lambda: texts.append(page(one))) for _ in range(8)]
    for scrape in scrapes:
        scrape.start()
    until(lambda: reads, what="the first read")
    release.set()
    for scrape in scrapes:
        scrape.join(10)

    assert len(reads) == 1
    assert len(texts) == 8 and all(b"hodei_database_up 1.0" in text for text in texts)


def test_a_database_that_hangs_holds_a_scrape_up_for_seconds_and_no_longer(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hodei.observability.page.PATIENCE_S", 0.2)

    def hang() -> Figures:
        release.wait(30)
        return Figures()

    hanging = PlatformFigures(hang)
    began = time.monotonic()

    text = page(hanging)

    assert b"hodei_database_up 0.0" in text
    assert time.monotonic() - began < 5


def test_every_end_of_a_job_is_shown_before_the_first_job_has_ended(core: Core) -> None:
    states = {s.labels[0] for s in shown(core).samples if s.name == "hodei_jobs_ended_total"}

    assert states == {state.value.lower() for state in JobState if state.is_terminal}
