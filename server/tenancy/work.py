"""The directory of work: how workers find, among thousands of tenant databases, the few with something to do.

Announce before commit: a process commits work for a tenant only while the tenant's active_until lies at least 5 s ahead, so
whatever is committed lies in the time that workers look at. active_until stays, however long it is past, until a worker has
looked at the tenant and retired it: workers that were all down find what was announced before. A lease makes work quick;
correctness never needs it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from server.kit.db import Database
from server.kit.errors import DatabaseUnavailable

ACTIVE = timedelta(seconds=15)
MARGIN = timedelta(seconds=5)
RENEW_EVERY = timedelta(seconds=5)
# A tenant that this process has not written to for so long is no longer renewed.
QUIET_AFTER = timedelta(seconds=10)
LEASE = timedelta(seconds=10)
DUE_AHEAD = timedelta(seconds=2)
HOUSE_EVERY = timedelta(days=1)

log = structlog.get_logger(__name__)

# Statements over several rows lock them in the order of their ids, or they would deadlock with each other.
ANNOUNCE = """
INSERT INTO tenant_work AS work (tenant_id, active_until)
SELECT id, now() + $2 FROM tenants WHERE id = ANY($1) ORDER BY id
ON CONFLICT (tenant_id) DO UPDATE SET active_until = greatest(work.active_until, excluded.active_until)
"""

FIND = """
UPDATE tenant_work SET lessee = $1, lease_until = now() + $3
WHERE tenant_id IN (
    SELECT work.tenant_id FROM tenant_work work JOIN tenants ON tenants.id = work.tenant_id AND tenants.state = 'active'
    WHERE (work.active_until IS NOT NULL OR work.next_due_time <= clock_now() + $4)
      AND (work.lease_until IS NULL OR work.lease_until <= now())
    ORDER BY least(work.active_until, work.next_due_time)
    LIMIT (SELECT greatest(0, least($2, (count(*) + $5 - 1) / $5 - $6)) FROM tenant_work
        WHERE active_until IS NOT NULL OR next_due_time <= clock_now() + $4)
    FOR UPDATE OF work SKIP LOCKED)
RETURNING tenant_id, active_until, active_until > now() AS active, next_due_time
"""

RENEW = """
UPDATE tenant_work SET lease_until = now() + $3
WHERE tenant_id IN (SELECT held.tenant_id FROM tenant_work held
    WHERE held.lessee = $1 AND held.lease_until > now() AND held.tenant_id = ANY($2) ORDER BY held.tenant_id FOR UPDATE)
RETURNING tenant_id, active_until, active_until > now() AS active, next_due_time
"""

RELEASE = """
UPDATE tenant_work SET lessee = NULL, lease_until = NULL
WHERE tenant_id IN (SELECT held.tenant_id FROM tenant_work held
    WHERE held.lessee = $1 AND held.lease_until > now() AND ($2::uuid[] IS NULL OR held.tenant_id = ANY($2))
    ORDER BY held.tenant_id FOR UPDATE)
"""

# Each worker says that it runs, and reads how many do and how many tenants there are to share.
SHARE = """
WITH me AS (
    INSERT INTO workers (name, seen_until) VALUES ($1, now() + $2)
    ON CONFLICT (name) DO UPDATE SET seen_until = excluded.seen_until
)
SELECT (SELECT count(*) FROM workers WHERE seen_until > now() AND name <> $1) + 1 AS workers,
    (SELECT count(*) FROM tenant_work WHERE active_until IS NOT NULL OR next_due_time <= clock_now() + $3) AS tenants
"""
GONE = "DELETE FROM workers WHERE name = $1 OR seen_until < now() - interval '1 day'"

CLAIM_HOUSE = """
UPDATE tenant_work SET house_time = clock_now()
WHERE tenant_id IN (
    SELECT work.tenant_id FROM tenant_work work JOIN tenants ON tenants.id = work.tenant_id AND tenants.state = 'active'
    WHERE work.house_time < clock_now() - $2::interval ORDER BY work.house_time LIMIT $1 FOR UPDATE OF work SKIP LOCKED)
RETURNING tenant_id, active_until, next_due_time
"""
# Only where nothing happened since the row was read: what the tenant's database said was true then.
CORRECT = """
UPDATE tenant_work SET next_due_time = $4
WHERE tenant_id = $1 AND active_until IS NULL AND $2::timestamptz IS NULL AND lessee IS NULL
  AND next_due_time IS NOT DISTINCT FROM $3 AND $4 < coalesce(next_due_time, 'infinity')
"""

RETIRE = """
UPDATE tenant_work SET next_due_time = $4, active_until = NULL, lessee = NULL, lease_until = NULL
WHERE tenant_id = $2 AND lessee = $1 AND lease_until > now()
  AND active_until IS NOT DISTINCT FROM $3 AND (active_until IS NULL OR active_until <= now())
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """A tenant that a worker looks after until the lease ends (10 s, unless renewed).

    active: work may be committed at any moment, look each second. Else look once more, then retire with this very lease.
    """

    tenant_id: uuid.UUID
    worker: str
    active: bool
    active_until: datetime | None
    next_due_time: datetime | None


