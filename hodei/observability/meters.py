"""What one process measures of itself, from its start on: made with its platform, so that no two share any by accident."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from hodei.observability.catalogue import BY_NAME


class Meters:
    """The process's own counters and histograms. Safe to share between threads."""

    def __init__(self) -> None:
        disable_created_metrics()  # a series more for each one, which nobody asks for
        self.registry = CollectorRegistry(auto_describe=True)
        self.log_bytes = self.counter("hodei_log_bytes_total")
        self.log_entries = self.counter("hodei_log_entries_total")
        self.log_lag = self.histogram("hodei_log_lag_seconds")
        self.dispatched = self.counter("hodei_dispatched_jobs_total")
        self.dispatch = self.histogram("hodei_dispatch_duration_seconds")
        self._tasks = self.counter("hodei_celery_tasks_total")
        self._task_seconds = self.histogram("hodei_celery_task_duration_seconds")
        self._task_wait = self.histogram("hodei_celery_task_wait_seconds")
        self._turns = self.counter("hodei_clock_turns_total")
        self._turn_seconds = self.histogram("hodei_clock_turn_duration_seconds")
        self._calls = self.histogram("hodei_provider_call_duration_seconds")

    def counter(self, name: str) -> Counter:
        """A counter as the catalogue has it."""
        metric = BY_NAME[name]
        return Counter(name.removesuffix("_total"), metric.help, metric.labels, registry=self.registry)

    def histogram(self, name: str) -> Histogram:
        """A histogram as the catalogue has it."""
        metric = BY_NAME[name]
        return Histogram(name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry)

    def task(self, name: str, queue: str, outcome: str, *, seconds: float, waited_s: float | None) -> None:
        """A task was run."""
        self._tasks.labels(name, outcome).inc()
        self._task_seconds.labels(name).observe(seconds)
        if waited_s is not None:
            self._task_wait.labels(queue).observe(waited_s)

    @contextmanager
    def turn(self, loop: str) -> Iterator[None]:
        """A turn of this loop of the clock."""
        with _measured(lambda outcome, seconds: self._turned(loop, outcome, seconds)):
            yield

    def _turned(self, loop: str, outcome: str, seconds: float) -> None:
        self._turns.labels(loop, outcome).inc()
        self._turn_seconds.labels(loop).observe(seconds)

    @contextmanager
    def provider_call(self, provider_type: str, call: str) -> Iterator[None]:
        """A call of a provider; what it raises is its outcome ``error``."""
        with _measured(
            lambda outcome, seconds: self._calls.labels(provider_type, call, outcome).observe(seconds)
        ):
            yield


@contextmanager
def _measured(note: Callable[[str, float], None]) -> Iterator[None]:
    began, outcome = time.perf_counter(), "error"
    try:
        yield
        outcome = "ok"
    finally:
        note(outcome, time.perf_counter() - began)
