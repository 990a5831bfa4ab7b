"""The batch writer: one per tenant and process. Whatever is queued when the previous run returns makes the next one.

An item that is alone waits for nobody. An item refused by a rule leaves alone; a database error halves the batch until the
guilty item is alone, and its neighbours are written.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping, Sequence

import asyncpg

from server.kit.db import Database, Write
from server.kit.errors import Contended, DatabaseUnavailable, Refusal
from server.messages.items import Duplicate, Item, Stored
from server.messages.unit import Result, Unit
from server.providers.contract import Provider

MOST = 128
WAITING_MOST = 5000
LOST_CONNECTIONS = 2
# What an item can bring about. ValueError: text that has no UTF-8, numbers that no column holds.
ITEM_ERRORS = (Refusal, asyncpg.PostgresError, ValueError)

Waiting = tuple[Item, "asyncio.Future[Stored | Duplicate]"]


class QueueFull(DatabaseUnavailable):
    """The tenant's database takes less than is asked of it."""

    def __init__(self) -> None:
        super().__init__("too many writes of this tenant are waiting; repeat with the same request id")


class BatchWriter:
    """Writes sends and inbound messages of one tenant."""

    def __init__(self, database: Database, providers: Mapping[str, Provider]) -> None:
        self._database = database
        self._providers = providers
        self._waiting: deque[Waiting] = deque()
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Stored | Duplicate:
        """Queues an item and returns once it is durable. Raises the item's refusal, or the database's error."""
        return await self.enqueue(item)

    def enqueue(self, item: Item) -> asyncio.Future[Stored | Duplicate]:
        """Queues an item at once, so that items of one caller keep their order. QueueFull."""
        if len(self._waiting) >= WAITING_MOST:
            raise QueueFull
        future: asyncio.Future[Stored | Duplicate] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        batch: list[Waiting] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                await self._settle(batch)
        finally:
            self._running = None
            # Only a fault of ours, or the end of the process, leaves somebody waiting here; nobody may wait for ever.
            for _, future in (*batch, *self._waiting):
                if not future.done():
                    future.set_exception(DatabaseUnavailable())
            self._waiting.clear()

    async def _settle(self, batch: Sequence[Waiting]) -> None:
        """Gives every item of a batch its result, halving the batch on an error that is not known to be an item's own."""
        try:
            results = await self._write([item for item, _ in batch])
        except ITEM_ERRORS as error:
            await self._divide(batch, error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Refusal):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _divide(self, batch: Sequence[Waiting], error: Exception) -> None:
        unavailable = isinstance(error, DatabaseUnavailable) and not isinstance(error, Contended)
        if len(batch) > 1 and not unavailable:
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])
            return
        for _, future in batch:
            if not future.done():
                future.set_exception(error)

    async def _write(self, items: Sequence[Item]) -> list[Result]:
        """One run; after a lost connection, whose outcome is unknown, it is run again: every insert is keyed beforehand."""

        async def work(write: Write) -> list[Result]:
            return await Unit(write, items, self._providers).run()

        for _ in range(LOST_CONNECTIONS):
            try:
                return await self._database.write(work)
            except Contended:
                raise
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
        return await self._database.write(work)


class BatchWriters:
    """The batch writers of a process, one per tenant."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._writers: dict[uuid.UUID, tuple[Database, BatchWriter]] = {}

    def of(self, tenant_id: uuid.UUID, database: Database) -> BatchWriter:
        """The tenant's writer; made anew when the tenant's pool was."""
        held = self._writers.get(tenant_id)
        if held is None or held[0] is not database:
            held = self._writers[tenant_id] = (database, BatchWriter(database, self._providers))
        return held[1]
