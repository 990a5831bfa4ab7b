"""All the work of one leased tenant. The only place that maps kinds to functions."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from prometheus_client import Counter

from server.assignments import availability
from server.assignments import queue as assignment_queue
from server.audit import follow as audit
from server.channels import watching
from server.channels.checking import Checker
from server.channels.watching import Watcher
from server.composition import Parts
from server.contacts import moving
from server.conversations import tag_sweep
from server.conversations import timers as conversation_timers
from server.conversations.statistics import follow as statistics
from server.conversations.text import follow as text
from server.deliveries import claiming
from server.erasures import job as erasures
from server.erasures.job import Tools
from server.journal import service as journal
from server.kit.db import Connection, Write
from server.kit.edge import attempt
from server.kit.egress import Egress
from server.kit.errors import Refusal
from server.log.read import PAGE_EVENTS as BATCH
from server.messages import bringing, changes, fetching
from server.messages.bringing import Bringer
from server.messages.dispatching import Dispatcher, Slots
from server.messages.fetching import Fetcher
from server.providers.registry import TOKENS
from server.templates import reading
from server.templates.reading import Reader
from server.tenancy.tenants import Tenant
from server.tenancy.work import Lease
from server.timers import service as timers

log = structlog.get_logger(__name__)
TIMERS: timers.Handlers = {
    **conversation_timers.HANDLERS,
    **tag_sweep.HANDLERS,
    **availability.HANDLERS,
    **changes.handlers(TOKENS),
    **moving.HANDLERS,
}
KINDS = tuple(TIMERS)
IDLE_SECONDS = 1.0
# While people write, every commit is a hint; each look costs a few statements, and these are soon enough.
TIMERS_APART_SECONDS, STATISTICS_APART_SECONDS, ASSIGNMENTS_APART_SECONDS = 0.1, 0.5, 0.2
# What follows the log works at most so long in one look: half of the time, where it is far behind.
FOLLOW_SECONDS = 0.25
LONGEST_REST_SECONDS = 30.0
ROUNDS = Counter("switchboard_work_rounds_total", "Looks at a tenant's work.")
FAILED = Counter("switchboard_work_failed_total", "Looks that ended in an error.", ["lane", "error"])


@dataclass(frozen=True, slots=True)
class Look:
    """What a lane found. busy: it did something or is about to, so the tenant stays. wait: seconds until it wants to look again.

    pause: seconds in which even a hint does not make it look. due: when its next work is due, by the database's clock; None when
    there is none.
    """

    busy: bool
    wait: float = IDLE_SECONDS
    pause: float = 0.0
    due: datetime | None = None


class Lane:
    """One sort of work of a tenant. It fails by itself: its errors make it rest, and nothing else.

    hinted: a hint makes it look at once, though not more often than every `apart` seconds.
    """

    def __init__(self, name: str, run: Callable[[Tenant], Awaitable[Look]], *, apart: float, hinted: bool) -> None:
        self.name = name
        self.next = 0.0
        self.not_before = 0.0
        self.resting_until = 0.0
        self._run = run
        self._apart = apart
        self._hinted = hinted
        self._failures = 0

    def woken(self) -> None:
        """A hint came."""
        if self._hinted:
            self.next = min(self.next, self.not_before)

    async def look(self, tenant: Tenant) -> Look | None:
        """Runs; None when it failed."""
        began = time.monotonic()
        look = await attempt(self._run(tenant))
        if isinstance(look, Refusal):
            # A database that is away: what it needs is another look as soon as it is back.
            log.warning("work.waits", tenant=str(tenant.id), lane=self.name, error=type(look).__name__)
            self._failed(look, failures=0)
            return None
        if isinstance(look, Exception):
            log.error("work.failed", tenant=str(tenant.id), lane=self.name, exc_info=look)
            self._failed(look, failures=self._failures + 1)
            return None
        self._failures = 0
        ended = time.monotonic()
        self.resting_until = ended + look.pause
        self.not_before = self.resting_until if look.pause else began + self._apart
        self.next = max(ended + look.wait, self.not_before)
        return look

    def _failed(self, error: Exception, *, failures: int) -> None:
        FAILED.labels(self.name, type(error).__name__).inc()
        self._failures = failures
        self.next = self.not_before = self.resting_until = time.monotonic() + rest(failures)


def rest(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    # Past the sixteenth step every rest is the longest one, and much later ones would overflow a float.
    return float(min(IDLE_SECONDS * 2 ** min(max(failures - 1, 0), 16), LONGEST_REST_SECONDS))


class Backlog:
    """Rests between the whole batches of all tenants of this process, so that who calls the API meanwhile hardly notices.

    share: the part of the time that is worked.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._behind: set[uuid.UUID] = set()

    def rest(self, tenant_id: uuid.UUID, *, took: float) -> float:
        """Seconds to rest after a batch that took so many and was not the last."""
        self._behind.add(tenant_id)
        return took * (len(self._behind) / self._share - 1)

    def done(self, tenant_id: uuid.UUID) -> None:
        """The tenant has no backlog, or left."""
        self._behind.discard(tenant_id)


