"""A small cache of rows that are asked for on every call: bounded age, bounded size, one load at a time per key."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Generic, TypeVar

from prometheus_client import Counter

LOADS = Counter(
    "switchboard_cache_loads_total", "Rows that a cache asked the database for; calls without are hits.", ["cache"]
)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Values by key, loaded on demand; name: for its metric. None is a value too, "there is no such row", and is kept shorter."""

    def __init__(
        self,
        load: Callable[[K], Awaitable[V | None]],
        *,
        name: str = "",
        keep: timedelta = timedelta(seconds=30),
        keep_missing: timedelta = timedelta(seconds=2),
        size: int = 10_000,
    ) -> None:
        self._load = load
        self._loads = LOADS.labels(name) if name else None
        self._keep, self._keep_missing = keep.total_seconds(), keep_missing.total_seconds()
        self._size = size
        self._values: OrderedDict[K, tuple[V | None, float]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V | None]] = {}

    async def get(self, key: K) -> V | None:
        """The value, at most `keep` old. Errors of the load reach everybody who waits for it, and are not kept."""
        held = self._values.get(key)
        if held is not None and held[1] > time.monotonic():
            return held[0]
        task = self._loading.get(key)
        if task is None:
            task = asyncio.ensure_future(self._fill(key))
            self._loading[key] = task
        # Shielded: one caller that goes away must not end the load of the others.
        return await asyncio.shield(task)

    def forget(self, key: K) -> None:
        """The next get loads anew, even when a load is running now."""
        self._values.pop(key, None)
        self._loading.pop(key, None)

    def forget_where(self, belongs: Callable[[K, V | None], bool]) -> None:
        """Forgets every key of which belongs(key, value) is true, and what is being loaded: it may be old when it arrives."""
        for key, (value, _) in list(self._values.items()):
            if belongs(key, value):
                self.forget(key)
        self._loading.clear()

    async def _fill(self, key: K) -> V | None:
        me = asyncio.current_task()
        if self._loads is not None:
            self._loads.inc()
        try:
            value = await self._load(key)
        finally:
            mine = self._loading.get(key) is me
            if mine:
                del self._loading[key]
        if mine:
            self._put(key, value)
        return value

    def _put(self, key: K, value: V | None) -> None:
        until = time.monotonic() + (self._keep_missing if value is None else self._keep)
        self._values[key] = (value, until)
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)
