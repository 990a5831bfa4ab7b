"""The streams of a process: how many may be open, and how all of them are ended when the process stops."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from server.inbox.metrics import InboxMetrics
from server.inbox.stream import InboxStream
from server.kit.errors import Refusal
from server.rpc.call import Call
from server.rpc.errors import Draining

PER_CALLER = 16
PER_TENANT = 1000
PER_PROCESS = 2000
OPENS_PER_SECOND = 200.0


class TooManyStreams(Refusal):
    """A limit of the caller or of the process."""

    status = "RESOURCE_EXHAUSTED"
    reason = "TOO_MANY_STREAMS"

    def __init__(self, limit: str) -> None:
        wait = timedelta(seconds=random.uniform(0.5, 2))
        super().__init__(f"too many streams: {limit}", metadata={"limit": limit}, retry_after=wait)


class Streams:
    """Admits streams before the database is touched, and drains them."""

    def __init__(
        self,
        metrics: InboxMetrics,
        *,
        per_caller: int = PER_CALLER,
        per_tenant: int = PER_TENANT,
        per_process: int = PER_PROCESS,
        opens_per_second: float = OPENS_PER_SECOND,
    ) -> None:
        self._metrics = metrics
        self._per_caller, self._per_tenant, self._per_process = per_caller, per_tenant, per_process
        self._rate = self._tokens = opens_per_second
        self._refilled_at = time.monotonic()
        self._open: Counter[tuple[uuid.UUID, uuid.UUID | None]] = Counter()
        self._of_tenant: Counter[uuid.UUID] = Counter()
        self._running: set[InboxStream] = set()
        self._draining = False
        self._empty = asyncio.Event()

    @contextlib.contextmanager
    def admitted(self, call: Call) -> Iterator[None]:
        """Holds a place for a stream. TOO_MANY_STREAMS, or DRAINING."""
        key = (call.tenant_id, call.caller.id)
        self._admit(key)
        self._open[key] += 1
        self._of_tenant[call.tenant_id] += 1
        self._metrics.open.inc()
        try:
            yield
        finally:
            self._metrics.open.dec()
            self._open[key] -= 1
            self._of_tenant[call.tenant_id] -= 1
            if self._open[key] == 0:
                del self._open[key]
            if self._of_tenant[call.tenant_id] == 0:
                del self._of_tenant[call.tenant_id]
            if not self._open:
                self._empty.set()

    @contextlib.contextmanager
    def running(self, stream: InboxStream) -> Iterator[None]:
        """Lets the stream be drained while it runs."""
        self._running.add(stream)
        if self._draining:
            stream.drain()
        try:
            yield
        finally:
            self._running.discard(stream)

    async def drain(self, over: timedelta = timedelta(seconds=5)) -> None:
        """Admits no more and ends all, at a constant rate over this time; returns when they are gone, or a little later."""
        self._draining = True
        streams = list(self._running)
        pause = over.total_seconds() / max(len(streams), 1)
        for stream in streams:
            stream.drain()
            await asyncio.sleep(min(pause, 0.02))
        if self._open:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout=max(over.total_seconds(), 1))

    def _admit(self, key: tuple[uuid.UUID, uuid.UUID | None]) -> None:
        if self._draining:
            raise Draining()
        now = time.monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._refilled_at) * self._rate)
        self._refilled_at = now
        limit = ""
        if self._open[key] >= self._per_caller:
            limit = f"{self._per_caller} of one caller"
        elif self._of_tenant[key[0]] >= self._per_tenant:
            limit = f"{self._per_tenant} of one tenant in one process"
        elif self._of_tenant.total() >= self._per_process:
            limit = f"{self._per_process} of one process"
        elif self._tokens < 1:
            limit = f"{self._rate:.0f} opened in a second"
        if limit:
            self._metrics.refused.inc()
            raise TooManyStreams(limit)
        self._tokens -= 1
