"""One WatchInbox call after it was admitted: hello, catch-up, live, end.

A single coroutine writes. It never cancels a write that is pending (grpc/grpc#43360): a reader that stops is left behind, and
found out when its write comes back, or reaped by the edge.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

import structlog
from grpc import aio
from switchboard.v1 import event_pb2, options_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.inbox import wire
from server.inbox.ending import ScopeUnavailable, SlowConsumer, StreamEnd
from server.inbox.index import Reader
from server.inbox.match import Matcher, Selection
from server.inbox.metrics import InboxMetrics
from server.inbox.rights import Rights
from server.inbox.ring import Gap
from server.inbox.subscriber import Subscriber
from server.inbox.tail import TenantTail
from server.inbox.wire import Outgoing
from server.kit.clock import utc_now
from server.kit.errors import Refusal
from server.rpc.auth import CredentialExpired, PermissionMissing
from server.rpc.call import Call, Scope, Verified

NEVER = float("inf")
STALE_RETRY_SECONDS = 0.25
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Times and sizes of a stream. Tests shorten them. bookmark_interval: for callers who ask for none."""

    bookmark_interval: timedelta = timedelta(seconds=10)
    max_lifetime: timedelta = timedelta(minutes=60)
    retention: timedelta = timedelta(days=7)
    reauth_notice: timedelta = timedelta(seconds=60)
    recheck: timedelta = timedelta(seconds=25)
    unavailable_after: timedelta = timedelta(seconds=30)
    stalled_after: timedelta = timedelta(seconds=20)
    slow_events: int = 50_000
    slow_after: timedelta = timedelta(seconds=60)


