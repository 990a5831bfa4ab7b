"""The batch writer: one per tenant and process. Whatever is queued when the previous run returns makes the next one.

An item that is alone waits for nobody. An item refused by a rule leaves alone; a database error halves the batch until the
guilty item is alone, and its neighbours are written.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping, Sequence

from prometheus_client import Counter, Histogram

from server.kit.db import RETRIED, Database, Held, Write
from server.kit.errors import Contended, DatabaseUnavailable, Refusal
from server.messages.items import Duplicate, Item, Send, Stored, Withheld
from server.messages.queue import FairQueue
from server.messages.traced import traced
from server.messages.unit import Result, Unit
from server.providers.contract import Provider

MOST = 128
LOST_CONNECTIONS = 2
# How long a writer keeps its connection for the next item, and how long it takes locks after it met another process.
LINGER_SECONDS, LOCKS_SECONDS = 0.2, 0.5

Waiting = tuple[Item, "asyncio.Future[Stored | Duplicate | Withheld]"]


BATCHES = Histogram(
    "switchboard_batch_items",
    "Sends and inbound messages that were written as one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
HALVED = Counter(
    "switchboard_batches_halved_total", "Batches that were halved to find the item that a database error came of."
)


class BatchWriter:
    """Writes sends and inbound messages of one tenant."""

    def __init__(self, database: Database, providers: Mapping[str, Provider]) -> None:
        self._database = database
        self._providers = providers
        self._waiting: FairQueue[Waiting] = FairQueue()
        self._arrived = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._locks_until = 0.0

    @property
    def waiting(self) -> int:
        """Items that wait."""
        return len(self._waiting)

    async def submit(self, item: Item) -> Stored | Duplicate | Withheld:
        """Queues an item and returns once it is durable. Raises the item's refusal, or the database's error."""
        return await self.enqueue(item)

    def enqueue(self, item: Item) -> asyncio.Future[Stored | Duplicate | Withheld]:
        """Queues an item at once, so that items of one caller keep their order. QueueFull."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Stored | Duplicate | Withheld] = loop.create_future()
        # Messages of customers are one caller, whatever payload they came in.
        self._waiting.put(item.origin.actor.id if isinstance(item, Send) else None, (item, future))
        self._arrived.set()
        if self._running is None:
            self._running = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        """Takes what waits, batch by batch, on one connection, and lingers a moment before it gives that back."""
        try:
            async with self._database.held() as held:
                while await self._more():
                    await self._settle(held, self._waiting.take(MOST), at_once=True)
        finally:
            if self._running is asyncio.current_task():
                self._running = None

    async def _more(self) -> bool:
        """Whether something waits, now or soon. After a no this run is over: whoever comes then starts another."""
        self._arrived.clear()
        if not self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._arrived.wait()
        if not self._waiting:
            self._running = None
        return bool(self._waiting)

    async def _settle(self, held: Held, batch: Sequence[Waiting], *, at_once: bool) -> None:
        """Gives every item of a batch its result, halving the batch on an error that is not known to be an item's own.

        Whatever the error: a fault of ours that one item brings about must not fail the others, and is told as what it is.
        """
        BATCHES.observe(len(batch))
        items = [item for item, _ in batch]
        [outcome] = await asyncio.gather(self._traced(held, items, at_once=at_once), return_exceptions=True)
        if isinstance(outcome, BaseException):
            await self._divide(held, batch, outcome)
            return
        for (_, future), result in zip(batch, outcome, strict=True):
            if future.done():
                continue
            if isinstance(result, Refusal):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _divide(self, held: Held, batch: Sequence[Waiting], error: BaseException) -> None:
        unavailable = isinstance(error, DatabaseUnavailable) and not isinstance(error, Contended)
        if len(batch) > 1 and not unavailable:
            HALVED.inc()
            middle = len(batch) // 2
            await self._settle(held, batch[:middle], at_once=False)
            await self._settle(held, batch[middle:], at_once=False)
            return
        for _, future in batch:
            if not future.done():
                future.set_exception(error)

    async def _traced(self, held: Held, items: Sequence[Item], *, at_once: bool) -> list[Result]:
        async with traced(self._database, items):
            return await self._write(held, items, at_once=at_once)

    async def _write(self, held: Held, items: Sequence[Item], *, at_once: bool) -> list[Result]:
        """One run; after a lost connection, whose outcome is unknown, it is run again: every insert is keyed beforehand."""

        async def work(write: Write) -> list[Result]:
            return await Unit(write, items, self._providers).run()

        if at_once and all(isinstance(item, Send) for item in items):
            results = await self._write_at_once(held, items)
            if results is not None:
                return results
        for _ in range(LOST_CONNECTIONS):
            try:
                return await held.write(work)
            except Contended:
                raise
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
        return await held.write(work)

    async def _write_at_once(self, held: Held, items: Sequence[Item]) -> list[Result] | None:
        """Without locks. Where another process writes to the same conversations that is in vain: leave it for a while."""

        async def work(write: Write) -> list[Result] | None:
            return await Unit(write, items, self._providers).run_at_once()

        now = asyncio.get_running_loop().time()
        if now < self._locks_until:
            return None
        results: list[Result] | None = None
        # What a transaction is retried for, and what is run again after a lost connection, is left to the way with locks.
        with contextlib.suppress(DatabaseUnavailable, *RETRIED):
            results = await held.write_at_once(work)
        if results is None:
            self._locks_until = now + LOCKS_SECONDS
        return results


class BatchWriters:
    """The batch writers of a process, one per tenant."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._writers: dict[uuid.UUID, tuple[Database, BatchWriter]] = {}

    @property
    def waiting(self) -> int:
        """Items that wait, of all tenants."""
        return sum(writer.waiting for _, writer in list(self._writers.values()))

    def of(self, tenant_id: uuid.UUID, database: Database) -> BatchWriter:
        """The tenant's writer; made anew when the tenant's pool was."""
        held = self._writers.get(tenant_id)
        if held is None or held[0] is not database:
            held = self._writers[tenant_id] = (database, BatchWriter(database, self._providers))
        return held[1]
