"""The text that Prometheus scrapes: the process's own metrics, and the whole platform's as they were a moment ago."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from hodei.observability.catalogue import BY_NAME, Kind
from hodei.observability.catalogue import Metric as Known
from hodei.observability.samples import Figures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FRESH_FOR_S = 1.0
PATIENCE_S = 5.0
"""How long a scrape waits for Postgres: a scraper's own patience is 10 s, and what is not the platform's is there at once."""


class PlatformFigures(Collector):
    """Reads the platform's numbers, once for all who ask within a second, and never twice at a time.

    Whatever goes wrong, a scrape gets an answer: ``hodei_database_up 0`` then, and nothing else of the platform's.
    """

    def __init__(self, read: Callable[[], Figures]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._reading: Future[Figures] | None = None
        self._read_at = 0.0

    def collect(self) -> Iterator[Metric]:
        try:
            figures = self._latest().result(PATIENCE_S)
        except Exception:
            yield _gauge(BY_NAME["hodei_database_up"], [((), 0.0)])
            return
        yield _gauge(BY_NAME["hodei_database_up"], [((), 1.0)])
        yield from families(figures)

    def _latest(self) -> Future[Figures]:
        with self._lock:
            known = self._reading
            if known is None or (known.done() and time.monotonic() - self._read_at > FRESH_FOR_S):
                known = self._reading = Future()
                threading.Thread(target=self._fill, args=(known,), name="figures", daemon=True).start()
            return known

    def _fill(self, asked: Future[Figures]) -> None:
        try:
            figures = self._read()
        except Exception as error:
            self._read_at = time.monotonic()
            asked.set_exception(error)
        else:
            self._read_at = time.monotonic()
            asked.set_result(figures)


def page(*parts: CollectorRegistry | Collector) -> bytes:
    """All of these as one text; no two of them have a metric of the same name."""
    text = b""
    for part in parts:
        if not isinstance(part, CollectorRegistry):
            registry = CollectorRegistry(auto_describe=False)
            registry.register(part)
            part = registry
        text += generate_latest(part)
    return text


def families(figures: Figures) -> Iterator[Metric]:
    """The figures in the shapes of the catalogue, in its order."""
    samples: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
    for name, labels, value in figures.samples:
        samples[name].append((labels, value))
    buckets: dict[str, dict[tuple[str, ...], dict[float, tuple[int, float]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for name, labels, le, times, seconds in figures.buckets:
        buckets[name][labels][le] = (times, seconds)
    for known in BY_NAME.values():
        if known.kind is Kind.HISTOGRAM and known.name in buckets:
            yield _histogram(known, buckets[known.name])
        elif known.kind is Kind.COUNTER and known.name in samples:
            counter = CounterMetricFamily(known.name.removesuffix("_total"), known.help, labels=known.labels)
            for labels, value in samples[known.name]:
                counter.add_metric(labels, value)
            yield counter
        elif known.name in samples:
            yield _gauge(known, samples[known.name])


def _gauge(known: Known, found: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(known.name, known.help, labels=known.labels)
    for labels, value in found:
        family.add_metric(labels, value)
    return family


def _histogram(known: Known, found: dict[tuple[str, ...], dict[float, tuple[int, float]]]) -> Metric:
    family = HistogramMetricFamily(known.name, known.help, labels=known.labels)
    for labels, counted in found.items():
        reached, cumulative = 0, []
        for bound in (*known.buckets, float("inf")):
            reached += counted.get(bound, (0, 0.0))[0]
            cumulative.append((floatToGoString(bound), reached))
        family.add_metric(labels, cumulative, sum(seconds for _, seconds in counted.values()))
    return family
