"""What `/metrics` tells Prometheus: requests, the view's size and age, the process."""

from collections import Counter as Count
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from netfabric.fabric.view import View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Counters of this process, and what its view holds at the time of asking."""

    def __init__(self, view: View) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "netmaster_rest_requests",
            "REST requests answered.",
            ("api", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "netmaster_rest_seconds",
            "Seconds from a REST request to its answer.",
            ("api", "method"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Held(view))

    def answered(self, api: str, method: str, status: int, seconds: float) -> None:
        """Count one request; `api` is v1, v2 or other."""
        self._requests.labels(api, method, str(status)).inc()
        self._seconds.labels(api, method).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Held:
    """What the view holds, counted when asked."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        view = self._view
        objects = GaugeMetricFamily("netmaster_objects", "Objects of intent.", labels=["type"])
        for type_, of_type in sorted(view.objects.items()):
            objects.add_metric([type_], len(of_type))
        yield objects
        states = Count(s.state for host in view.hosts.values() for s in host.sessions)
        sessions = GaugeMetricFamily("netmaster_bgp_sessions", "BGP sessions.", labels=["state"])
        for state, number in sorted(states.items()):
            sessions.add_metric([state], number)
        yield sessions
        for name, help_, value in (
            ("endpoints", "Attached containers.", len(view.endpoints)),
            ("pods", "Pods of Kubernetes whose place is known.", len(view.pods)),
            ("hosts", "Hosts whose agent is connected.", len(view.hosts)),
            ("blocks", "Address blocks held by hosts.", len(view.blocks)),
            ("loans", "Addresses borrowed of other hosts' blocks.", len(view.loans)),
            ("learned_routes", "Routes learned over BGP.", sum(map(len, view.learned.values()))),
            (
                "refused",
                "Endpoints and routes refused for their origin.",
                sum(host.refused for host in view.hosts.values()),
            ),
            ("broken_keys", "Keys of the store that cannot be read.", len(view.broken)),
            ("store_revision", "Revision of the store that is shown.", view.revision),
        ):
            yield GaugeMetricFamily(f"netmaster_{name}", help_, value=value)
