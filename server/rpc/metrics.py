"""How many calls, how they ended, and how long they took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import Counter, Histogram

HANDLED = Counter("switchboard_rpc_handled_total", "Calls by method and gRPC code.", ["method", "code"])
SECONDS = Histogram(
    "switchboard_rpc_seconds",
    "Seconds from a unary call's first byte to its answer; streams are counted, not timed.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
STREAMS = frozenset({"/switchboard.v1.InboxService/WatchInbox"})


class Outcome:
    """The gRPC code a call ends with; CANCELLED until something else is known."""

    code = "CANCELLED"


@contextmanager
def measured(method: str) -> Iterator[Outcome]:
    """Counts one call."""
    outcome = Outcome()
    began = time.perf_counter()
    try:
        yield outcome
    finally:
        _handled(method, outcome.code).inc()
        if method not in STREAMS:
            _seconds(method).observe(time.perf_counter() - began)


# labels() takes a lock and checks its arguments each time.
@cache
def _handled(method: str, code: str) -> Counter:
    return HANDLED.labels(method, code)


@cache
def _seconds(method: str) -> Histogram:
    return SECONDS.labels(method)
