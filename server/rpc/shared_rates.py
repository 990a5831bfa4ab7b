"""Shares the rate limits of all processes through Valkey, beside the calls: a call never waits for it, and needs it for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import redis.asyncio
import structlog
from prometheus_client import Gauge
from redis.exceptions import RedisError

from server.rpc.rates import Bucket, RateLimits

PREFIX = "switchboard:rate:"
EVERY_SECONDS = 0.25
TIMEOUT_SECONDS = 2.0
AWAY_SECONDS = 1.0
MOST_AT_ONCE = 1000
SHARED = Gauge("switchboard_rate_limits_shared", "1 while limits hold over all processes, 0 while each counts alone.")
# The bucket by Valkey's own clock. Debt goes as deep as the bucket: processes that met nobody for a while must not wait for ever.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rate, burst, spent = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local held = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = tonumber(held[1]) or burst
local at = tonumber(held[2]) or now
level = math.min(burst, level + math.max(0, now - at) * rate) - spent
level = math.max(level, -burst)
redis.call('HSET', KEYS[1], 'level', string.format('%.3f', level), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 2000) + 1000)
return string.format('%.3f', level)
"""

log = structlog.get_logger(__name__)


class SharedRates:
    """Tells Valkey what the buckets of this process spent, and takes over what is left."""

    def __init__(self, limits: RateLimits, valkey_url: str) -> None:
        self._limits = limits
        self._client: Any = redis.asyncio.Redis.from_url(
            valkey_url,
            decode_responses=True,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=None,
        )
        self._script = self._client.register_script(SCRIPT)

    async def run(self) -> None:
        """Shares, four times a second while there is something to share. Runs until cancelled."""
        try:
            pause = EVERY_SECONDS
            while True:
                await asyncio.sleep(pause)
                pause = EVERY_SECONDS if await self.share() else AWAY_SECONDS
        finally:
            with contextlib.suppress(RedisError, OSError):
                await self._client.aclose()

    async def share(self) -> bool:
        """One round; false while Valkey is away: then what was spent meanwhile is never told, and each process counts alone."""
        buckets = dict(islice(self._limits.buckets().items(), MOST_AT_ONCE))
        if not buckets:
            return True
        told = {name: bucket.spent for name, bucket in buckets.items()}
        try:
            levels = await self._tell(buckets, told)
        except (RedisError, OSError) as error:
            for name, bucket in buckets.items():
                bucket.spent = max(0.0, bucket.spent - told[name])
            log.warning("rates.counted_alone", error=type(error).__name__)
            SHARED.set(0)
            return False
        now = time.monotonic()
        for (name, bucket), level in zip(buckets.items(), levels, strict=True):
            bucket.shared(float(level), told[name], now)
        SHARED.set(1)
        return True

    async def _tell(self, buckets: Mapping[str, Bucket], told: Mapping[str, float]) -> list[str]:
        """One pipeline, a script call for each bucket: their keys may live on different nodes of a cluster."""
        pipeline = self._client.pipeline(transaction=False)
        for name, bucket in buckets.items():
            await self._script(keys=[PREFIX + name], args=[bucket.rate, bucket.burst, told[name]], client=pipeline)
        answers: list[str] = await pipeline.execute()
        return answers
