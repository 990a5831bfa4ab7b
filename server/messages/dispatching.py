"""The sends of one tenant that a worker has leased: claims what is due, hands it over, and lets nothing be forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter, Gauge, Histogram

from server.deliveries import claiming, marks
from server.deliveries import service as deliveries
from server.deliveries.claiming import Claimed, Depth, Next
from server.deliveries.marks import Mark
from server.kit.db import Connection, Write
from server.kit.edge import attempt
from server.kit.errors import DatabaseUnavailable, Refusal
from server.messages import ending
from server.messages.delivering import Sender
from server.messages.marking import Marker
from server.providers.contract import NotSent, Outcome, Provider
from server.tenancy.tenants import Tenant, Tenants
from server.tenancy.work import WorkDirectory

log = structlog.get_logger(__name__)
# Sends under way: of a process, and of one tenant in it.
PROCESS_MOST, TENANT_MOST = 256, 32
# Read marks that are begun at once; they are many and small, and must not be in the way of sends.
MARKS_MOST = 8
# A look when nothing is known to come: what is committed elsewhere may have had no hint.
IDLE_SECONDS = 1.0
# A bucket that fills 80 times a second is not worth 80 looks: they are at least so long apart.
LOOK_SECONDS = 0.02
DEPTH_SECONDS = 10.0
MAKE_WAY_SECONDS = 10.0
# A send's place is held until a second after its answer. Many are told of at once, and few are lost with a worker that dies.
GIVE_BACK_SECONDS, HELD_SECONDS = 0.05, 1.0
FAILED = Counter("switchboard_deliveries_failed_total", "Sends that ended in an error of ours.", ["error"])
PUT_OFF = Counter(
    "switchboard_deliveries_put_off_total", "Times a send was put off for its recipient's bucket or an unknown one."
)
QUEUED = Gauge("switchboard_deliveries_queued", "Sends that wait, of the tenants of this worker; up to 10,000 of each.")
UNKNOWN = Gauge("switchboard_deliveries_unknown", "Sends of which nobody knows whether the provider has them.")
OLDEST = Gauge("switchboard_deliveries_oldest_seconds", "How long the oldest send that is due has been due.")
LATE = Histogram(
    "switchboard_delivery_late_seconds",
    "From when a send might have gone, were it alone, to when it was taken.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60, 600, 3600),
)


class Slots:
    """Sends under way in a process, shared by its tenants.

    A tenant may always have one, so that others cannot keep it out; beyond that its share of PROCESS_MOST, at most TENANT_MOST.
    depths: how much each tenant was last seen to have to send, for the metrics.
    """

    def __init__(self) -> None:
        self._used: dict[uuid.UUID, int] = {}
        self.depths: dict[uuid.UUID, Depth] = {}
        QUEUED.set_function(lambda: sum(depth.queued for depth in self.depths.values()))
        UNKNOWN.set_function(lambda: sum(depth.unknown for depth in self.depths.values()))
        OLDEST.set_function(lambda: max((depth.oldest_seconds for depth in self.depths.values()), default=0.0))

    def free(self, tenant_id: uuid.UUID) -> int:
        """How many more sends the tenant may begin now."""
        mine = self._used.get(tenant_id, 0)
        if mine == 0:
            return max(1, min(TENANT_MOST, self._left()))
        share = max(1, PROCESS_MOST // len(self._used))
        return max(0, min(min(TENANT_MOST, share) - mine, self._left()))

    def take(self, tenant_id: uuid.UUID) -> None:
        """One more."""
        self._used[tenant_id] = self._used.get(tenant_id, 0) + 1

    def give(self, tenant_id: uuid.UUID) -> None:
        """One less."""
        self._used[tenant_id] -= 1
        if self._used[tenant_id] == 0:
            del self._used[tenant_id]

    def _left(self) -> int:
        return PROCESS_MOST - sum(self._used.values())


class Dispatcher:
    """Deliveries of one tenant, in a loop of its own, so that other work of the tenant does not hold them up.

    It looks when it is woken (by a hint, or the end of a send), and when by the database's clock something may be taken.
    """

    def __init__(
        self,
        tenant_id: uuid.UUID,
        *,
        worker: str,
        tenants: Tenants,
        directory: WorkDirectory,
        providers: Mapping[str, Provider],
        slots: Slots,
    ) -> None:
        self._tenant_id = tenant_id
        self._worker = worker
        self._tenants = tenants
        self._directory = directory
        self._providers = providers
        self._slots = slots
        self._woken = asyncio.Event()
        self._sends: dict[asyncio.Task[None], uuid.UUID] = {}
        self._marks: set[asyncio.Task[None]] = set()
        self._unsure = False
        self._measured = 0.0
        self._answered: dict[Claimed, float] = {}
        self._gave_back = 0.0
        self._made_way = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether sends are under way, or may be: a claim whose answer was lost is this worker's to take back."""
        return bool(self._sends) or bool(self._marks) or self._unsure

    def start(self) -> None:
        """Begins the loop."""
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Something may be due."""
        self._woken.set()

    async def stop(self) -> None:
        """Ends the loop after a look that is under way, and waits for the sends under way."""
        task, self._task = self._task, None
        self._woken.set()
        if task is not None:
            await task
        if under_way := {*self._sends, *self._marks}:
            await asyncio.wait(under_way)
        self._slots.depths.pop(self._tenant_id, None)

    async def _run(self) -> None:
        while self._task is not None:
            self._woken.clear()
            wait = await attempt(self._look())
            if isinstance(wait, Exception):
                FAILED.labels(type(wait).__name__).inc()
                unexpected = None if isinstance(wait, Refusal) else wait
                log.warning("deliveries.look_failed", tenant=str(self._tenant_id), exc_info=unexpected)
                wait = IDLE_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait)

    async def _look(self) -> float:
        return await self.look(await self._tenants.get(self._tenant_id))

    async def look(self, tenant: Tenant) -> float:
        """Begins what may be sent, without waiting for it, and ends what other workers left in flight.

        Returns after how many seconds to look again.
        """
        sender = Sender(tenant.database, tenant.secrets, self._providers)
        if self._unsure:
            # The last claim got no answer: what it took, if it took anything, was never handed to anybody.
            async with tenant.database.connection() as connection:
                await deliveries.take_back(connection, worker=self._worker, sending=list(self._sends.values()))
            self._unsure = False
        async with tenant.database.connection() as connection:
            await self._give_back(connection)
            coming = await claiming.upcoming(connection, self._providers)
            if time.monotonic() - self._measured >= DEPTH_SECONDS:
                self._measured = time.monotonic()
                self._slots.depths[tenant.id] = await claiming.depth(connection)
        free = self._slots.free(tenant.id)
        begins = free > 0 and coming.send is not None and coming.send <= coming.now
        if begins:
            # A claim is work committed for the tenant: should this worker die, another one must find it.
            await self._directory.announce(tenant.id)
            await self._begin(tenant, sender, limit=free)
        if coming.lease is not None and coming.lease <= coming.now:
            await self._expire(tenant, sender)
        marks = self._slots.free(tenant.id) if coming.mark is not None and coming.mark <= coming.now else 0
        if marks > 0:
            await self._mark(tenant, limit=min(marks, MARKS_MOST))
        if coming.ended:
            await ending.end_some(tenant.database)
            await Marker(tenant.database, tenant.secrets, self._providers).end_some()
        if time.monotonic() - self._made_way >= MAKE_WAY_SECONDS:
            self._made_way = time.monotonic()
            await self._make_way(tenant)
        return 0.0 if begins or marks > 0 or coming.ended else _pause(coming, waits_for_slot=free <= 0)

    async def _make_way(self, tenant: Tenant) -> None:
        """Lets answers pass templates that the provider holds since they were queued."""
        async with tenant.database.connection() as connection:
            held = await deliveries.heads_aside(connection)
        if not held:
            return

        async def unit(write: Write) -> None:
            await deliveries.lock(write.connection, held)
            await deliveries.step_aside(write.connection, held)

        await tenant.database.write(unit)
        self._woken.set()

    async def _give_back(self, connection: Connection) -> None:
        """Says from when on the places of answered sends are free: sooner than if nobody came back."""
        now = time.monotonic()
        if not self._answered or now - self._gave_back < GIVE_BACK_SECONDS:
            return
        self._gave_back, answered, self._answered = now, self._answered, {}
        places: dict[uuid.UUID, list[tuple[datetime, timedelta]]] = {}
        for claimed, free in answered.items():
            if claimed.place_until is not None:
                held = timedelta(seconds=max(free - now, 0.0))
                places.setdefault(claimed.channel_id, []).append((claimed.place_until, held))
        for channel_id, told in places.items():
            await claiming.give_back(connection, channel_id, told)

    async def _expire(self, tenant: Tenant, sender: Sender) -> None:
        async with tenant.database.connection() as connection:
            left = await deliveries.expired(connection)
        failed: Exception | None = None
        for claimed in left:
            # One that cannot be ended keeps neither the others from ending nor the tenant from sending.
            error = await attempt(sender.expire(claimed))
            if isinstance(error, DatabaseUnavailable):
                raise error
            failed = error or failed
        if failed is not None:
            raise failed

    async def _begin(self, tenant: Tenant, sender: Sender, *, limit: int) -> None:
        async with tenant.database.connection() as connection:
            self._unsure = True
            claim = await claiming.claim(connection, worker=self._worker, limit=limit, providers=self._providers)
            self._unsure = False
        now = time.monotonic()
        for claimed in claim.claimed:
            self._slots.take(tenant.id)
            task = asyncio.create_task(self._send(sender, claimed, now + claimed.wait.total_seconds()))
            self._sends[task] = claimed.id
            task.add_done_callback(self._sent)
        PUT_OFF.inc(claim.put_off)
        for late in claim.late:
            LATE.observe(late.total_seconds())

    async def _mark(self, tenant: Tenant, *, limit: int) -> None:
        """Begins to tell what was read, with the slots that sends left."""
        marker = Marker(tenant.database, tenant.secrets, self._providers)
        async with tenant.database.connection() as connection:
            claimed = await marks.claim(connection, limit=limit)
        for mark in claimed:
            self._slots.take(tenant.id)
            task = asyncio.create_task(self._tell(marker, mark))
            self._marks.add(task)
            task.add_done_callback(self._told)

    async def _tell(self, marker: Marker, mark: Mark) -> None:
        error = await attempt(marker.tell(mark))
        if error is not None:
            # It is due again when its lease ends.
            FAILED.labels(type(error).__name__).inc()
            unexpected = None if isinstance(error, Refusal) else error
            log.warning("mark.failed", kind=mark.kind, conversation=str(mark.conversation_id), exc_info=unexpected)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._marks.discard(task)
        self._slots.give(self._tenant_id)
        self._woken.set()

    async def _send(self, sender: Sender, claimed: Claimed, begin_at: float) -> None:
        def answered(outcome: Outcome) -> None:
            # What was not sent held its place for nothing.
            self._answered[claimed] = time.monotonic() + (0.0 if isinstance(outcome, NotSent) else HELD_SECONDS)

        begin_by = begin_at + claiming.BEGIN.total_seconds()
        error = await attempt(sender.deliver(claimed, begin_at=begin_at, begin_by=begin_by, answered=answered))
        if error is not None:
            # Whatever failed, the delivery stays in flight and ends as unknown with its lease.
            FAILED.labels(type(error).__name__).inc()
            log.error("delivery.failed", delivery=str(claimed.id), exc_info=error)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sends.pop(task, None)
        self._slots.give(self._tenant_id)
        self._woken.set()


def _pause(coming: Next, *, waits_for_slot: bool) -> float:
    times = [coming.lease] if waits_for_slot else [coming.lease, coming.send, coming.mark]
    waits = [time - coming.now for time in times if time is not None]
    return min([timedelta(seconds=IDLE_SECONDS), *waits]).total_seconds()
