"""Who is there right now: heartbeats of agents in Valkey, by Valkey's clock.

What is missing there says nothing until Valkey has been up, with what it holds now, for longer than heartbeats are apart: after
a restart, a flush or a failover nobody is known. Then, and while Valkey is away, what the database says counts.
"""

from __future__ import annotations

import contextlib
import uuid
from datetime import timedelta
from typing import Any

import redis.asyncio
import structlog
from redis.exceptions import RedisError

TIMEOUT_SECONDS = 1.0
# Without a heartbeat for so long an agent is not there; what is missing means something after so long.
LOST_AFTER, KNOWN_AFTER = timedelta(seconds=45), timedelta(seconds=90)
# Both keys of a tenant on one node of a cluster. `since`: when the heartbeats that are there began to be kept.
KEY, SINCE = "switchboard:presence:{{{}}}", "switchboard:presence:{{{}}}:since"
NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('SET', KEYS[2], string.format('%.6f', now), 'NX')
redis.call('EXPIRE', KEYS[2], 86400)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now - tonumber(ARGV[1])))
"""
BEAT = f"""{NOW}
redis.call('ZADD', KEYS[1], string.format('%.6f', now), ARGV[2])
redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[1]) * 1000))
"""
LEAVE = "redis.call('ZREM', KEYS[1], ARGV[2])"
READ = f"""{NOW}
if now - tonumber(redis.call('GET', KEYS[2])) < tonumber(ARGV[2]) then return false end
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
log = structlog.get_logger(__name__)


class Presence:
    """The heartbeats of all tenants. Works, knowing nothing, without Valkey.

    valkey_url: redis://…, or None for none at all. lost_after, known_after: see LOST_AFTER and KNOWN_AFTER.
    """

    def __init__(
        self, valkey_url: str | None, *, lost_after: timedelta = LOST_AFTER, known_after: timedelta = KNOWN_AFTER
    ) -> None:
        self._client: Any = None
        if valkey_url:
            self._client = redis.asyncio.Redis.from_url(
                valkey_url,
                decode_responses=True,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=None,
            )
        self._lost = lost_after.total_seconds()
        self._known = known_after.total_seconds()

    async def beat(self, tenant_id: uuid.UUID, agent_id: uuid.UUID) -> None:
        """The agent is there. Lost without a word where Valkey is away: the database has it too, a minute late at most."""
        await self._run(BEAT, tenant_id, self._lost, str(agent_id))

    async def leave(self, tenant_id: uuid.UUID, agent_id: uuid.UUID) -> None:
        """The agent went."""
        await self._run(LEAVE, tenant_id, self._lost, str(agent_id))

    async def present(self, tenant_id: uuid.UUID) -> frozenset[uuid.UUID] | None:
        """The agents that are there; None while nobody can tell."""
        found = await self._run(READ, tenant_id, self._lost, self._known)
        return None if found is None else frozenset(map(uuid.UUID, found))

    async def close(self) -> None:
        """Ends the connections."""
        if self._client is not None:
            with contextlib.suppress(RedisError, OSError):
                await self._client.aclose()

    async def _run(self, script: str, tenant_id: uuid.UUID, *arguments: object) -> Any:
        if self._client is None:
            return None
        keys = (KEY.format(tenant_id), SINCE.format(tenant_id))
        try:
            return await self._client.eval(script, len(keys), *keys, *arguments)
        except (RedisError, OSError) as error:
            log.warning("presence.unknown", error=type(error).__name__)
            return None