class InboxStream:
    """Writes one stream. selection: what the caller wants; verified: whom it was opened for, with the rights of now.

    reader: how the tail knows it; the stream makes its own wake of it.
    """

    def __init__(
        self,
        *,
        call: Call,
        verified: Verified,
        tail: TenantTail,
        reader: Reader,
        subscriber: Subscriber,
        selection: Selection,
        rights: Rights,
        metrics: InboxMetrics,
        limits: StreamLimits,
        bookmark_interval: timedelta,
        freshness: float,
    ) -> None:
        self._call = call
        self._verified = verified
        self._tail = tail
        self._reader = reader
        self._subscriber = subscriber
        self._selection = selection
        self._rights = rights
        self._metrics = metrics
        self._limits = limits
        self._interval = bookmark_interval.total_seconds()
        self._freshness = freshness
        self._pending: list[Outgoing] = []
        self._caught_up = False
        self._draining = False
        self._best_lag, self._best_lag_at = NEVER, time.monotonic()
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None
        self._writing_since = NEVER
        self._stalled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._set_timers()
        reader.wake = self.wake
        self._follow(subscriber.matcher)

    def wake(self) -> None:
        """Something is new: look again."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def drain(self) -> None:
        """Ends the stream soon, with a goodbye: the process stops."""
        self._draining = True
        self.wake()

    async def run(self) -> None:
        """Writes the stream to its end. Returns after the end item; the status is OK then."""
        async with self:
            await self._hello()
            while True:
                self._pass_unconcerned()
                self._check()
                await self._on_time()
                if not await self._advance():
                    await self._idle()

    async def __aenter__(self) -> InboxStream:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        """The last word: no stream ends without an end item while there is somebody to read it."""
        self._silence()
        if isinstance(error, Refusal):
            error = StreamEnd.because(error)
        if isinstance(error, StreamEnd):
            await self._end(error)
            return True
        if isinstance(error, Gap):
            self._metrics.violations.inc()
        if isinstance(error, Exception) and not isinstance(error, aio.AbortError | aio.UsageError):
            await self._end(StreamEnd(inbox.END_REASON_UNAVAILABLE, error="INTERNAL", retry_after=timedelta(seconds=1)))
        return False

    def _set_timers(self) -> None:
        now = time.monotonic()
        lifetime = self._limits.max_lifetime.total_seconds()
        self._lifetime_due = now + lifetime * random.uniform(0.9, 1.0)
        self._recheck_due = self._next_recheck()
        self._rechecked_at = now
        self._bookmark_due = now + self._interval
        expire_time = self._verified.caller.expire_time
        self._expire_due = self._reauth_due = NEVER
        if expire_time is not None:
            self._expire_due = now + (expire_time - utc_now()).total_seconds()
            self._reauth_due = self._expire_due - self._limits.reauth_notice.total_seconds()

    async def _hello(self) -> None:
        hello = inbox.Hello(
            stream_id=self._call.id,
            server_time=wire.now(),
            cursor=self._cursor(),
            head=self._tail.head,
            floor=self._tail.floor,
            retention=wire.duration(self._limits.retention),
            bookmark_interval=wire.duration(timedelta(seconds=self._interval)),
            freshness=wire.duration(timedelta(seconds=self._freshness)),
            max_lifetime=wire.duration(self._limits.max_lifetime),
        )
        await self._write(inbox.WatchInboxResponse(hello=hello).SerializeToString())
        self._metrics.opened.inc()

    def _follow(self, matcher: Matcher) -> None:
        """From where it stands on, the stream shows what this matcher says."""
        self._subscriber.matcher = matcher
        self._tail.subscribe(self._reader, matcher.keys, self._verified.caller.id)

    def _pass_unconcerned(self) -> None:
        """Passes what the tail knows to be no concern of this stream, however much it is."""
        reader, subscriber, ready = self._reader, self._subscriber, self._tail.place_ready
        if reader.due and subscriber.position.seq >= ready.seq:
            reader.due = False
        clean = reader.clean if reader.due else ready
        if clean.seq > subscriber.position.seq and subscriber.at_boundary:
            subscriber.skip(clean)

    def _check(self) -> None:
        """Raises StreamEnd when the stream must not go on."""
        now = time.monotonic()
        if self._tail.broken is not None:
            raise StreamEnd.because(self._tail.broken)
        if now >= self._expire_due:
            raise StreamEnd.because(CredentialExpired())
        refusal, since = self._tail.refusal, self._tail.failing_since
        if refusal is not None and since is not None:
            hopeless = refusal.status != "UNAVAILABLE" or now - since > self._limits.unavailable_after.total_seconds()
            if hopeless:
                raise StreamEnd.because(refusal)
        if self._caught_up and self._lag() > self._limits.slow_events:
            raise StreamEnd.because(SlowConsumer(self._lag()))
        if self._subscriber.at_boundary and self._draining:
            raise StreamEnd(inbox.END_REASON_DRAIN, retry_after=timedelta(seconds=random.uniform(0.1, 1)))
        if self._subscriber.at_boundary and now >= self._lifetime_due:
            raise StreamEnd(inbox.END_REASON_LIFETIME)

    async def _on_time(self) -> None:
        """What is due whether or not events flow."""
        now = time.monotonic()
        if now >= self._reauth_due and self._verified.caller.expire_time is not None:
            self._reauth_due = NEVER
            await self._write(wire.reauth_required(self._verified.caller.expire_time, self._cursor()))
        if now >= self._recheck_due:
            await self._recheck()

    async def _advance(self) -> bool:
        """Passes what stands next and writes what of it is shown; whether there was anything."""
        subscriber = self._subscriber
        if not self._pending:
            self._pending = await self._next_events()
        passed = subscriber.take(self._pending)
        self._pending = self._pending[passed:]
        batch = subscriber.batch()
        if batch:
            await self._write(batch)
            self._count()
        elif passed:
            # Many that are not shown: others get their turn too.
            await asyncio.sleep(0)
        if subscriber.blocked is not None:
            await self._rights_changed(subscriber.blocked)
            self._pending = self._pending[1:]
            return True
        return passed > 0 or bool(batch)

    async def _next_events(self) -> list[Outgoing]:
        # No await between the test and the switch from pages to the ring.
        events = self._tail.after(self._subscriber.position.seq)
        if events is not None:
            return events
        self._check_progress()
        return await self._tail.page(self._subscriber.position.seq)

    def _check_progress(self) -> None:
        """A reader in catch-up must come nearer."""
        now, lag = time.monotonic(), self._lag()
        if lag < self._best_lag:
            self._best_lag, self._best_lag_at = lag, now
        elif now - self._best_lag_at > self._limits.slow_after.total_seconds():
            raise StreamEnd.because(SlowConsumer(lag))

    async def _idle(self) -> None:
        """Nothing stands next: says so once, bookmarks after silence, and waits."""
        if not self._caught_up and not self._reader.due:
            self._caught_up = True
            await self._write(wire.caught_up(self._cursor(), self._tail.head))
        self._best_lag = NEVER
        if time.monotonic() >= self._bookmark_due:
            await self._bookmark()
        if not self._reader.due or self._tail.failing_since is not None:
            await self._wait()

    async def _bookmark(self) -> None:
        """Only what was proved: the position is the whole log as it was read not long ago."""
        tail, age = self._tail, time.monotonic() - self._tail.verified_at
        proved = self._subscriber.position.seq == tail.ready == tail.head and age <= self._freshness
        if not proved:
            tail.poke()
            self._bookmark_due = time.monotonic() + STALE_RETRY_SECONDS
            return
        self._metrics.verify_age.observe(age)
        await self._write(wire.bookmark(self._cursor(), tail.head))

    async def _wait(self) -> None:
        now = time.monotonic()
        until = min(self._bookmark_due, self._expire_due, self._reauth_due, self._lifetime_due, self._recheck_due)
        if self._tail.failing_since is not None:
            until = min(until, now + 1.0)
        if not self._woken and until > now:
            self._set_alarm(until - now)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._woken = False

    def _set_alarm(self, seconds: float) -> None:
        """Wakes the stream by then. An earlier alarm stays: most waits end long before, and timers cost more than a look."""
        loop = asyncio.get_running_loop()
        if self._alarm is not None and self._alarm.when() <= loop.time() + seconds:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_later(seconds, self._alarmed)

    def _alarmed(self) -> None:
        self._alarm = None
        self.wake()

    def _silence(self) -> None:
        for timer in (self._alarm, self._watch):
            if timer is not None:
                timer.cancel()
        self._alarm = self._watch = None

    async def _recheck(self) -> None:
        """What the log cannot tell in time, because the job that writes it there is late, is asked for."""
        now = time.monotonic()
        try:
            self._tail.recheck_rights(shared=self._limits.recheck / 5)
            verified = await self._renewed()
        except ScopeUnavailable:
            if now - self._rechecked_at > 2 * self._limits.recheck.total_seconds():
                raise
            self._recheck_due = now + self._limits.recheck.total_seconds() / 6
            return
        self._rechecked_at = now
        self._recheck_due = self._next_recheck()
        await self._adopt(verified)

    def _next_recheck(self) -> float:
        """Soon after one another for all streams of a tenant, so that they share a read; counted from the last one."""
        return self._tail.rechecked_at + self._limits.recheck.total_seconds() * random.uniform(1.0, 1.1)

    async def _rights_changed(self, blocked: Outgoing) -> None:
        if blocked.event.kind == event_pb2.EVENT_TYPE_CREDENTIAL_REVOKED:
            raise StreamEnd(
                inbox.END_REASON_CREDENTIAL_REVOKED, error="CREDENTIAL_REVOKED", message="the key was revoked"
            )
        verified = await self._renewed()
        self._subscriber.unblock(self._subscriber.matcher)
        await self._adopt(verified)

    async def _renewed(self) -> Verified:
        """The caller with the rights it has now; fails closed."""
        try:
            verified = await asyncio.shield(asyncio.ensure_future(self._rights.renew(self._verified)))
        except Refusal as refusal:
            if refusal.status == "UNAVAILABLE":
                raise ScopeUnavailable() from refusal
            raise
        if options_pb2.PERMISSION_EVENTS_READ not in verified.caller.permissions:
            raise PermissionMissing("the caller may no longer read events")
        return verified

    async def _adopt(self, verified: Verified) -> None:
        """Goes on with these rights, and says what they changed."""
        old, new = self._verified.scope, verified.scope
        self._verified = verified
        if old == new:
            return
        self._follow(Matcher(self._selection, new))
        await self._write(scope_changed(old, new, self._cursor()))

    async def _end(self, end: StreamEnd) -> None:
        if end.reason in (inbox.END_REASON_DRAIN, inbox.END_REASON_LIFETIME):
            await self._write(wire.goodbye(end.reason, self._cursor(), end.retry_after))
        safe = self._subscriber.safe
        await self._write(end.item(self._tail.encoder.cursor(safe.seq, safe.event_id)))
        self._metrics.ended.labels(reason=inbox.EndReason.Name(end.reason).removeprefix("END_REASON_")).inc()

    def _cursor(self) -> str:
        position = self._subscriber.position
        return self._tail.encoder.cursor(position.seq, position.event_id)

    def _lag(self) -> int:
        return self._tail.ready - self._subscriber.position.seq

    def _count(self) -> None:
        self._metrics.delivered.inc(self._subscriber.count)
        self._subscriber.count = 0
        if self._caught_up and self._subscriber.newest is not None:
            delay = (utc_now() - self._subscriber.newest.create_time).total_seconds()
            self._metrics.delay.observe(max(delay, 0))

    async def _write(self, item: bytes) -> None:
        self._writing_since = time.monotonic()
        if self._watch is None:
            stalled_after = self._limits.stalled_after.total_seconds()
            self._watch = asyncio.get_running_loop().call_later(stalled_after, self._look_at_write)
        try:
            await self._call.context.write(item)
        except aio.InternalError as error:
            # The edge reset the call while the write was held up: nobody is there, as after any other cancellation.
            raise asyncio.CancelledError from error
        finally:
            self._writing_since = NEVER
            if self._stalled:
                self._stalled = False
                self._metrics.stalled.dec()
        self._bookmark_due = time.monotonic() + self._interval * random.uniform(0.9, 1.0)

    def _look_at_write(self) -> None:
        """Once a while there are writes, not once for each: whether the one that is pending has been for too long."""
        self._watch = None
        if self._writing_since == NEVER:
            return
        left = self._writing_since + self._limits.stalled_after.total_seconds() - time.monotonic()
        if left > 0:
            self._watch = asyncio.get_running_loop().call_later(left, self._look_at_write)
            return
        self._stalled = True
        self._metrics.stalled.inc()
        log.warning("stream.stalled", tenant=str(self._call.tenant_id), stream=self._call.id)


def scope_changed(old: Scope, new: Scope, cursor: str) -> bytes:
    """What a caller lost and gained, by channels and teams."""

    def ids(some: frozenset[uuid.UUID]) -> list[str]:
        return sorted(map(str, some))

    message = inbox.ScopeChanged(
        lost_channel_ids=ids(old.channel_ids - new.channel_ids),
        gained_channel_ids=ids(new.channel_ids - old.channel_ids),
        lost_team_ids=ids(old.team_ids - new.team_ids),
        gained_team_ids=ids(new.team_ids - old.team_ids),
        cursor=cursor,
    )
    return inbox.WatchInboxResponse(scope_changed=message).SerializeToString()
