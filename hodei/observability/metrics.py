"""Prometheus metrics of a process. Registries are made, not imported: two apps share none by accident."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


class HttpMetrics:
    """Requests by service, method, route template and status. Label values stay few."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or new_registry()
        self._requests = Counter(
            "hodei_http_requests",
            "HTTP requests answered.",
            ["service", "method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "hodei_http_request_duration_seconds",
            "Time from a request's headers to the end of its handling, long polls included.",
            ["service", "method", "route"],
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )

    def observe(self, *, service: str, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(service, method, route, str(status)).inc()
        self._seconds.labels(service, method, route).observe(seconds)

    def page(self, summary: Callable[[], Mapping[str, Any]] | None = None) -> bytes:
        """The text that Prometheus scrapes; with the gauges of ``summary`` when it can be had."""
        text = generate_latest(self.registry)
        if summary is None:
            return text
        extra = CollectorRegistry(auto_describe=False)
        extra.register(_Summary(summary))
        return text + generate_latest(extra)


def new_registry() -> CollectorRegistry:
    """A registry that already has the process's memory, CPU, descriptors and garbage collections."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _Summary(Collector):
    """Numbers of the summary as gauges: ``{"jobs": {"pending": 3}}`` is ``hodei_jobs{key="pending"} 3``."""

    def __init__(self, summary: Callable[[], Mapping[str, Any]]) -> None:
        self._summary = summary

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "hodei_database_up", "1 when the platform's numbers could be read from Postgres."
        )
        try:
            document = self._summary()
        except Exception:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        for name, value in document.items():
            yield from _gauges(f"hodei_{_NOT_A_NAME.sub('_', name)}", value)


def _gauges(name: str, value: Any) -> Iterator[Metric]:
    if _is_number(value):
        yield GaugeMetricFamily(name, f"{name} of the JSON summary.", value=float(value))
    elif isinstance(value, Mapping):
        numbers = {str(key).lower(): float(item) for key, item in value.items() if _is_number(item)}
        if numbers:
            family = GaugeMetricFamily(name, f"{name} of the JSON summary, by key.", labels=["key"])
            for key, number in sorted(numbers.items()):
                family.add_metric([key], number)
            yield family


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
