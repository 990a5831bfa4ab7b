"""Bugs that the machine of the log must find, put into this process and nowhere else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from switchboard.v1 import inbox_service_pb2 as inbox

from server.inbox import stream, tail, wire
from server.inbox.index import Index
from server.inbox.subscriber import Subscriber
from server.kit.db import Database
from server.log import append, cursor


@contextlib.contextmanager
def sequence_taken_early() -> Iterator[None]:
    """Numbers of a SEQUENCE: a rollback leaves a hole, and commits overtake each other."""
    taken = """
    numbers AS MATERIALIZED (
        SELECT min(v) AS low, max(v) AS high FROM (SELECT nextval('planted') AS v FROM unnest($1::uuid[])) AS taken
    ),
    advanced AS (
        UPDATE stream_head SET head = greatest(head, numbers.high), head_event_id = ($1::uuid[])[cardinality($1::uuid[])]
        FROM numbers
        RETURNING epoch, numbers.low - 1 AS prev_head, old.head_event_id AS prev_event_id, numbers.high AS new_head
    ),
    appended AS"""
    planted = re.sub(r"advanced AS \(.*?\),\s+appended AS", taken, append.APPEND, flags=re.DOTALL)
    assert planted != append.APPEND
    with patch.object(append, "APPEND", planted):
        yield


@contextlib.contextmanager
def told_before_the_commit() -> Iterator[None]:
    """Streams are told of an append that may still come to nothing."""
    finish = append.finish

    async def early(write: Any, row: Any, events: Any) -> Any:
        appended = await finish(write, row, events)
        for tell in told:
            tell(write)
        return appended

    told: list[Callable[[Any], None]] = []
    init = Database.__init__

    def remembered(self: Database, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        if "after_commit" in named:
            told.append(named["after_commit"])

    with patch.object(append, "finish", early), patch.object(Database, "__init__", remembered):
        yield


@contextlib.contextmanager
def nothing_verified() -> Iterator[None]:
    """The tail reads when it is hinted, and only then: a lost hint is a lost event."""

    async def until_hinted(self: tail.TenantTail) -> None:
        await self._poked.wait()
        self._poked.clear()

    with patch.object(tail.TenantTail, "_pause", until_hinted), patch.object(tail.TenantTail, "poke", lambda _: None):
        yield


@contextlib.contextmanager
def bookmark_of_the_hint() -> Iterator[None]:
    """A bookmark says what somebody has said of the head, not what was read."""

    async def bookmark(self: stream.InboxStream) -> None:
        head = max(self._tail.head, self._tail._hinted)
        await self._write(wire.bookmark(self._cursor(), head))

    with patch.object(stream.InboxStream, "_bookmark", bookmark):
        yield


@contextlib.contextmanager
def floor_off_by_one() -> Iterator[None]:
    """The place right before the floor is refused, although all that follows it is there."""

    def check(self: cursor.Position, head: cursor.HeadRow, event_id: Any) -> None:
        if self.epoch_tag != cursor.epoch_tag(head.epoch) or self.seq > head.head:
            raise cursor.CursorDiverged()
        if self.seq < head.floor and head.floor > 1:
            raise cursor.CursorExpired()

    with patch.object(cursor.Position, "check", check):
        yield


@contextlib.contextmanager
def one_event_in_seven_dropped() -> Iterator[None]:
    """Of what the ring holds, some is not shown."""
    entry = wire.Outgoing.entry

    def forgetful(self: wire.Outgoing, transition: int, *, last: bool) -> bytes:
        return b"" if self.event.seq % 7 == 0 else entry(self, transition, last=last)

    with patch.object(wire.Outgoing, "entry", forgetful):
        yield


@contextlib.contextmanager
def rights_changed_one_event_late() -> Iterator[None]:
    """The event after a change of rights is shown under the rights before it."""

    async def late(self: stream.InboxStream, _blocked: wire.Outgoing) -> None:
        subscriber = self._subscriber
        subscriber.unblock(subscriber.matcher)
        subscriber.take(self._tail.after(subscriber.position.seq, 1) or [])
        if batch := subscriber.batch():
            await self._write(batch)
        self._pending = []
        await self._adopt(await self._renewed())

    with patch.object(stream.InboxStream, "_rights_changed", late):
        yield


@contextlib.contextmanager
def own_commits_not_checked() -> Iterator[None]:
    """What this process commits goes into the ring whether or not it follows what is there."""

    def careless(self: tail.TenantTail, appended: append.Appended) -> None:
        self.ring.last = appended.prev_head
        self._absorb(appended.events())
        self.head = max(self.head, self.ring.last)

    with patch.object(tail.TenantTail, "committed", careless):
        yield


@contextlib.contextmanager
def nobody_concerned() -> Iterator[None]:
    """The index forgets those who are there for their rights."""

    def forgetful(self: Index, outgoing: wire.Outgoing) -> Sequence[Any]:
        return [] if outgoing.is_control else list(self.readers)

    with patch.object(Index, "concerned", forgetful):
        yield


@contextlib.contextmanager
def transactions_torn() -> Iterator[None]:
    """Every event says that it is the last of its transaction."""
    release = Subscriber._release

    def torn(self: Subscriber, *, last: bool) -> None:
        del last
        release(self, last=True)

    with patch.object(Subscriber, "_release", torn):
        yield


@contextlib.contextmanager
def end_without_reason() -> Iterator[None]:
    """A log that was exchanged ends its streams as if the database were away."""
    item = stream.StreamEnd.item

    def unavailable(self: stream.StreamEnd, at: str) -> bytes:
        self.reason = inbox.END_REASON_UNAVAILABLE
        return item(self, at)

    with patch.object(stream.StreamEnd, "item", unavailable):
        yield


PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "the sequence is taken early, from a SEQUENCE": sequence_taken_early,
    "streams are told before the commit": told_before_the_commit,
    "nothing is verified": nothing_verified,
    "a bookmark says the hint's head": bookmark_of_the_hint,
    "the floor is off by one": floor_off_by_one,
    "one event in seven is dropped": one_event_in_seven_dropped,
    "rights change one event late": rights_changed_one_event_late,
    "own commits are not checked": own_commits_not_checked,
    "the index forgets whose rights change": nobody_concerned,
    "transactions are torn": transactions_torn,
    "a log that was exchanged is called unavailable": end_without_reason,
}
