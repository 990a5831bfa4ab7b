"""What waits for the batch writer: in order within a caller, in turn between callers."""

from __future__ import annotations

import uuid
from collections import deque
from typing import Generic, TypeVar

from server.kit.errors import DatabaseUnavailable

T = TypeVar("T")
# Of one caller, and in all: somebody who queues all that he may still leaves room for everybody else.
CALLER_MOST, ALL_MOST = 5_000, 20_000


class QueueFull(DatabaseUnavailable):
    """The tenant's database takes less than is asked of it."""

    def __init__(self) -> None:
        super().__init__("too many writes of this tenant are waiting; repeat with the same request id")


class FairQueue(Generic[T]):
    """Items by caller. A caller with thousands of them is one caller: each turn takes one item of everybody."""

    def __init__(self) -> None:
        self._callers: deque[uuid.UUID | None] = deque()
        self._waiting: dict[uuid.UUID | None, deque[T]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, caller: uuid.UUID | None, item: T) -> None:
        """Adds an item behind the others of its caller. QueueFull."""
        waiting = self._waiting.get(caller)
        if self._length >= ALL_MOST or (waiting is not None and len(waiting) >= CALLER_MOST):
            raise QueueFull
        if waiting is None:
            waiting = self._waiting[caller] = deque()
            self._callers.append(caller)
        waiting.append(item)
        self._length += 1

    def take(self, most: int) -> list[T]:
        """The next items, at most so many: one of each caller in turn, beginning where the last ones ended."""
        taken: list[T] = []
        while self._callers and len(taken) < most:
            caller = self._callers.popleft()
            waiting = self._waiting[caller]
            taken.append(waiting.popleft())
            if waiting:
                self._callers.append(caller)
            else:
                del self._waiting[caller]
        self._length -= len(taken)
        return taken
