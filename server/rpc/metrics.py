"""How many calls, how they ended, and how long they took."""

from __future__ import annotations

import time
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


class Measured:
    """Counts one call when it is left. code: the gRPC code it ends with; CANCELLED until something else is known."""

    __slots__ = ("_began", "_method", "code")

    def __init__(self, method: str) -> None:
        self._method = method
        self.code = "CANCELLED"

    def __enter__(self) -> Measured:
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_error: object) -> None:
        _handled(self._method, self.code).inc()
        if self._method not in STREAMS:
            _seconds(self._method).observe(time.perf_counter() - self._began)


# labels() takes a lock and checks its arguments each time.
@cache
def _handled(method: str, code: str) -> Counter:
    return HANDLED.labels(method, code)


@cache
def _seconds(method: str) -> Histogram:
    return SECONDS.labels(method)