@dataclass(frozen=True, slots=True)
class Share:
    """The workers that run, and the tenants that are active or due."""

    workers: int
    tenants: int

    @property
    def each(self) -> int:
        """How many tenants a worker should hold so that all hold as many."""
        return -(-self.tenants // self.workers)


@dataclass(frozen=True, slots=True)
class Kept:
    """A tenant whose daily look is due, with what the directory said of it before that."""

    tenant_id: uuid.UUID
    active_until: datetime | None
    next_due_time: datetime | None


@dataclass(slots=True)
class _Announced:
    """What this process knows of a tenant: monotonic times, taken before the statements, so they never promise too much."""

    until: float
    last_asked: float


class WorkDirectory:
    """The directory, for those who write (announce, run) and for those who work (find, renew, retire)."""

    def __init__(self, control: Database) -> None:
        self._control = control
        self._announced: dict[uuid.UUID, _Announced] = {}
        self._announcing: dict[uuid.UUID, asyncio.Task[None]] = {}

    async def announce(self, tenant_id: uuid.UUID) -> None:
        """Returns once the tenant's active_until is known to lie at least 5 s ahead. DatabaseUnavailable."""
        known = self._announced.get(tenant_id)
        now = time.monotonic()
        if known is not None:
            known.last_asked = now
            if known.until - now >= MARGIN.total_seconds():
                return
        task = self._announcing.get(tenant_id)
        if task is None:
            task = asyncio.ensure_future(self._extend([tenant_id]))
            self._announcing[tenant_id] = task
            task.add_done_callback(lambda _: self._announcing.pop(tenant_id, None))
        await asyncio.shield(task)

    async def run(self) -> None:
        """Renews, every 5 s and in one statement, the tenants that this process writes to. Runs until cancelled."""
        while True:
            await asyncio.sleep(RENEW_EVERY.total_seconds())
            try:
                await self.renew_announced()
            except DatabaseUnavailable:
                # Nothing is lost: announce itself asks, and refuses, when the time runs out.
                log.warning("work.renew_failed", tenants=len(self._announced))

    async def renew_announced(self) -> None:
        """One round of run."""
        now = time.monotonic()
        for tenant_id, known in list(self._announced.items()):
            if now - known.last_asked > QUIET_AFTER.total_seconds():
                del self._announced[tenant_id]
        if self._announced:
            await self._extend(list(self._announced))

    async def find(self, worker: str, *, limit: int, held: int = 0, workers: int = 1) -> list[Lease]:
        """Leases tenants that are active or due within 2 s and nobody's.

        Up to `limit` of them, and only so many that with those already held it is one worker's part of all such tenants.
        """
        async with self._control.connection() as connection:
            rows = await connection.fetch(FIND, worker, limit, LEASE, DUE_AHEAD, workers, held)
        return [_lease(worker, row) for row in rows]

    async def renew(self, worker: str, tenant_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Lease]:
        """Renews leases. A tenant that is missing in the answer is no longer this worker's."""
        async with self._control.connection() as connection:
            rows = await connection.fetch(RENEW, worker, list(tenant_ids), LEASE)
        return {row["tenant_id"]: _lease(worker, row) for row in rows}

    async def retire(self, lease: Lease, next_due_time: datetime | None) -> bool:
        """Gives a tenant back, to be found again at next_due_time.

        lease: as it was read before the last look at the tenant's database. False when the tenant was announced after that, or
        the lease is lost: then renew and look again.
        """
        async with self._control.connection() as connection:
            done: str = await connection.execute(
                RETIRE, lease.worker, lease.tenant_id, lease.active_until, next_due_time
            )
        return done == "UPDATE 1"

    async def share(self, worker: str) -> Share:
        """Says that this worker runs, for 10 s, and answers how many do and what there is for them."""
        async with self._control.connection() as connection:
            (row,) = await connection.fetch(SHARE, worker, LEASE, DUE_AHEAD)
        return Share(**row)

    async def release(self, worker: str, tenant_ids: Iterable[uuid.UUID]) -> None:
        """Gives tenants back, for another worker to find at once."""
        async with self._control.connection() as connection:
            await connection.execute(RELEASE, worker, list(tenant_ids))

    async def leave(self, worker: str) -> None:
        """The worker ends: gives back everything that it holds, and leaves its share to the others."""
        async with self._control.connection() as connection:
            await connection.execute(RELEASE, worker, None)
            await connection.execute(GONE, worker)

    async def claim_house(self, *, limit: int) -> list[Kept]:
        """Tenants that nobody looked at whole for a day; they are this caller's to look at."""
        async with self._control.connection() as connection:
            return [Kept(**row) for row in await connection.fetch(CLAIM_HOUSE, limit, HOUSE_EVERY)]

    async def correct(self, kept: Kept, next_due_time: datetime | None) -> bool:
        """The daily check of a tenant: true when the directory had missed work that is due, which must never happen."""
        async with self._control.connection() as connection:
            done: str = await connection.execute(
                CORRECT, kept.tenant_id, kept.active_until, kept.next_due_time, next_due_time
            )
        return done == "UPDATE 1"

    async def _extend(self, tenant_ids: list[uuid.UUID]) -> None:
        asked = time.monotonic()
        async with self._control.connection() as connection:
            await connection.execute(ANNOUNCE, tenant_ids, ACTIVE)
        for tenant_id in tenant_ids:
            known = self._announced.setdefault(tenant_id, _Announced(until=0, last_asked=asked))
            known.until = max(known.until, asked + ACTIVE.total_seconds())


def _lease(worker: str, row: Any) -> Lease:
    return Lease(
        tenant_id=row["tenant_id"],
        worker=worker,
        active=bool(row["active"]),
        active_until=row["active_until"],
        next_due_time=row["next_due_time"],
    )
