"""The newest events of a tenant, in memory, contiguous."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass

from server.inbox.wire import Outgoing
from server.log.read import LogBroken

RING_EVENTS = 4096
RING_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A seq and the id of its event; None for the place before the first event, or where the event is gone."""

    seq: int
    event_id: uuid.UUID | None


START = Place(0, None)


class Gap(LogBroken):
    """An event that does not follow the last one: a defect of ours, never skipped over."""


class Ring:
    """Events in order of seq without a gap, bounded by count and bytes. last: the seq of the newest ever put in."""

    def __init__(self, last: int, *, events: int = RING_EVENTS, size: int = RING_BYTES) -> None:
        self.last = last
        self._events: deque[Outgoing] = deque()
        self._bytes = 0
        self._most_events, self._most_bytes = events, size

    @property
    def first(self) -> int:
        """The oldest seq held; last + 1 when none is."""
        return self.last - len(self._events) + 1

    def append(self, outgoing: Outgoing) -> None:
        """Adds the next event and drops what no longer fits."""
        if outgoing.event.seq != self.last + 1:
            raise Gap(f"event {outgoing.event.seq} came after {self.last}")
        self._events.append(outgoing)
        self._bytes += outgoing.size
        self.last += 1
        while len(self._events) > self._most_events or self._bytes > self._most_bytes:
            self._bytes -= self._events.popleft().size

    def forget(self) -> None:
        """Drops all that is held: it may tell of somebody who was erased. What is read again comes from the log."""
        self._events.clear()
        self._bytes = 0

    def get(self, seq: int) -> Outgoing | None:
        """The event with this seq, if it is held."""
        return self._events[seq - self.first] if self.first <= seq <= self.last else None

    def after(self, position: int, upto: int, limit: int) -> list[Outgoing] | None:
        """The held events in (position, upto], at most limit; None when the next one is no longer held."""
        if position < self.first - 1:
            return None
        start, stop = position + 1, min(upto, self.last, position + limit)
        # Indexed from the nearer end: streams read where the ring is newest.
        return [self._events[seq - self.last - 1] for seq in range(start, stop + 1)]
