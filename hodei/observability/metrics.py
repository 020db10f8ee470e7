"""The HTTP services' own metrics. Registries are made, not imported: two apps share none by accident."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from hodei.observability.catalogue import BY_NAME


class HttpMetrics:
    """Requests by service, method, route template and status. Label values stay few."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or new_registry()
        requests, seconds = (
            BY_NAME["hodei_http_requests_total"],
            BY_NAME["hodei_http_request_duration_seconds"],
        )
        self._requests = Counter(
            requests.name.removesuffix("_total"), requests.help, requests.labels, registry=self.registry
        )
        self._seconds = Histogram(
            seconds.name, seconds.help, seconds.labels, buckets=seconds.buckets, registry=self.registry
        )

    def observe(self, *, service: str, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(service, method, route, str(status)).inc()
        self._seconds.labels(service, method, route).observe(seconds)


def new_registry() -> CollectorRegistry:
    """A registry that already has the process's memory, CPU, descriptors and garbage collections."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
