"""In a child: bugs that the fault tests must find. Each is one that this design could have had."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any


def install(name: str, *, role: str) -> None:
    """Plants a bug by its name; an empty name plants none."""
    if name and role in ("serve", "work"):
        BUGS[name]()


def hint_before_commit() -> None:
    """Everybody is told before there is anything to read, and nobody afterwards."""
    from server.kit.db import Database

    initialise, write_on = Database.__init__, Database._write_on

    def initialised(self: Any, *arguments: Any, **named: Any) -> None:
        self.tell = named.pop("after_commit", lambda _write: None)
        initialise(self, *arguments, **named)

    async def early(self: Any, pair: Any, work: Any, **named: Any) -> Any:
        async def told(unit: Any) -> Any:
            result = await work(unit)
            self.tell(unit)
            await asyncio.sleep(0.05)
            return result

        return await write_on(self, pair, told, **named)

    Database.__init__, Database._write_on = initialised, early  # type: ignore[method-assign]


def verify_poll_skipped() -> None:
    """A tail believes that hints tell of everything, and calls verified what it has not read again."""
    from server.inbox.tail import TenantTail
    from server.inbox.tails import Pace, Tails

    Tails.pace = lambda _self: Pace(verify=3600)  # type: ignore[method-assign]
    TenantTail.verified_at = property(lambda _self: time.monotonic(), lambda _self, _time: None)  # type: ignore[attr-defined]


def bookmark_from_hint() -> None:
    """A bookmark stands where a hint says that the head is, not where the log was read up to."""
    from server.inbox import wire
    from server.inbox.stream import InboxStream
    from server.inbox.tail import TenantTail

    farthest: dict[Any, int] = {}
    hinted = TenantTail.hinted

    def believed(self: Any, new_head: int) -> None:
        farthest[self] = max(farthest.get(self, 0), new_head)
        hinted(self, new_head)

    TenantTail.hinted = believed  # type: ignore[method-assign]

    async def bookmark(self: Any) -> None:
        seq = max(self._tail._hinted, farthest.get(self._tail, 0))
        await self._write(wire.bookmark(self._tail.encoder.cursor(seq, None), seq))

    InboxStream._bookmark = bookmark  # type: ignore[method-assign]


def answered_before_durable() -> None:
    """A webhook is answered 200 half a second before it is stored."""
    from server.intake.service import Intake

    store = Intake._journal

    async def soon(self: Any, *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(0.5, lambda: asyncio.ensure_future(store(self, *arguments)))

    Intake._journal = soon  # type: ignore[method-assign]


def lease_requeued() -> None:
    """A send whose worker died is sent again. Its lease is short here, so that it ends within the run."""
    from server.deliveries import service as deliveries
    from server.messages.delivering import Sender
    from server.providers.contract import NotSent

    async def expire(self: Any, claimed: Any) -> None:
        await self.settle(claimed, NotSent("the worker stopped"))

    deliveries.LEASE = timedelta(seconds=4)
    Sender.expire = expire  # type: ignore[method-assign]


def request_id_forgotten() -> None:
    """A send is stored without its request id."""
    from server.messages.batch import BatchWriter
    from server.messages.items import Send

    enqueue = BatchWriter.enqueue

    def forgetful(self: Any, item: Any) -> Any:
        return enqueue(self, dataclasses.replace(item, request_id=None) if isinstance(item, Send) else item)

    BatchWriter.enqueue = forgetful  # type: ignore[method-assign]


def event_dropped() -> None:
    """A stream leaves out one event in a thousand, and goes on behind it."""
    from server.inbox.match import HIDDEN, Matcher

    transition = Matcher.transition

    def forgetful(self: Any, event: Any) -> int:
        return HIDDEN if random.random() < 0.001 else transition(self, event)

    Matcher.transition = forgetful  # type: ignore[method-assign]


def commit_not_durable() -> None:
    """Postgres answers a COMMIT before it is on disk."""
    import asyncpg

    connect = asyncpg.connect

    def hasty(*arguments: Any, **named: Any) -> Any:
        settings = {**(named.pop("server_settings", None) or {}), "synchronous_commit": "off"}
        return connect(*arguments, server_settings=settings, **named)

    asyncpg.connect = hasty


def event_not_counted() -> None:
    """Statistics leave out the last event of each page that has several."""
    from server.conversations.statistics import follow

    count = follow._count

    async def forgetful(connection: Any, records: Any, **named: Any) -> None:
        await count(connection, records[:-1] or records, **named)

    follow._count = forgetful


def audit_unchained() -> None:
    """An entry of the audit trail does not have the hash of the one before in its own."""
    from server.audit import chain, follow

    follow.hash_of = lambda _before, number, entry: chain.hash_of(b"", number, entry)


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        *(hint_before_commit, verify_poll_skipped, bookmark_from_hint, answered_before_durable),
        *(lease_requeued, request_id_forgotten, event_dropped, commit_not_durable),
        *(event_not_counted, audit_unchained),
    )
}
