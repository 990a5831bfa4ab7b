"""The sends of one tenant that a worker has leased: claims what is due, hands it over, and lets nothing be forgotten."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import Counter

from server.deliveries import service as deliveries
from server.deliveries.service import Claimed
from server.kit.clock import utc_now
from server.messages.delivering import Sender
from server.providers.contract import Provider
from server.tenancy.tenants import Tenant
from server.tenancy.work import WorkDirectory

log = structlog.get_logger(__name__)
SENDS_AT_ONCE = 32
FAILED = Counter("switchboard_deliveries_failed_total", "Sends that ended in an error of ours.", ["error"])


class Dispatcher:
    """Deliveries of one tenant. wake is called when a send ends: the conversation's next one may go."""

    def __init__(
        self, *, worker: str, directory: WorkDirectory, providers: Mapping[str, Provider], wake: Callable[[], None]
    ) -> None:
        self._worker = worker
        self._directory = directory
        self._providers = providers
        self._wake = wake
        self._sends: dict[asyncio.Task[None], uuid.UUID] = {}
        self._unsure = False

    @property
    def busy(self) -> bool:
        """Whether sends are under way."""
        return bool(self._sends)

    async def drain(self) -> None:
        """Waits for the sends under way."""
        if self._sends:
            await asyncio.wait(self._sends)

    async def run(self, tenant: Tenant) -> None:
        """Ends what other workers left in flight, and starts sends up to the limit; it waits for none of them."""
        sender = Sender(tenant.database, tenant.secrets, self._providers)
        if self._unsure:
            # The last claim got no answer: what it took, if it took anything, was never handed to anybody.
            async with tenant.database.connection() as connection:
                await deliveries.take_back(connection, worker=self._worker, sending=list(self._sends.values()))
            self._unsure = False
        async with tenant.database.connection() as connection:
            left = await deliveries.expired(connection)
        for claimed in left:
            await sender.expire(claimed)
        free = SENDS_AT_ONCE - len(self._sends)
        async with tenant.database.connection() as connection:
            due = await deliveries.next_due(connection)
        if free <= 0 or due is None or due > utc_now():
            return
        # A claim is work committed for the tenant: should this worker die, another one must find it.
        await self._directory.announce(tenant.id)
        for claimed in await self._claim(tenant, limit=free):
            task = asyncio.create_task(self._send(sender, claimed))
            self._sends[task] = claimed.id
            task.add_done_callback(self._sent)

    async def _claim(self, tenant: Tenant, *, limit: int) -> list[Claimed]:
        async with tenant.database.connection() as connection:
            self._unsure = True
            claims = await deliveries.claim(connection, worker=self._worker, limit=limit)
            self._unsure = False
        return claims

    async def _send(self, sender: Sender, claimed: Claimed) -> None:
        try:
            await sender.deliver(claimed)
        except Exception as error:
            # Part of the worker's edge: whatever failed, the delivery stays in flight and ends as unknown with its lease.
            FAILED.labels(type(error).__name__).inc()
            log.exception("delivery.failed", delivery=str(claimed.id))

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sends.pop(task, None)
        self._wake()
