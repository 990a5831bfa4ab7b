"""Numbers that prove the stream's contract. assertion_violations must stay 0."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class InboxMetrics:
    """The inbox's part of the metrics page."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        name = "switchboard_inbox_"
        self.opened = Counter(f"{name}streams_opened", "Streams that got their hello.", registry=registry)
        self.refused = Counter(f"{name}streams_refused", "Opens refused by a limit.", registry=registry)
        self.ended = Counter(f"{name}streams_ended", "Streams by end reason.", ["reason"], registry=registry)
        self.open = Gauge(f"{name}streams_open", "Streams now.", registry=registry)
        self.stalled = Gauge(f"{name}streams_stalled", "Streams whose write waits longer than 20 s.", registry=registry)
        self.delivered = Counter(f"{name}events_delivered", "Events written to streams.", registry=registry)
        self.delay = Histogram(
            f"{name}delivery_seconds", "From an event's create time to its write.", buckets=_SECONDS, registry=registry
        )
        self.pages = Counter(f"{name}catchup_pages", "Pages read for streams outside the ring.", registry=registry)
        self.tails = Gauge(f"{name}tails", "Tenants followed by this process.", registry=registry)
        self.reads = Counter(f"{name}tail_reads", "Reads of the log and its head by tails.", registry=registry)
        self.verify_age = Histogram(
            f"{name}verify_age_seconds",
            "Age of the last verified head at a bookmark.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.hints_healthy = Gauge(f"{name}hints_healthy", "1 while Valkey's hints arrive, else 0.", registry=registry)
        self.repairs = Counter(f"{name}gap_repairs", "Events that no hint told of.", registry=registry)
        self.diverged = Counter(f"{name}logs_diverged", "Logs that went back or changed epoch.", registry=registry)
        self.violations = Counter(f"{name}assertion_violations", "Must be 0.", registry=registry)
