"""The whole platform's numbers for ``/metrics``: the same from every process, because they are read from Postgres and Redis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hodei import __version__
from hodei.domain.causes import CAUSES
from hodei.domain.states import JOB_ACTIVE, JOB_ENDS, SAGA_OPEN, WORKER_LIVE, JobState, ProviderStatus
from hodei.observability.catalogue import BOUNDS_S, BY_NAME
from hodei.observability.samples import Bucket, Figures, Sample
from hodei.ports import Platform
from hodei.sagas.registry import SAGA_TYPES
from hodei.services.dispatch import TAKES_WORK
from hodei.storage.transaction import Row, Transaction

FOLD_AT_ONCE = 5000
LOOKED_AT = 100_000
"""So many observations that are not folded yet are counted by a scrape: more there are only when no clock has run for long."""


def fold(platform: Platform) -> int:
    """Make totals of what was observed. Says nothing of how much that was: it is what the clock does all the time."""
    folded = FOLD_AT_ONCE
    while folded == FOLD_AT_ONCE:
        with platform.database.begin() as tx:
            folded = tx.scalar("observations_fold", bounds=list(BOUNDS_S), limit=FOLD_AT_ONCE)
    return 0


def read(platform: Platform) -> Figures:
    """All numbers now. Raises DatabaseUnavailable; without Redis its own are missing."""
    with platform.database.glance() as tx:
        figures = _observed(tx)
        samples = figures.samples
        providers = tx.rows("metrics_providers")
        names = [row.name for row in providers]
        samples += _queue(tx, names)
        samples += _jobs(tx, names)
        samples += _workers(tx, names)
        samples += _providers(providers)
        samples += _sagas(tx)
        samples += _schedules(tx)
        samples += _outbox(tx)
        samples += _logs(tx)
        samples += _processes(tx)
    samples += _redis(platform)
    samples.append(Sample("hodei_build_info", (__version__,), 1))
    return figures


def _observed(tx: Transaction) -> Figures:
    figures = Figures()
    counted: dict[tuple[str, tuple[str, ...]], float] = {
        ("hodei_jobs_ended_total", (end.value.lower(), "", "", "")): 0 for end in JOB_ENDS
    }
    counted["hodei_outbox_published_total", ()] = 0
    for row in tx.rows("metrics_totals", bounds=list(BOUNDS_S), limit=LOOKED_AT):
        metric = BY_NAME.get(row.metric)
        if metric is None:
            continue  # of a newer version
        labels = _with_severity(metric.labels, row.labels)
        if metric.buckets:
            figures.buckets.append(Bucket(row.metric, labels, row.le, row.times, row.seconds))
        else:
            counted[row.metric, labels] = counted.get((row.metric, labels), 0) + row.times
    figures.samples.extend(Sample(name, labels, value) for (name, labels), value in counted.items())
    return figures


def _with_severity(names: tuple[str, ...], labels: list[str]) -> tuple[str, ...]:
    """A cause's severity is not stored: it is what the code says of it."""
    if "severity" not in names:
        return tuple(labels)
    at = names.index("code")
    cause = CAUSES.get(labels[at])
    return (*labels[: at + 1], cause.severity.value if cause else "", *labels[at + 1 :])


def _each(rows: Iterable[Row], labels: tuple[str, ...], **values: str) -> Iterator[Sample]:
    """One sample per row and metric; ``values`` are metric's end → column. No value is 0."""
    for row in rows:
        found = tuple(str(row[label]) for label in labels)
        for name, column in values.items():
            yield Sample(f"hodei_{name}", found, max(0.0, float(row[column] or 0)))


def _lower(rows: list[Row], *columns: str) -> list[Row]:
    return [Row(row | {column: row[column].lower() for column in columns}) for row in rows]


def _with_zeros(rows: list[Row], states: Iterable[str], names: Iterable[str]) -> list[Row]:
    """Also what there is none of, for each state and provider: nobody there is a fact, too."""
    there = {(row.state, row.provider) for row in rows}
    missing = [(state.lower(), name) for state in states for name in names]
    none = [
        Row(state=state, provider=name, jobs=0, workers=0)
        for state, name in missing
        if (state, name) not in there
    ]
    return [*rows, *(Row(row | {"oldest_s": 0, "silent_s": 0}) for row in none)]


