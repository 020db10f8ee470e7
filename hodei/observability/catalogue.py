"""Every metric of the platform: its name, what it means, its labels, and where it is shown. There are no others.

Names follow the conventions of Prometheus: base units, ``_total`` for what only grows. A histogram has ``_bucket``,
``_sum`` and ``_count``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """As Prometheus calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Shown(StrEnum):
    """Where a metric is shown, and so whose it is."""

    PLATFORM = (
        "platform"  # the whole platform's, read from Postgres and Redis: the same at each of the services
    )
    PROCESS = "process"  # of the process that is asked, since its start


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. ``name`` is as it is asked for, with ``_total`` where it has one."""

    name: str
    kind: Kind
    shown: Shown
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


BOUNDS_S = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0,
    86400.0,
)  # fmt: skip
"""Of the durations that are kept in Postgres: a step takes milliseconds, a job may wait for a day."""

SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Of what one process does at a stretch."""


def _platform(kind: Kind, name: str, help: str, *labels: str) -> Metric:
    buckets = BOUNDS_S if kind is Kind.HISTOGRAM else ()
    return Metric(
        name=f"hodei_{name}", kind=kind, shown=Shown.PLATFORM, help=help, labels=labels, buckets=buckets
    )


def _process(kind: Kind, name: str, help: str, *labels: str) -> Metric:
    buckets = SHORT_S if kind is Kind.HISTOGRAM else ()
    return Metric(
        name=f"hodei_{name}", kind=kind, shown=Shown.PROCESS, help=help, labels=labels, buckets=buckets
    )


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

CATALOGUE: tuple[Metric, ...] = (
    _platform(_G, "database_up", "1 while the platform's numbers can be read from Postgres; while 0, the others of the platform are missing."),
    _platform(_G, "redis_up", "1 while Redis answers."),
    _platform(_G, "build_info", "Always 1; the version that answers.", "version"),
    _platform(_G, "queue_jobs", "Jobs that wait for a place, by the provider that was asked for.", "provider"),
    _platform(_G, "queue_delayed_jobs", "Those of them whose back-off after a failed attempt is not over.", "provider"),
    _platform(_G, "queue_oldest_age_seconds", "How long the oldest of them has waited; 0 when none does.", "provider"),
    _platform(_G, "jobs", "Jobs that have not ended, by state and provider.", "state", "provider"),
    _platform(_G, "jobs_oldest_age_seconds", "How long the oldest of them has been in this state.", "state", "provider"),
    _platform(_C, "jobs_submitted_total", "Jobs created, definitions included, by the provider asked for.", "provider"),
    _platform(_C, "jobs_ended_total", "Jobs that ended, by end and cause; the code is empty where there is none.", "state", "code", "severity", "provider"),
    _platform(_C, "job_retries_total", "Attempts that were followed by another one, by the cause of their end.", "code", "severity", "provider"),
    _platform(_H, "job_state_duration_seconds", "Time that jobs were in a state before they left it; back-off counts as pending.", "state", "provider"),
    _platform(_H, "job_duration_seconds", "Time from being queued, for the last time, to the end.", "state", "provider"),
    _platform(_G, "workers", "Workers that are not TERMINATED, by state and provider.", "state", "provider"),
    _platform(_G, "workers_heartbeat_age_seconds", "How long the most silent of them has been silent.", "state", "provider"),
    _platform(_H, "worker_start_duration_seconds", "Time from a worker's row to its open inbox.", "provider_type"),
    _platform(_H, "worker_destroy_duration_seconds", "Time from TERMINATING to nothing being left.", "provider_type"),
    _platform(_H, "worker_lifetime_seconds", "Time from a worker's row to nothing being left.", "provider_type"),
    _platform(_G, "provider_up", "1 while the provider takes new work.", "provider", "provider_type"),
    _platform(_G, "provider_status", "1 for the status that the provider has, 0 for the others.", "provider", "provider_type", "status"),
    _platform(_G, "provider_places", "How many workers may be there at a time.", "provider", "provider_type"),
    _platform(_G, "provider_places_taken", "How many of these places are taken.", "provider", "provider_type"),
    _platform(_G, "provider_check_age_seconds", "Time since its health was looked at.", "provider", "provider_type"),
    _platform(_G, "sagas", "Sagas that have not ended, by type and state.", "saga_type", "state"),
    _platform(_G, "sagas_oldest_age_seconds", "How long ago the oldest of them began.", "saga_type", "state"),
    _platform(_G, "sagas_overdue", "Those of them that nobody has looked at a minute after their time, or that had to be asked for repeatedly.", "saga_type", "state"),
    _platform(_H, "saga_duration_seconds", "Time from a saga's start to its end; its `_count` is how many ended so.", "saga_type", "state"),
    _platform(_H, "step_duration_seconds", "Time from a step's start to its end, what it waited for included.", "saga_type", "step", "state"),
    _platform(_G, "schedules", "Schedules, by state.", "state"),
    _platform(_G, "schedules_late_seconds", "How long the next due time of an active schedule has been over; 0 when none is."),
    _platform(_G, "outbox_events", "Events that were not handed to the broker yet (pending), or never will be (failed).", "status"),
    _platform(_G, "outbox_oldest_age_seconds", "How long the oldest of them has waited; 0 when none does.", "status"),
    _platform(_C, "outbox_published_total", "Events that were handed to the broker."),
    _platform(_G, "logs_to_export", "Logs of ended attempts that have no file yet."),
    _platform(_G, "logs_to_export_oldest_age_seconds", "How long ago the oldest of these attempts ended; 0 when there is none."),
    _platform(_G, "clock_loop_age_seconds", "Time since a loop of the clock progressed.", "loop"),
    _platform(_G, "clock_loop_interval_seconds", "How often it should.", "loop"),
    _platform(_G, "processes", "Processes that say that they are well: controller, door (a worker-manager that agents can reach).", "kind"),
    _platform(_G, "celery_queue_messages", "Messages that wait in Redis for a controller.", "queue"),
    _platform(_G, "celery_queue_oldest_age_seconds", "How long the next of them has waited; 0 when none does.", "queue"),
    _platform(_G, "celery_unacknowledged_messages", "Messages that a controller has taken and not finished."),
    _process(_C, "http_requests_total", "HTTP requests answered.", "service", "method", "route", "status"),
    _process(_H, "http_request_duration_seconds", "Time from a request's headers to the end of its handling, long polls included.", "service", "method", "route"),
    _process(_C, "log_bytes_total", "Bytes of jobs' output that were stored. worker-manager."),
    _process(_C, "log_entries_total", "Lines of jobs' output that were stored. worker-manager."),
    _process(_H, "log_lag_seconds", "Time from a line's writing, by the worker's clock, to its being stored. worker-manager."),
    _process(_C, "celery_tasks_total", "Tasks run. controller.", "task", "outcome"),
    _process(_H, "celery_task_duration_seconds", "How long they took. controller.", "task"),
    _process(_H, "celery_task_wait_seconds", "How long they had waited in their queue. controller.", "queue"),
    _process(_C, "dispatched_jobs_total", "Jobs that were given to a worker, or that one is made for. controller and beat.", "provider"),
    _process(_H, "dispatch_duration_seconds", "One look at the whole queue. controller and beat."),
    _process(_H, "provider_call_duration_seconds", "Calls of providers. controller and beat.", "provider_type", "call", "outcome"),
    _process(_C, "clock_turns_total", "Turns of the clock's loops. beat.", "loop", "outcome"),
    _process(_H, "clock_turn_duration_seconds", "How long they took. beat.", "loop"),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in CATALOGUE}
