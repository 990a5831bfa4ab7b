"""Which tenant and channel a provider's object belongs to: the first question about every webhook."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from server.kit.cache import Cache
from server.kit.clock import utc_now
from server.kit.db import Database
from server.kit.errors import AlreadyExists

WHATSAPP = "whatsapp"
SHARED = timedelta(seconds=2)
# A unit of work has ended by then, one way or the other.
CONNECTING = timedelta(minutes=1)
# Longer than any process remembers an owner.
REMEMBERED = timedelta(minutes=1)
CLAIM = """
INSERT INTO routes (provider, external_id, tenant_id, channel_id, create_time, shared_id, app_id) VALUES ($1, $2, $3, $4, $5, $6, $8)
ON CONFLICT (provider, external_id) DO UPDATE SET tenant_id = excluded.tenant_id, channel_id = excluded.channel_id,
    create_time = excluded.create_time, shared_id = excluded.shared_id, release_time = NULL,
    app_id = CASE WHEN routes.channel_id = excluded.channel_id THEN coalesce(excluded.app_id, routes.app_id) ELSE excluded.app_id END
WHERE routes.channel_id = excluded.channel_id
    OR routes.release_time IS NOT NULL AND (routes.tenant_id = excluded.tenant_id OR routes.release_time < $7)
"""
NOTE_APP = """
UPDATE routes SET app_id = $4 WHERE provider = $1 AND external_id = $2 AND channel_id = $3 AND app_id IS DISTINCT FROM $4
"""
LEAVE = """
UPDATE routes SET release_time = $4 WHERE provider = $1 AND external_id = $2 AND channel_id = $3 AND release_time IS NULL
RETURNING shared_id
"""


@dataclass(frozen=True, slots=True)
class Route:
    """The owner of a provider's object."""

    tenant_id: uuid.UUID
    channel_id: uuid.UUID


class Routes:
    """The routing table. Objects of provider "whatsapp" are phone number ids, what they share are business accounts."""

    def __init__(self, control: Database) -> None:
        self._control = control
        self._cache: Cache[tuple[str, str], Route] = Cache(self._load)
        self._sharing: Cache[tuple[str, str], frozenset[uuid.UUID]] = Cache(self._load_sharing, keep=SHARED)

    async def find(self, provider: str, external_ids: Iterable[str]) -> dict[str, Route]:
        """Routes by external id; unowned ones are missing. At most 30 s old, 2 s where there was none."""
        wanted = list(dict.fromkeys(external_ids))
        found = await asyncio.gather(*(self._cache.get((provider, external_id)) for external_id in wanted))
        return {external_id: route for external_id, route in zip(wanted, found, strict=True) if route is not None}

    async def sharing(self, provider: str, shared_id: str) -> frozenset[uuid.UUID]:
        """The tenants with objects of an account, at most 2 s old: what is about the account comes seldom, and is nobody's who left it."""
        return await self._sharing.get((provider, shared_id)) or frozenset()

    async def claim(
        self,
        provider: str,
        external_id: str,
        *,
        tenant_id: uuid.UUID,
        channel_id: uuid.UUID,
        shared_id: str | None = None,
        app_id: str | None = None,
    ) -> None:
        """Gives an object to a channel; again for the same channel changes what it shares, and by which app it comes, at most.

        ALREADY_EXISTS when it is another's, or was until a minute ago: what comes for it until then is still taken for the old owner's
        by some process.
        """
        async with self._control.connection() as connection:
            now = utc_now()
            await connection.execute(
                CLAIM, provider, external_id, tenant_id, channel_id, now, shared_id, now - REMEMBERED, app_id
            )
        self._cache.forget((provider, external_id))
        if shared_id is not None:
            self._sharing.forget((provider, shared_id))
        route = await self._cache.get((provider, external_id))
        if route != Route(tenant_id, channel_id):
            # Whose it is, is nobody's business.
            raise AlreadyExists("channel", "this account is already connected to a channel of this installation")

    async def owned(self, provider: str, external_id: str, *, tenant_id: uuid.UUID) -> Route | None:
        """The route as it is now, if it is this tenant's."""
        route = await self._load((provider, external_id))
        return route if route is not None and route.tenant_id == tenant_id else None

    async def take_over(self, provider: str, external_id: str, *, left: Route, channel_id: uuid.UUID) -> bool:
        """Gives an object to a channel in the place of one that was never stored; false while that may still be."""
        async with self._control.connection() as connection:
            taken = await connection.fetchval(
                "UPDATE routes SET channel_id = $4, create_time = $5"
                " WHERE provider = $1 AND external_id = $2 AND channel_id = $3 AND create_time < $6 RETURNING true",
                provider,
                external_id,
                left.channel_id,
                channel_id,
                utc_now(),
                utc_now() - CONNECTING,
            )
        self._cache.forget((provider, external_id))
        return bool(taken)

    async def leave(self, provider: str, external_id: str, *, channel_id: uuid.UUID) -> None:
        """Takes an object, for which webhooks came, from its channel."""
        async with self._control.connection() as connection:
            shared_id = await connection.fetchval(LEAVE, provider, external_id, channel_id, utc_now())
        self._cache.forget((provider, external_id))
        if shared_id is not None:
            self._sharing.forget((provider, shared_id))

    async def note_app(self, provider: str, external_id: str, *, channel_id: uuid.UUID, app_id: str) -> None:
        """By which app the webhooks of a channel's object come."""
        async with self._control.connection() as connection:
            await connection.execute(NOTE_APP, provider, external_id, channel_id, app_id)

    async def shared(self, provider: str, shared_id: str) -> bool:
        """Whether any object of an account is anybody's, as it is now."""
        async with self._control.connection() as connection:
            found: bool = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM routes WHERE provider = $1 AND shared_id = $2 AND release_time IS NULL)",
                provider,
                shared_id,
            )
        return found

    async def release(self, provider: str, external_id: str, *, channel_id: uuid.UUID) -> None:
        """Takes an object from a channel that was never stored."""
        async with self._control.connection() as connection:
            await connection.execute(
                "DELETE FROM routes WHERE provider = $1 AND external_id = $2 AND channel_id = $3",
                provider,
                external_id,
                channel_id,
            )
        self._cache.forget((provider, external_id))

    async def _load(self, key: tuple[str, str]) -> Route | None:
        async with self._control.connection() as connection:
            row = await connection.fetchrow(
                "SELECT tenant_id, channel_id FROM routes WHERE provider = $1 AND external_id = $2"
                " AND release_time IS NULL",
                *key,
            )
        return None if row is None else Route(row["tenant_id"], row["channel_id"])

    async def _load_sharing(self, key: tuple[str, str]) -> frozenset[uuid.UUID] | None:
        async with self._control.connection() as connection:
            rows = await connection.fetch(
                "SELECT DISTINCT tenant_id FROM routes WHERE provider = $1 AND shared_id = $2 AND release_time IS NULL",
                *key,
            )
        return frozenset(row["tenant_id"] for row in rows) or None