def _queue(tx: Transaction, names: list[str]) -> Iterator[Sample]:
    """Also for providers of which nobody waits: an empty queue is a fact."""
    found = {row.provider: row for row in tx.rows("metrics_queue")}
    for name in ("auto", *names):
        found.setdefault(name, Row(provider=name, jobs=0, delayed=0, oldest_s=0))
    return _each(
        found.values(),
        ("provider",),
        queue_jobs="jobs",
        queue_delayed_jobs="delayed",
        queue_oldest_age_seconds="oldest_s",
    )


def _jobs(tx: Transaction, names: list[str]) -> Iterator[Sample]:
    rows = _with_zeros(_lower(tx.rows("metrics_open_jobs"), "state"), (JobState.PENDING, *JOB_ACTIVE), names)
    return _each(rows, ("state", "provider"), jobs="jobs", jobs_oldest_age_seconds="oldest_s")


def _workers(tx: Transaction, names: list[str]) -> Iterator[Sample]:
    rows = _with_zeros(_lower(tx.rows("metrics_workers"), "state"), WORKER_LIVE, names)
    return _each(rows, ("state", "provider"), workers="workers", workers_heartbeat_age_seconds="silent_s")


def _providers(rows: list[Row]) -> Iterator[Sample]:
    for row in rows:
        labels = (row.name, row.provider_type)
        yield Sample("hodei_provider_up", labels, float(row.status in TAKES_WORK))
        for status in ProviderStatus:
            one = float(row.status == status)
            yield Sample("hodei_provider_status", (*labels, status.value.lower()), one)
        yield Sample("hodei_provider_places", labels, row.max_workers)
        yield Sample("hodei_provider_places_taken", labels, row.places_taken)
        if row.checked_s is not None:
            yield Sample("hodei_provider_check_age_seconds", labels, float(row.checked_s))


def _sagas(tx: Transaction) -> Iterator[Sample]:
    rows = _lower(tx.rows("metrics_sagas"), "state")
    labels = ("saga_type", "state")
    there = {(row.saga_type, row.state) for row in rows}
    none = {(kind.name, state.value.lower()) for kind in SAGA_TYPES for state in SAGA_OPEN} - there
    rows += [Row(saga_type=name, state=state, sagas=0, oldest_s=0, overdue=0) for name, state in sorted(none)]
    return _each(rows, labels, sagas="sagas", sagas_oldest_age_seconds="oldest_s", sagas_overdue="overdue")


def _schedules(tx: Transaction) -> Iterator[Sample]:
    rows = _lower(tx.rows("metrics_schedules"), "state")
    yield from _each(rows, ("state",), schedules="schedules")
    late = [float(row.late_s) for row in rows if row.late_s is not None]
    yield Sample("hodei_schedules_late_seconds", (), max(0.0, *late, 0.0))


def _outbox(tx: Transaction) -> Iterator[Sample]:
    found = {row.status: row for row in _lower(tx.rows("metrics_outbox"), "status")}
    for status in ("pending", "failed"):
        found.setdefault(status, Row(status=status, events=0, oldest_s=0))
    return _each(found.values(), ("status",), outbox_events="events", outbox_oldest_age_seconds="oldest_s")


def _logs(tx: Transaction) -> Iterator[Sample]:
    rows = tx.rows("executions_log_to_export_count")
    return _each(rows, (), logs_to_export="waiting", logs_to_export_oldest_age_seconds="oldest_s")


def _processes(tx: Transaction) -> Iterator[Sample]:
    """The loops of the clock, and the processes that are among them: a controller's name has its kind before it."""
    rows = tx.rows("loops")
    loops = [Row(row | {"loop": row.name}) for row in rows if ":" not in row.name]
    yield from _each(
        loops, ("loop",), clock_loop_age_seconds="age_s", clock_loop_interval_seconds="interval_s"
    )
    for kind in ("controller", "door"):
        well = [row for row in rows if row.name.startswith(f"{kind}:") and row.age_s <= 3 * row.interval_s]
        yield Sample("hodei_processes", (kind,), len(well))


def _redis(platform: Platform) -> Iterator[Sample]:
    backlog = platform.courier.backlog()
    yield Sample("hodei_redis_up", (), float(backlog is not None))
    if backlog is None:
        return
    yield Sample("hodei_celery_unacknowledged_messages", (), backlog.unacknowledged)
    for queue in backlog.queues:
        yield Sample("hodei_celery_queue_messages", (queue.name,), queue.messages)
        yield Sample("hodei_celery_queue_oldest_age_seconds", (queue.name,), queue.oldest_s)