@dataclass(frozen=True, slots=True)
class Fetches:
    """What limits fetching files in this process."""

    most_bytes: int
    slots: asyncio.Semaphore


class Runner:
    """One leased tenant: at once on a hint, each second while it is active, else at its next due time."""

    def __init__(self, parts: Parts, lease: Lease, backlog: Backlog, slots: Slots, fetches: Fetches) -> None:
        self.tenant_id = lease.tenant_id
        self.lag = 0.0
        self._parts = parts
        self._lease: Lease | None = lease
        self._worker = lease.worker
        self._backlog = backlog
        self._wake = asyncio.Event()
        self._stopping = self._retired = False
        self._dispatcher = Dispatcher(
            lease.tenant_id,
            worker=lease.worker,
            tenants=parts.tenants,
            directory=parts.directory,
            providers=parts.providers,
            slots=slots,
        )
        self._fetcher = Fetcher(
            providers=parts.providers, store=parts.store, most_bytes=fetches.most_bytes, slots=fetches.slots
        )
        checker = Checker(providers=parts.providers, meta_apps=parts.meta_apps)
        self._watcher = Watcher(checker=checker, routes=parts.routes, providers=parts.providers)
        self._reader = Reader(providers=parts.providers)
        self._bringer = Bringer(
            providers=parts.providers,
            store=parts.store,
            most_bytes=fetches.most_bytes,
            # Whoever may send says where links lead, so that they lead to public addresses alone.
            egress=Egress(()),
            slots=fetches.slots,
            wake=self._dispatcher.wake,
        )
        self._lanes = (
            Lane("timers", self._fire, apart=TIMERS_APART_SECONDS, hinted=True),
            Lane("deliveries", self._see_deliveries, apart=IDLE_SECONDS, hinted=False),
            Lane("assignments", self._assign, apart=ASSIGNMENTS_APART_SECONDS, hinted=True),
            Lane("statistics", self._count, apart=STATISTICS_APART_SECONDS, hinted=True),
            Lane("text", self._index, apart=STATISTICS_APART_SECONDS, hinted=True),
            Lane("audit", self._enter, apart=STATISTICS_APART_SECONDS, hinted=True),
            Lane("payloads", self._apply_left, apart=IDLE_SECONDS, hinted=False),
            Lane("erasures", self._erase, apart=0, hinted=True),
            Lane("templates", self._read_templates, apart=IDLE_SECONDS, hinted=False),
            Lane("channels", self._watch, apart=IDLE_SECONDS, hinted=False),
            Lane("media", self._fetch_media, apart=TIMERS_APART_SECONDS, hinted=True),
            Lane("files", self._bring_files, apart=TIMERS_APART_SECONDS, hinted=True),
        )
        self._task: asyncio.Task[None] | None = None

    def start(self, ended: Callable[[Runner], None]) -> None:
        """Runs until the tenant is retired, the lease is lost, or stop."""
        self._dispatcher.start()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: ended(self))

    def wake(self) -> None:
        """Something may be due."""
        self._dispatcher.wake()
        self._wake.set()

    def renewed(self, lease: Lease | None) -> None:
        """The lease as renewed; None when it is lost: another worker has the tenant, which correctness does not mind."""
        self._lease = lease
        if lease is None:
            self._wake.set()

    def give_back(self) -> None:
        """Ends after the present look and the sends under way; then another worker may have the tenant."""
        self._stopping = True
        self._wake.set()

    async def stop(self) -> None:
        """The same, and waits for it."""
        self.give_back()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        failures = 0
        try:
            while self._lease is not None and not self._stopping and not self._retired:
                error = await attempt(self._round())
                failures = 0 if error is None else failures + 1
                if error is not None:
                    # The tenant is disabled, outdated or away, or the directory is: nothing of it can be done.
                    FAILED.labels("tenant", type(error).__name__).inc()
                    log.error("work.waits", tenant=str(self.tenant_id), exc_info=error)
                    await self._sleep(rest(failures))
        finally:
            self._backlog.done(self.tenant_id)
            await self._dispatcher.stop()
            await self._fetcher.stop()
            await self._watcher.stop()
            await self._reader.stop()
            await self._bringer.stop()
            if self._stopping:
                await self._release()
            elif self._retired:
                # An idle tenant costs no connection.
                await self._parts.tenants.let_go(self.tenant_id)

    async def _release(self) -> None:
        # Without the control database the lease ends by itself.
        with contextlib.suppress(Refusal):
            await self._parts.directory.release(self._worker, [self.tenant_id])

    async def _round(self) -> None:
        """One look at what is ready; ends by retiring the tenant where all of it is idle."""
        ROUNDS.inc()
        woken, lease = self._wake.is_set(), self._lease
        self._wake.clear()
        tenant = await self._parts.tenants.get(self.tenant_id)
        looks = [await lane.look(tenant) for lane in self._ready(woken=woken, active=lease is None or lease.active)]
        if lease is not None and not lease.active and await self._retire(lease, looks):
            self._retired = True
        else:
            await self._sleep(min(lane.next for lane in self._lanes) - time.monotonic())

    def _ready(self, *, woken: bool, active: bool) -> Sequence[Lane]:
        """The lanes to look at now. Only a look at all of them at once can show that a tenant is idle."""
        now = time.monotonic()
        due = any(lane.next <= now for lane in self._lanes)
        if not active and not woken and due and all(lane.resting_until <= now for lane in self._lanes):
            # Each by its own second, they would never meet: looks take time.
            return self._lanes
        if woken:
            for lane in self._lanes:
                lane.woken()
        return [lane for lane in self._lanes if lane.next <= now]

    async def _retire(self, lease: Lease, looks: Sequence[Look | None]) -> bool:
        found = [look for look in looks if look is not None and not look.busy]
        if len(found) < len(self._lanes):
            return False
        due = min((look.due for look in found if look.due is not None), default=None)
        return await self._parts.directory.retire(lease, due)

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(seconds, 0.001))

    async def _fire(self, tenant: Tenant) -> Look:
        began = time.monotonic()
        ran = await timers.run_due(tenant.database, TIMERS)
        took = time.monotonic() - began
        async with tenant.database.connection() as connection:
            due = await timers.next_due(connection, kinds=KINDS)
        self.lag = max(-due.wait.total_seconds(), 0.0) if due else 0.0
        if ran.more:
            return Look(busy=True, wait=0, pause=self._backlog.rest(self.tenant_id, took=took))
        self._backlog.done(self.tenant_id)
        wait = min(due.wait.total_seconds(), IDLE_SECONDS) if due else IDLE_SECONDS
        return Look(busy=bool(ran.fired or ran.failed), wait=wait, due=due.time if due else None)

    async def _see_deliveries(self, tenant: Tenant) -> Look:
        """The dispatcher sends in a loop of its own; here it is only seen when it has to be found again."""
        async with tenant.database.connection() as connection:
            return Look(busy=self._dispatcher.busy, due=await claiming.next_due(connection))

    async def _count(self, tenant: Tenant) -> Look:
        """Statistics; a tenant whose log did not move is spared a write."""
        async with tenant.database.connection() as connection:
            behind = await statistics.behind(connection)
        return await followed(tenant, statistics.follow) if behind else Look(busy=False)

    async def _index(self, tenant: Tenant) -> Look:
        """The words that conversations are searched by, in the same way."""
        async with tenant.database.connection() as connection:
            behind = await text.behind(connection)
        return await followed(tenant, text.follow) if behind else Look(busy=False)

    async def _assign(self, tenant: Tenant) -> Look:
        """Conversations that wait for an agent. The generation is read before, so what happens meanwhile is looked at again."""
        async with tenant.database.connection() as connection:
            state = await assignment_queue.state(connection)
        if not state.wanted:
            return Look(busy=False, due=state.look_time)
        present = await self._parts.presence.present(self.tenant_id)
        await assignment_queue.drain(tenant.database, state.head, present=present)
        return Look(busy=True, wait=0)

    async def _enter(self, tenant: Tenant) -> Look:
        """The audit trail, in the same way."""
        async with tenant.database.connection() as connection:
            behind = await audit.behind(connection)
        return await followed(tenant, audit.follow) if behind else Look(busy=False)

    async def _apply_left(self, tenant: Tenant) -> Look:
        """Payloads whose receiver stopped between the 200 and applying them."""
        await self._parts.applier.apply_left(tenant)
        async with tenant.database.connection() as connection:
            return Look(busy=False, due=await journal.next_due(connection))

    async def _fetch_media(self, tenant: Tenant) -> Look:
        """Files are fetched beside the lanes; here they are begun."""
        await self._fetcher.look(tenant)
        async with tenant.database.connection() as connection:
            due = await fetching.next_due(connection)
        wait = IDLE_SECONDS if due is None else min(max(due.wait.total_seconds(), 0.1), IDLE_SECONDS)
        return Look(busy=self._fetcher.busy, wait=wait, due=None if due is None else due.time)

    async def _watch(self, tenant: Tenant) -> Look:
        """Providers are asked beside the lanes, too."""
        await self._watcher.look(tenant)
        async with tenant.database.connection() as connection:
            return Look(busy=self._watcher.busy, due=await watching.next_due(connection))

    async def _read_templates(self, tenant: Tenant) -> Look:
        """In the same way."""
        await self._reader.look(tenant)
        async with tenant.database.connection() as connection:
            return Look(busy=self._reader.busy, due=await reading.next_due(connection))

    async def _bring_files(self, tenant: Tenant) -> Look:
        """Files for the provider, in the same way."""
        await self._bringer.look(tenant)
        async with tenant.database.connection() as connection:
            due = await bringing.next_due(connection)
        wait = IDLE_SECONDS if due is None else min(max(due.wait.total_seconds(), 0.1), IDLE_SECONDS)
        return Look(busy=self._bringer.busy, wait=wait, due=None if due is None else due.time)

    async def _erase(self, tenant: Tenant) -> Look:
        """Erasures of contacts, batch by batch, until the other lanes should have their turn."""
        began, tools = time.monotonic(), Tools(self._parts.providers, self._parts.quarantine)
        found = True
        while found and time.monotonic() - began < FOLLOW_SECONDS:
            found = await erasures.run_due(tenant, tools)
        async with tenant.database.connection() as connection:
            due = await erasures.next_due(connection)
        wait = IDLE_SECONDS if due is None else min(max(due.wait.total_seconds(), 0.0), IDLE_SECONDS)
        return Look(busy=found, wait=wait, due=None if due is None else due.time)


async def followed(tenant: Tenant, follow: Callable[[Write], Awaitable[int]]) -> Look:
    """Batches of the log, until one is not whole or the other lanes should have their turn."""
    began, found = time.monotonic(), BATCH
    while found >= BATCH and time.monotonic() - began < FOLLOW_SECONDS:
        found = await tenant.database.write(follow)
    return Look(busy=True, wait=0)


async def next_due(connection: Connection) -> datetime | None:
    """The smallest due time of a tenant."""
    timer = await timers.next_due(connection, kinds=KINDS)
    erasure, media = await erasures.next_due(connection), await fetching.next_due(connection)
    files = await bringing.next_due(connection)
    found = [
        media.time if media else None,
        files.time if files else None,
        timer.time if timer else None,
        erasure.time if erasure else None,
        await claiming.next_due(connection),
        await journal.next_due(connection),
        await assignment_queue.next_due(connection),
        await watching.next_due(connection),
    ]
    return min((time for time in found if time is not None), default=None)
