"""The tail of one tenant's log in one process: reads what is new once, for all streams of the tenant.

One task reads. Hints only wake it; what it believes, it has read from the database, or this process has committed it itself and
it follows what is there. Every read brings the head row too, so every read verifies.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import structlog
from switchboard.v1 import event_pb2

from server.inbox.index import Index, Keys, Reader
from server.inbox.metrics import InboxMetrics
from server.inbox.providers import load_providers
from server.inbox.rights import Rights
from server.inbox.ring import START, Place, Ring
from server.inbox.wire import Encoder, Outgoing
from server.kit.db import Connection, Database, Pinned
from server.kit.errors import DatabaseUnavailable, Refusal
from server.log.append import Appended
from server.log.cursor import CursorDiverged, CursorExpired, Cursors, HeadRow, fingerprint
from server.log.hints import Hints
from server.log.read import LogBroken, LogEvent, Page, read_head, read_page, read_place

PRELOAD = 500
UNHINTED_SECONDS = 0.5
OVERTAKEN_SECONDS = 0.001
DEGRADED_SECONDS = 10.0
REFRESH_SECONDS = 2.0
RETRY_SECONDS = 0.5
NEVER = float("inf")
# The log tells less from here on of what it told before.
CONTACT_ERASED = event_pb2.EVENT_TYPE_CONTACT_ERASED
log = structlog.get_logger(__name__)

DatabaseOf = Callable[[uuid.UUID], Awaitable[Database]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often tails verify, in seconds, and how old a verified head may be for a bookmark.

    verify: while hints are healthy, all processes together; poll: each of them, while they are not. Both without jitter.
    freshness: what hello announces; a process that goes by what others read reads for itself after this time.
    """

    verify: float = 2.0
    poll: float = 0.2
    freshness: float = 10.0


