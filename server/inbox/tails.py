"""The tails of a process: made when the first stream of a tenant asks, kept for a minute after the last."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

from server.inbox.metrics import InboxMetrics
from server.inbox.rights import Rights
from server.inbox.tail import DatabaseOf, Pace, Surroundings, TenantTail
from server.kit.errors import DatabaseUnavailable
from server.log.append import Appended
from server.log.cursor import Cursors
from server.log.hints import Hints

LINGER = timedelta(seconds=60)
FRESHNESS_MOST = 10.0
POLLS_PER_SECOND = 1000.0


class Tails:
    """All tails of a process.

    database_of: the database of a tenant, opened on demand; asked before every read, so that it stays open and a disabled tenant
    is noticed. connections: how many tails keep a connection of their own; with more tenants than that, verification slows down,
    and what hello announces with it.
    """

    def __init__(
        self,
        *,
        database_of: DatabaseOf,
        cursors: Cursors,
        hints: Hints,
        rights: Rights,
        metrics: InboxMetrics | None = None,
        pace: Pace | None = None,
        connections: int = 200,
        linger: timedelta = LINGER,
    ) -> None:
        self._pace = pace or Pace()
        self._connections = connections
        self._linger = linger.total_seconds()
        self._hints = hints
        self._around = Surroundings(
            database_of=database_of,
            cursors=cursors,
            hints=hints,
            rights=rights,
            metrics=metrics or InboxMetrics(),
            pace=self.pace,
            verifying=asyncio.Semaphore(32),
            pages=asyncio.Semaphore(32),
            pins=connections,
        )
        self._tails: dict[uuid.UUID, TenantTail] = {}
        self._starting: dict[uuid.UUID, asyncio.Task[TenantTail]] = {}
        self._background: set[asyncio.Task[None]] = set()
        hints.on_hint(self._hinted)
        hints.on_read(self._read_elsewhere)
        hints.on_change(self._hints_changed)

    @property
    def metrics(self) -> InboxMetrics:
        """Where the tails and their streams count."""
        return self._around.metrics

    @property
    def rights(self) -> Rights:
        """Whom streams ask for the rights of their callers."""
        return self._around.rights

    def pace(self) -> Pace:
        """The pace that the present number of tenants allows."""
        crowd = max(1.0, len(self._tails) / self._connections)
        return Pace(
            verify=self._pace.verify * crowd,
            poll=max(self._pace.poll, len(self._tails) / POLLS_PER_SECOND),
            freshness=self._pace.freshness * max(1.0, crowd / 2),
        )

    async def attach(self, tenant_id: uuid.UUID) -> TenantTail:
        """The tenant's tail, running. Refuses when its log cannot be read, or when no honest bookmark could be kept."""
        tail = self._tails.get(tenant_id)
        if tail is not None and tail.broken is None:
            return tail
        if self.pace().freshness > FRESHNESS_MOST:
            raise DatabaseUnavailable("this process follows as many tenants as it can")
        task = self._starting.get(tenant_id)
        if task is None:
            task = asyncio.ensure_future(self._start(tenant_id))
            self._starting[tenant_id] = task
            task.add_done_callback(lambda _: self._starting.pop(tenant_id, None))
        return await asyncio.shield(task)

    def detached(self, tail: TenantTail) -> None:
        """A stream has left the tail; the last one leaves it to itself for a minute."""
        if tail.streams == 0:
            asyncio.get_running_loop().call_later(self._linger, self._drop_if_idle, tail)

    def committed(self, tenant_id: uuid.UUID, appended: Appended) -> None:
        """This process committed events. For after_commit: never waits."""
        tail = self._tails.get(tenant_id)
        if tail is not None:
            tail.committed(appended)

    async def close(self) -> None:
        """Ends every tail."""
        self._background.update(asyncio.ensure_future(tail.close()) for tail in self._tails.values())
        self._tails.clear()
        if self._background:
            await asyncio.wait(self._background)

    async def _start(self, tenant_id: uuid.UUID) -> TenantTail:
        tail = TenantTail(tenant_id, self._around)
        self._hints.follow(tenant_id)
        try:
            await tail.start()
        except BaseException:
            if tenant_id not in self._tails:
                self._hints.unfollow(tenant_id)
            raise
        self._tails[tenant_id] = tail
        self._around.metrics.tails.set(len(self._tails))
        # Nobody told it of what was committed while it read, and whoever asked for it may be gone by now.
        tail.poke()
        self.detached(tail)
        return tail

    def _hinted(self, tenant_id: uuid.UUID, _prev_head: int, new_head: int) -> None:
        tail = self._tails.get(tenant_id)
        if tail is not None:
            tail.hinted(new_head)

    def _read_elsewhere(self, tenant_id: uuid.UUID, head: int, mark: int) -> None:
        tail = self._tails.get(tenant_id)
        if tail is not None:
            tail.read_elsewhere(head, mark)

    def _hints_changed(self, healthy: bool) -> None:
        self._around.metrics.hints_healthy.set(healthy)
        # Lost: poll from now on. Back: whatever came in between may have been lost.
        for tail in self._tails.values():
            tail.poke()

    def _drop_if_idle(self, tail: TenantTail) -> None:
        if tail.streams > 0 or tail.tenant_id in self._starting:
            return
        if self._tails.get(tail.tenant_id) is tail:
            del self._tails[tail.tenant_id]
            self._hints.unfollow(tail.tenant_id)
            self._around.metrics.tails.set(len(self._tails))
        closing = asyncio.ensure_future(tail.close())
        self._background.add(closing)
        closing.add_done_callback(self._background.discard)
