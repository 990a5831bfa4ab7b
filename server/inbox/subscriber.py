"""Where a stream stands, and what it sends next. A position, not a queue: however slow the reader, its memory is one batch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from server.inbox.match import HIDDEN, Matcher
from server.inbox.ring import Gap, Place
from server.inbox.wire import Outgoing
from server.log.read import LogEvent

BATCH_EVENTS = 64
BATCH_BYTES = 64 << 10
TRANSACTION_BYTES = 1 << 20


class Subscriber:
    """Collects what matches after its position, whole transactions if they fit, and knows which event is the last shown of each.

    principal_id: whose rights matter, None when the caller of `take` sees to them. A control event that concerns it is not passed:
    `blocked` says that it stands next.
    safe: the newest end of a transaction passed, the place to resume from.
    """

    def __init__(
        self,
        start: Place,
        matcher: Matcher,
        *,
        principal_id: uuid.UUID | None,
        most_events: int = BATCH_EVENTS,
        most_bytes: int = BATCH_BYTES,
    ) -> None:
        self.matcher = matcher
        self.position = self.safe = start
        self.blocked: Outgoing | None = None
        self.newest: LogEvent | None = None
        self.count = 0
        self._principal_id = principal_id
        self._most_events, self._most_bytes = most_events, most_bytes
        self._entries: list[bytes] = []
        self._size = 0
        # The newest match waits until it is known whether it is the last of its transaction.
        self._held: tuple[Outgoing, int] | None = None

    @property
    def at_boundary(self) -> bool:
        """Whether no transaction is half passed."""
        return self.position == self.safe

    def take(self, events: Sequence[Outgoing]) -> int:
        """Passes events, which follow the position, until the batch is full or `blocked`; returns how many were passed.

        Gap when one is missing: a stream ends rather than go on over a hole.
        """
        for index, outgoing in enumerate(events):
            if outgoing.subject is not None and outgoing.subject == self._principal_id:
                self._release(last=True)
                self.blocked = outgoing
                return index
            if not self._pass(outgoing):
                return index
        return len(events)

    def skip(self, place: Place) -> None:
        """Passes everything up to the end of a transaction unseen: the caller knows that none of it is shown."""
        self.position = self.safe = place

    def unblock(self, matcher: Matcher) -> None:
        """Passes the control event that blocked, with new rights for what follows it."""
        if self.blocked is not None:
            self._move(self.blocked.event)
            self.blocked = None
        self.matcher = matcher

    def batch(self) -> bytes:
        """What was collected, as the bytes of a WatchInboxResponse, empty when nothing was; and begins anew."""
        result = b"".join(self._entries)
        self.count += len(self._entries)
        self._entries.clear()
        self._size = 0
        return result

    def _pass(self, outgoing: Outgoing) -> bool:
        event = outgoing.event
        if event.seq != self.position.seq + 1:
            raise Gap(f"event {event.seq} was to follow {self.position.seq}")
        if self.at_boundary and self._no_room_for(event):
            return False
        transition = HIDDEN if outgoing.is_control else self.matcher.transition(event)
        if transition != HIDDEN:
            if not self.at_boundary and self._full(self._most_events, TRANSACTION_BYTES):
                self._release(last=False)
                return False
            self._release(last=False)
            self._held = (outgoing, transition)
        self._move(event)
        return True

    def _no_room_for(self, event: LogEvent) -> bool:
        """Whether a transaction that begins here should begin the next batch."""
        waiting = len(self._entries)
        return waiting > 0 and (
            self._full(self._most_events, self._most_bytes)
            or waiting + event.tx_last - event.seq + 1 > self._most_events
        )

    def _full(self, events: int, size: int) -> bool:
        waiting = len(self._entries) + (self._held is not None)
        return waiting >= events or self._size >= size

    def _move(self, event: LogEvent) -> None:
        self.position = Place(event.seq, event.id)
        if event.seq == event.tx_last:
            self._release(last=True)
            self.safe = self.position

    def _release(self, *, last: bool) -> None:
        if self._held is not None:
            outgoing, transition = self._held
            entry = outgoing.entry(transition, last=last)
            self._entries.append(entry)
            self._size += len(entry)
            self.newest = outgoing.event
            self._held = None