@dataclass(slots=True)
class Surroundings:
    """What all tails of a process share.

    pins: how many tails may still keep a connection of their own; the others take one for each read, under `verifying`.
    """

    database_of: DatabaseOf
    cursors: Cursors
    hints: Hints
    rights: Rights
    metrics: InboxMetrics
    pace: Callable[[], Pace]
    verifying: asyncio.Semaphore
    pages: asyncio.Semaphore
    pins: int


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """What the database says against a read is for the caller a database that does not answer."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise DatabaseUnavailable() from error


class TenantTail:
    """What streams of one tenant read from.

    place_ready: up to where they may read, always the end of a transaction. head: newest seq known. refusal: why the log cannot be
    read now, since failing_since (monotonic). broken: why it can never be continued: streams end with it. rechecked_at
    (monotonic): when its streams last had all rights read anew.
    """

    def __init__(self, tenant_id: uuid.UUID, around: Surroundings) -> None:
        self.tenant_id = tenant_id
        self._around = around
        self.encoder = Encoder(around.cursors, tenant_id, uuid.UUID(int=0))
        self.providers: dict[uuid.UUID, int] = {}
        self.ring = Ring(0)
        self.place_ready = START
        self.head = self.floor = 0
        self.verified_at = self.rechecked_at = -NEVER
        self.failing_since: float | None = None
        self.refusal: Refusal | None = None
        self.broken: Refusal | None = None
        self._last_id: uuid.UUID | None = None
        self._index = Index()
        self._unready: list[Outgoing] = []
        self._early: dict[int, Appended] = {}
        self._pinned: Pinned | None = None
        self._verifiers: set[Callable[[], None]] = set()
        self._pages = asyncio.Semaphore(4)
        self._poked = asyncio.Event()
        self._hinted = 0
        self._unhinted: tuple[int, float] | None = None
        self._degraded_until = 0.0
        self._assured_at = self._told_at = -NEVER
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def streams(self) -> int:
        """How many streams read from it."""
        return len(self._index.readers)

    @property
    def ready(self) -> int:
        """The seq of place_ready."""
        return self.place_ready.seq

    async def start(self) -> None:
        """Reads the newest events and begins to follow. Refuses when the database cannot be read."""
        self.rechecked_at = time.monotonic()
        self._around.rights.invalidate(self.tenant_id)
        self._pin()
        try:
            await self._begin()
        except BaseException:
            await self._unpin()
            raise
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"tail {self.tenant_id}")
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Ends after the read that runs now, if one does."""
        self._closing = True
        self._poked.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def subscribe(self, reader: Reader, keys: Keys, principal_id: uuid.UUID | None) -> None:
        """Wakes the reader when something came that may concern it, or something is wrong. Again, when its keys are others."""
        if self.streams == 0:
            # It slept while nobody read.
            self.poke()
        self._index.put(reader, keys, principal_id)

    def unsubscribe(self, reader: Reader) -> None:
        """The end of subscribe."""
        self._index.remove(reader)

    def committed(self, appended: Appended) -> None:
        """This process committed these events: they are shown without a read, once they follow what is there."""
        self._hinted = max(self._hinted, appended.new_head)
        if appended.new_head <= self.ring.last:
            return
        self._early[appended.prev_head] = appended
        if appended.prev_head == self.ring.last:
            self._take_early()
        if self._early:
            # Its commit overtook another one: of this process, which says so in a moment, or of another, which must be read.
            asyncio.get_running_loop().call_later(OVERTAKEN_SECONDS, self._read_if_early)

    def hinted(self, new_head: int) -> None:
        """Somebody says that the head moved."""
        self._hinted = max(self._hinted, new_head)
        if new_head > self.ring.last:
            self._poked.set()

    def read_elsewhere(self, head: int, mark: int) -> None:
        """Some process says that it read the log to its end: the same is here too, or has to be read."""
        if (head, mark) == (self.ring.last, self._mark()):
            self._assured_at = time.monotonic()
        elif head >= self.ring.last:
            self._hinted = max(self._hinted, head)
            self.poke()

    def poke(self) -> None:
        """Reads and verifies now."""
        self._poked.set()

    def after(self, position: int, limit: int = 256) -> list[Outgoing] | None:
        """Events after a position from memory; None when they are no longer there."""
        return self.ring.after(position, self.ready, limit)

    def recheck_rights(self, *, shared: timedelta) -> None:
        """Rights are read anew: once for all streams that ask within this time, however many they are."""
        now = time.monotonic()
        if now - self.rechecked_at >= shared.total_seconds():
            self.rechecked_at = now
            self._around.rights.invalidate(self.tenant_id)

    async def page(self, after: int) -> list[Outgoing]:
        """Events after a position from the database, none beyond ready: what changes rights up to there is known.

        Shielded from the caller's cancellation. CursorExpired, CursorDiverged, DatabaseUnavailable.
        """
        async with self._pages, self._around.pages:
            page = await asyncio.shield(asyncio.ensure_future(self._read(after)))
        self._around.metrics.pages.inc()
        if page.head.epoch != self.encoder.epoch:
            raise CursorDiverged()
        return [Outgoing(event, self.encoder) for event in page.events if event.seq <= self.ready]

    async def refresh(self, since: float) -> None:
        """Waits until ready was the whole log at some moment after since (monotonic). Many waiters share a read.

        DatabaseUnavailable after 2 s, or what else keeps the log from being read.
        """
        changed = asyncio.Event()
        self._verifiers.add(changed.set)
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                while self.verified_at < since:
                    if self.broken is not None or (self.refusal is not None and self.refusal.status != "UNAVAILABLE"):
                        raise self.refusal or DatabaseUnavailable()
                    self.poke()
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            raise DatabaseUnavailable() from None
        finally:
            self._verifiers.discard(changed.set)

    async def place(self, seq: int) -> tuple[HeadRow, uuid.UUID | None]:
        """The head row as last read, and the id of the event at seq, from memory where the ring holds it."""
        head = HeadRow(self.encoder.epoch, self.head, self.floor, self._last_id)
        held = self.ring.get(seq)
        if held is not None or seq > self.head:
            return head, held.event.id if held is not None else None
        return head, (await asyncio.shield(asyncio.ensure_future(self._place(seq))))[1]

    async def _place(self, seq: int) -> tuple[HeadRow, uuid.UUID | None]:
        async with (await self._around.database_of(self.tenant_id)).connection() as connection:
            with database_errors():
                return await read_place(connection, seq)

    async def _read(self, after: int) -> Page:
        async with (await self._around.database_of(self.tenant_id)).connection() as connection:
            with database_errors():
                return await self._read_on(connection, after)

    async def _read_on(self, connection: Connection, after: int) -> Page:
        page = await read_page(connection, after=after)
        if any(self._of_new_channel(event) for event in page.events):
            await load_providers(connection, self.providers)
        return page

    def _of_new_channel(self, event: LogEvent) -> bool:
        return event.channel_id is not None and event.channel_id not in self.providers

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """The tail's own connection; one of the pool's when the process has no more to give to tails."""
        database = await self._around.database_of(self.tenant_id)
        with database_errors():
            if self._pinned is not None:
                async with self._pinned.of(database) as connection:
                    yield connection
                return
            async with self._around.verifying, database.connection() as connection:
                yield connection

    def _pin(self) -> None:
        if self._around.pins > 0:
            self._around.pins -= 1
            self._pinned = Pinned()

    async def _unpin(self) -> None:
        pinned, self._pinned = self._pinned, None
        if pinned is not None:
            self._around.pins += 1
            await pinned.close()

    async def _begin(self) -> None:
        async with self._connection() as connection:
            head = await read_head(connection)
            await load_providers(connection, self.providers)
        self.encoder = Encoder(self._around.cursors, self.tenant_id, head.epoch)
        self.ring = Ring(max(head.floor - 1, head.head - PRELOAD, 0))
        self._hinted = head.head
        while not await self._load():
            continue

    async def _run(self) -> None:
        try:
            await self._keep_reading()
        finally:
            await self._unpin()

    async def _keep_reading(self) -> None:
        while not self._closing and self.broken is None:
            await self._pause()
            try:
                while not self._closing and self.broken is None and not await self._load():
                    continue
            except CursorExpired as expired:
                self._break(expired)
            except (Refusal, LogBroken) as error:
                self._failed(error)

    async def _pause(self) -> None:
        """Until the next verification is due, or somebody knows of something new."""
        began, chance = time.monotonic(), random.uniform(0.8, 1.2)
        if self.failing_since is not None:
            self._poked.clear()
        while not self._poked.is_set() and (left := self._due(began, chance) - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if left < NEVER else None):
                    await self._poked.wait()
        self._poked.clear()

    def _due(self, began: float, chance: float) -> float:
        """When to read although nobody knows of anything new (monotonic); began: since when there was no read."""
        if self.failing_since is not None:
            return began + RETRY_SECONDS * chance
        if self.streams == 0:
            return NEVER
        pace = self._around.pace()
        if not self._around.hints.healthy or began <= self._degraded_until:
            return began + pace.poll * chance
        # What others say puts it off only until bookmarks would want proof, and only while it is said: where nothing of the
        # tenant is heard, hints are not heard either.
        # Who has not read for longest is the next to read, so that all keep fresh by turns.
        unread = min(max(self._assured_at - began, 0.0) / pace.verify, 5.0)
        turn = 1.2 - 0.07 * unread + (chance - 1) / 10
        return max(began + pace.verify * chance, min(self._assured_at + pace.verify * turn, began + pace.freshness))

    async def _load(self) -> bool:
        """Reads one page; whether it reached the head."""
        after, last_id, hinted, started = self.ring.last, self._last_id, self._hinted, time.monotonic()
        async with self._connection() as connection:
            page = await self._read_on(connection, after)
        self._around.metrics.reads.inc()
        if self._diverged(page, after, last_id):
            self._break(CursorDiverged())
            return True
        # What this process committed during the read is there already, and may be newer than the page.
        self._absorb([event for event in page.events if event.seq > self.ring.last])
        reached = page.reaches_head(after)
        if reached:
            self.verified_at = started
            if page.head.head == self.ring.last:
                self._last_id = page.head.head_event_id
                self._make_ready()
        self.head, self.floor = max(page.head.head, self.ring.last), page.head.floor
        told = self._watch_hints(page)
        if reached and page.head.head == self.ring.last:
            self._tell(at_once=not told)
        if reached and self._hinted == hinted > page.head.head:
            # Hints are given after the commit: this one was false, and must not pass for the hint of what is still to come.
            self._hinted = page.head.head
        self._take_early()
        self._recovered()
        for wake in list(self._verifiers):
            wake()
        return reached

    def _diverged(self, page: Page, after: int, last_id: uuid.UUID | None) -> bool:
        """Whether the log is no longer the one that was read: restored, or failed over with a loss."""
        head = page.head
        if head.epoch != self.encoder.epoch or head.head < after:
            return True
        before = head.head_event_id if head.head == after else page.before
        return before is not None and last_id is not None and before != last_id

    def _absorb(self, events: Sequence[LogEvent]) -> None:
        arrived = [Outgoing(event, self.encoder) for event in events]
        if any(outgoing.is_control for outgoing in arrived):
            # Before any stream can read on: nothing after the change is matched with the rights before it.
            self._around.rights.invalidate(self.tenant_id)
        for outgoing in arrived:
            self.ring.append(outgoing)
            self._unready.append(outgoing)
            self._last_id = outgoing.event.id
            if outgoing.event.seq == outgoing.event.tx_last:
                self._make_ready()
        if any(outgoing.event.kind == CONTACT_ERASED for outgoing in arrived):
            self.ring.forget()

    def _make_ready(self) -> None:
        """What was absorbed is the whole of its transaction: streams may read it, and those that it may concern are woken."""
        before, self.place_ready = self.place_ready, Place(self.ring.last, self._last_id)
        for outgoing in self._unready:
            for reader in self._index.concerned(outgoing):
                if not reader.due:
                    reader.due, reader.clean = True, before
                reader.wake()
        self._unready.clear()

    def _take_early(self) -> None:
        """Commits of this process that follow what is there."""
        while (appended := self._early.pop(self.ring.last, None)) is not None:
            follows = appended.epoch == self.encoder.epoch and appended.prev_event_id == self._last_id
            events = appended.events()
            if not follows or any(map(self._of_new_channel, events)):
                self.poke()
                break
            self._absorb(events)
            self.head = max(self.head, self.ring.last)
        self._early = {prev: early for prev, early in self._early.items() if prev > self.ring.last}

    def _read_if_early(self) -> None:
        if self._early:
            self.poke()

    def _mark(self) -> int:
        """Names the newest event here, and the log."""
        return int.from_bytes(fingerprint(self.encoder.epoch, self.ring.last, self._last_id), "big")

    def _tell(self, *, at_once: bool) -> None:
        """Says what was read, so that other processes need not look for themselves; at once what no hint told of."""
        now = time.monotonic()
        if at_once or now - self._told_at >= self._around.pace().verify / 2:
            self._told_at = now
            self._around.hints.publish_read(self.tenant_id, self.ring.last, self._mark())

    def _watch_hints(self, page: Page) -> bool:
        """Whether hints told of all that was read. Counts what none told of within half a second, and polls for a while after it."""
        now = time.monotonic()
        if self._unhinted is not None and self._unhinted[0] <= self._hinted:
            self._unhinted = None
        if self._unhinted is not None and now - self._unhinted[1] > UNHINTED_SECONDS:
            self._unhinted = None
            if self._around.hints.healthy:
                self._around.metrics.repairs.inc()
                self._degraded_until = now + DEGRADED_SECONDS
        told = not page.events or page.head.head <= self._hinted
        if not told and self._unhinted is None:
            self._unhinted = (page.head.head, now)
        return told

    def _failed(self, error: Refusal | LogBroken) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            log.warning("tail.failing", tenant=str(self.tenant_id), error=str(error))
        if isinstance(error, LogBroken):
            self._around.metrics.violations.inc()
        self.refusal = error if isinstance(error, Refusal) else DatabaseUnavailable()
        self._wake()

    def _recovered(self) -> None:
        if self.failing_since is not None:
            self.failing_since, self.refusal = None, None
            self._wake()

    def _break(self, refusal: Refusal) -> None:
        self._around.metrics.diverged.inc()
        log.error("tail.broken", tenant=str(self.tenant_id), reason=refusal.reason)
        self.broken = refusal
        self._wake()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("tail.failed", tenant=str(self.tenant_id), exc_info=task.exception())
            self._around.metrics.violations.inc()
            self._break(DatabaseUnavailable())

    def _wake(self) -> None:
        """Tells everybody that something is wrong, or no longer is."""
        for reader in self._index.readers:
            reader.wake()
        for wake in list(self._verifiers):
            wake()
