"""Valkey: reachable, which version, does a hint come through, its memory, its clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from server.doctor.finding import Finding, Limits, note, problem, size, well
from server.doctor.postgres import clock_findings

WHERE = "Valkey"
WITHOUT = "Events still arrive, up to 0.4 s late; rate limits count in each process alone."
# The oldest with what is used here (PUBLISH, SUBSCRIBE, scripts) that anybody still maintains.
OLDEST = (6, 2)


async def look(url: str, limits: Limits, *, clock: Callable[[], float] = time.time) -> list[Finding]:
    """Everything about Valkey. clock: this machine's, Unix seconds."""
    client: Any = redis.asyncio.Redis.from_url(
        url, decode_responses=True, socket_timeout=3, socket_connect_timeout=3, retry=None, health_check_interval=0
    )
    try:
        return await _look(client, limits, clock)
    except (RedisError, OSError) as error:
        do = "Start Valkey, or correct SWITCHBOARD_VALKEY_URL. Under `switchboard up`: restart it; see logs/valkey.log."
        return [problem("valkey-unreachable", WHERE, f"it does not answer: {type(error).__name__}", why=WITHOUT, do=do)]
    finally:
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()


async def _look(client: Any, limits: Limits, clock: Callable[[], float]) -> list[Finding]:
    info: dict[str, Any] = await client.info()
    version = str(info.get("valkey_version") or info["redis_version"])
    found = [*_version(version), *_memory(info), *await _hints(client), *await _buffer(client)]
    began, wall = time.perf_counter(), clock()
    seconds, micros = await client.time()
    took = time.perf_counter() - began
    found += clock_findings(WHERE, seconds + micros / 1e6 - (wall + took / 2), limits)
    return found or [well("valkey", WHERE, f"version {version}, hints come through")]


def _version(version: str) -> list[Finding]:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers >= OLDEST:
        return []
    do = "Upgrade to Valkey 8 or later."
    return [note("valkey-version", WHERE, f"version {version} is old", why="It gets no security fixes.", do=do)]


def _memory(info: dict[str, Any]) -> list[Finding]:
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    found = []
    if most and used > 0.9 * most:
        what = f"{size(used)} of {size(most)} are used"
        why = "Nothing durable is in there; what else is, takes the room of hints."
        do = "Give Switchboard a Valkey of its own, or raise maxmemory."
        found.append(problem("valkey-full", WHERE, what, why=why, do=do))
    if most and info.get("maxmemory_policy") == "noeviction":
        why = "When it is full, rate limits are no longer shared between processes."
        do = "CONFIG SET maxmemory-policy allkeys-lru; and the same in its configuration file."
        found.append(note("valkey-policy", WHERE, "maxmemory-policy is noeviction", why=why, do=do))
    return found


async def _hints(client: Any) -> list[Finding]:
    """Publishes to itself, the way the processes do."""
    name = f"switchboard:doctor:{uuid.uuid4().hex}"
    async with client.pubsub() as subscribed:
        await subscribed.subscribe(name)
        heard: asyncio.Task[bool] = asyncio.create_task(_heard(subscribed))
        await asyncio.sleep(0)
        for _ in range(10):
            await client.publish(name, "canary")
            done, _ = await asyncio.wait([heard], timeout=0.2)
            if done:
                return []
        heard.cancel()
        await asyncio.wait([heard])
    do = "Look for a proxy or an ACL between the processes and Valkey that keeps SUBSCRIBE or PUBLISH back."
    return [problem("hints-lost", WHERE, "what is published does not come back", why=WITHOUT, do=do)]


async def _heard(subscribed: Any) -> bool:
    async for message in subscribed.listen():
        if message["type"] == "message":
            return True
    return False


async def _buffer(client: Any) -> list[Finding]:
    """Subscribers that are slow for a moment must not be cut off. A managed service may refuse CONFIG; then nobody knows."""
    try:
        limits = (await client.config_get("client-output-buffer-limit")).get("client-output-buffer-limit", "")
    except RedisError:
        return []
    words = limits.split()
    hard = int(words[words.index("pubsub") + 1]) if "pubsub" in words else 0
    if not 0 < hard < 8 << 20:
        return []
    what = f"a subscriber is cut off with {size(hard)} waiting"
    do = 'CONFIG SET client-output-buffer-limit "pubsub 33554432 8388608 60"; and the same in its configuration file.'
    return [note("valkey-buffer", WHERE, what, why="Under load the processes lose their hints for a second.", do=do)]
