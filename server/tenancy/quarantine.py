"""Where signed payloads wait whose tenant is unknown or whose database does not answer. Seven days, then they are gone."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.kit.clock import utc_now
from server.kit.db import Database

KEEP = timedelta(days=7)
AGAIN = timedelta(minutes=1)

STORE = """
INSERT INTO quarantine (id, provider, app_id, external_id, tenant_id, reason, body, split, content_hash, secret_index,
                        receive_time, next_time, expire_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (id) DO NOTHING
"""

DUE = """
UPDATE quarantine SET next_time = clock_now() + $2
WHERE id IN (
    SELECT parts.id FROM quarantine parts
    WHERE parts.next_time <= clock_now() AND (parts.tenant_id IS NOT NULL OR EXISTS (
        SELECT FROM routes WHERE routes.provider = parts.provider AND routes.external_id = parts.external_id
            AND routes.release_time IS NULL))
    ORDER BY parts.next_time LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id, provider, app_id, external_id, tenant_id, reason, body, split, content_hash, secret_index, receive_time
"""

OF_TENANT = """
SELECT id, provider, app_id, external_id, tenant_id, reason, body, split, content_hash, secret_index, receive_time
FROM quarantine q WHERE receive_time < $2 AND (tenant_id = $1 OR EXISTS (
    SELECT FROM routes r WHERE r.provider = q.provider AND r.external_id = q.external_id AND r.tenant_id = $1
        AND r.release_time IS NULL))
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a webhook, or the whole of one that cannot be read.

    external_id: the provider's object, such as a phone number id; None when there is none. tenant_id: set when the tenant is
    known. reason: a word such as "unrouted", "unparseable", "unknown_object", "tenant_unavailable". content_hash: SHA-256 of
    the whole body. secret_index: which secret of the app matched, 0 is the newest.
    """

    id: uuid.UUID
    provider: str
    app_id: str
    external_id: str | None
    tenant_id: uuid.UUID | None
    reason: str
    body: bytes
    split: bool
    content_hash: bytes
    secret_index: int
    receive_time: datetime


class Quarantine:
    """The quarantine of the control database."""

    def __init__(self, control: Database) -> None:
        self._control = control

    async def store(self, parts: Iterable[Part]) -> None:
        """Stores parts, durably, all or none. DatabaseUnavailable: then the provider must not get its 200."""
        now = utc_now()
        rows = [
            (
                *(part.id, part.provider, part.app_id, part.external_id, part.tenant_id, part.reason, part.body),
                *(part.split, part.content_hash, part.secret_index, part.receive_time, now, now + KEEP),
            )
            for part in parts
        ]
        async with self._control.connection() as connection:
            await connection.executemany(STORE, rows)

    async def due(self, *, limit: int) -> list[Part]:
        """Parts whose owner is known by now and that nobody tried within the last minute."""
        async with self._control.connection() as connection:
            rows = await connection.fetch(DUE, limit, AGAIN)
        return [Part(**row) for row in rows]

    async def wake(self, provider: str, external_id: str) -> None:
        """Makes the parts of an object due at once: it was connected just now."""
        async with self._control.connection() as connection:
            await connection.execute(
                "UPDATE quarantine SET next_time = clock_now() WHERE provider = $1 AND external_id = $2",
                provider,
                external_id,
            )

    async def done(self, ids: Iterable[uuid.UUID]) -> None:
        """Removes parts that stand in their tenant's journal now."""
        async with self._control.connection() as connection:
            await connection.execute("DELETE FROM quarantine WHERE id = ANY($1)", list(ids))

    async def of_tenant(self, tenant_id: uuid.UUID, *, until: datetime) -> list[Part]:
        """Parts that came before a time and wait for a tenant, or for an object that is routed to it by now."""
        async with self._control.connection() as connection:
            rows = await connection.fetch(OF_TENANT, tenant_id, until)
        return [Part(**row) for row in rows]

    async def replace(self, part_id: uuid.UUID, body: bytes) -> None:
        """What is left of a part when somebody was erased."""
        async with self._control.connection() as connection:
            await connection.execute("UPDATE quarantine SET body = $2, split = true WHERE id = $1", part_id, body)

    async def purge(self) -> int:
        """Removes what is older than seven days; answers how many."""
        async with self._control.connection() as connection:
            done: str = await connection.execute("DELETE FROM quarantine WHERE expire_time <= clock_now()")
        return int(done.rpartition(" ")[2])
