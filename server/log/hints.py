"""Hints through Valkey: "the head of this tenant moved", "I read its log to the end", "rights of this tenant changed".

At most once, never the truth; whoever follows a log verifies it. A hint carries the head before and after, so that a follower
can see a lost one. Two connections make a session: one is subscribed, one publishes. A session is healthy while PING is answered
on the subscribed connection (redis-py's own health check does not raise there, redis/redis-py#2417) and a canary, published each
second, comes back through it. When a session dies, another is tried with jitter, everything is subscribed anew, and the followers
are told to verify.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import redis.asyncio
import structlog
from redis.exceptions import RedisError

PREFIX = "switchboard:hint:"
RIGHTS = "switchboard:rights"
CANARY = "switchboard:canary:"
# What a message on a tenant's channel begins with.
MOVED, READ = "1", "read"
BEAT_SECONDS = 1.0
DEAD_SECONDS = 3.0
BACKOFF_SECONDS = (0.1, 2.0)
CANCEL_AGAIN_SECONDS = 0.2
OUTBOX = 1000
log = structlog.get_logger(__name__)

OnHint = Callable[[uuid.UUID, int, int], None]
OnChange = Callable[[bool], None]
OnRights = Callable[[uuid.UUID], None]


class HintsLost(Exception):
    """The session is dead although its sockets may be open."""


class Hints:
    """Publishes and receives hints. Works, unhealthy, without Valkey.

    valkey_url: redis://…, or None for none at all. follow_all: receive the hints of every tenant (workers).
    """

    def __init__(self, valkey_url: str | None, *, follow_all: bool = False) -> None:
        self._pool = _pool(valkey_url) if valkey_url else None
        self._follow_all = follow_all
        self._name = f"{CANARY}{uuid.uuid4().hex}"
        self._followed: set[uuid.UUID] = set()
        self._unconfirmed: dict[str, float] = {}
        self._commands: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._outbox: deque[tuple[str, str]] = deque(maxlen=OUTBOX)
        self._outgoing = asyncio.Event()
        self._on_hint: list[OnHint] = []
        self._on_read: list[OnHint] = []
        self._on_change: list[OnChange] = []
        self._on_rights: list[OnRights] = []
        self._last_pong = self._last_canary = self._canary_sent = -math.inf
        self._was_healthy = False
        self._task: asyncio.Task[None] | None = None
        self.lag_seconds = math.nan

    @property
    def healthy(self) -> bool:
        """Whether hints of everything that is followed arrive, as far as the last 3 s can tell."""
        return not self._unconfirmed and self._answers(time.monotonic())

    def on_hint(self, callback: OnHint) -> None:
        """Calls callback(tenant_id, prev_head, new_head) for each hint. It must not wait."""
        self._on_hint.append(callback)

    def on_read(self, callback: OnHint) -> None:
        """Calls callback(tenant_id, head, mark) when a process, this one too, says what it read. It must not wait."""
        self._on_read.append(callback)

    def on_rights(self, callback: OnRights) -> None:
        """Calls callback(tenant_id) when keys or agents of any tenant may do something else now. It must not wait."""
        self._on_rights.append(callback)

    def on_change(self, callback: OnChange) -> None:
        """Calls callback(healthy) when health changes. After a True, whatever came before may have been lost: verify."""
        self._on_change.append(callback)

    def publish(self, tenant_id: uuid.UUID, prev_head: int, new_head: int) -> None:
        """Tells the other processes. Never waits, never raises; the oldest hints are dropped when Valkey does not take them."""
        self._send(f"{PREFIX}{tenant_id}", f"{MOVED}:{prev_head}:{new_head}")

    def publish_read(self, tenant_id: uuid.UUID, head: int, mark: int) -> None:
        """Tells who follows the tenant where its log ended just now; said late it would be wrong, so never kept for a session to
        come. mark: a number that names the event at the head.
        """
        if self.healthy:
            self._send(f"{PREFIX}{tenant_id}", f"{READ}:{head}:{mark}")

    def publish_rights(self, tenant_id: uuid.UUID) -> None:
        """Tells every process, whether it follows the tenant or not: it may have its keys and agents in memory."""
        self._send(RIGHTS, str(tenant_id))

    def follow(self, tenant_id: uuid.UUID) -> None:
        """Receives a tenant's hints from now on."""
        if tenant_id not in self._followed and not self._follow_all:
            self._followed.add(tenant_id)
            self._unconfirmed[f"{PREFIX}{tenant_id}"] = time.monotonic()
            self._commands.put_nowait(("SUBSCRIBE", f"{PREFIX}{tenant_id}"))

    def unfollow(self, tenant_id: uuid.UUID) -> None:
        """Stops receiving a tenant's hints."""
        if tenant_id in self._followed:
            self._followed.discard(tenant_id)
            self._unconfirmed.pop(f"{PREFIX}{tenant_id}", None)
            self._commands.put_nowait(("UNSUBSCRIBE", f"{PREFIX}{tenant_id}"))

    def start(self) -> None:
        """Starts the session task on the running loop; without Valkey there is none."""
        if self._pool is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._pool), name="hints")

    async def close(self) -> None:
        """Ends the session."""
        if self._task is not None:
            while not self._task.done():
                # Again until it ends: a session that fails in the moment it is cancelled forgets that it was (until Python 3.13).
                self._task.cancel()
                await asyncio.wait([self._task], timeout=CANCEL_AGAIN_SECONDS)
            self._task = None

    def _send(self, channel: str, text: str) -> None:
        if self._pool is not None:
            self._outbox.append((channel, text))
            self._outgoing.set()

    async def _run(self, pool: redis.asyncio.ConnectionPool) -> None:
        while True:
            subscribed, publishing = _connections(pool)
            try:
                await self._session(subscribed, publishing)
            except* (RedisError, OSError, HintsLost) as lost:
                log.warning("hints.lost", error=repr(lost.exceptions[0]))
            finally:
                self._last_pong = self._last_canary = -math.inf
                self._note_health()
                await asyncio.shield(_disconnect(subscribed, publishing))
            await asyncio.sleep(random.uniform(*BACKOFF_SECONDS))

    async def _session(self, subscribed: Any, publishing: Any) -> None:
        async with asyncio.timeout(DEAD_SECONDS):
            await subscribed.connect()
            await publishing.connect()
            await self._subscribe(subscribed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(subscribed))
            tasks.create_task(self._command(subscribed))
            tasks.create_task(self._deliver(publishing))
            tasks.create_task(self._watch())

    async def _subscribe(self, subscribed: Any) -> None:
        while not self._commands.empty():
            self._commands.get_nowait()
        channels = [self._name, RIGHTS, *(f"{PREFIX}{tenant_id}" for tenant_id in self._followed)]
        self._unconfirmed = dict.fromkeys(channels, time.monotonic())
        await subscribed.send_command("SUBSCRIBE", *channels)
        if self._follow_all:
            self._unconfirmed[f"{PREFIX}*"] = time.monotonic()
            await subscribed.send_command("PSUBSCRIBE", f"{PREFIX}*")

    async def _receive(self, subscribed: Any) -> None:
        while True:
            kind, *rest = await subscribed.read_response(timeout=math.inf)
            if kind == "pong":
                self._last_pong = time.monotonic()
            elif kind in ("subscribe", "psubscribe"):
                self._unconfirmed.pop(rest[0], None)
            elif kind in ("message", "pmessage"):
                self._take(*rest[-2:])
            self._note_health()

    async def _command(self, subscribed: Any) -> None:
        while True:
            await subscribed.send_command(*await self._commands.get())

    async def _deliver(self, publishing: Any) -> None:
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            batch = list(self._outbox)
            self._outbox.clear()
            packed = publishing.pack_commands([("PUBLISH", channel, text) for channel, text in batch])
            await publishing.send_packed_command(packed)
            for _ in batch:
                await publishing.read_response(timeout=DEAD_SECONDS)

    async def _watch(self) -> None:
        started = time.monotonic()
        while True:
            self._commands.put_nowait(("PING", ""))
            self._canary_sent = time.monotonic()
            self._send(self._name, "canary")
            await asyncio.sleep(BEAT_SECONDS)
            self._note_health()
            if time.monotonic() - started > DEAD_SECONDS and self._dead(time.monotonic()):
                raise HintsLost("no pong, canary or confirmation in time")

    def _answers(self, now: float) -> bool:
        return now - min(self._last_pong, self._last_canary) < DEAD_SECONDS

    def _dead(self, now: float) -> bool:
        """A subscription that was asked for a moment ago makes a session unhealthy, not dead."""
        return not self._answers(now) or any(now - asked > DEAD_SECONDS for asked in self._unconfirmed.values())

    def _note_health(self) -> None:
        if self.healthy != self._was_healthy:
            self._was_healthy = not self._was_healthy
            for changed in self._on_change:
                changed(self._was_healthy)

    def _take(self, channel: str, text: str) -> None:
        if channel == self._name:
            self._last_canary = time.monotonic()
            self.lag_seconds = self._last_canary - self._canary_sent
            return
        if channel == RIGHTS:
            self._take_rights(text)
            return
        parsed = _parsed(channel, text)
        if parsed is None:
            log.warning("hints.unreadable", channel=channel)
            return
        kind, hint = parsed
        for take in self._on_hint if kind == MOVED else self._on_read:
            take(*hint)

    def _take_rights(self, text: str) -> None:
        try:
            tenant_id = uuid.UUID(text)
        except ValueError:
            log.warning("hints.unreadable", channel=RIGHTS)
            return
        for take in self._on_rights:
            take(tenant_id)


def _parsed(channel: str, text: str) -> tuple[str, tuple[uuid.UUID, int, int]] | None:
    try:
        kind, first, second = text.split(":")
        if kind not in (MOVED, READ):
            return None
        return kind, (uuid.UUID(channel.removeprefix(PREFIX)), int(first), int(second))
    except ValueError:
        return None


def _pool(url: str) -> redis.asyncio.ConnectionPool:
    """Makes connections that fail at once: reconnecting is ours.

    They have no timeout for each command: it would be asyncio.wait_for, which until Python 3.12 forgets a cancellation that comes in
    the moment the command is done (python/cpython#86296), and a session that ends would wait for ever for that task.
    """
    return redis.asyncio.ConnectionPool.from_url(
        url,
        protocol=2,
        decode_responses=True,
        socket_timeout=None,
        socket_connect_timeout=DEAD_SECONDS,
        socket_keepalive=True,
        health_check_interval=0,
    )


def _connections(pool: Any) -> tuple[Any, Any]:
    """One to subscribe on, one to publish on. Any: redis-py types neither."""
    return pool.make_connection(), pool.make_connection()


async def _disconnect(*connections: Any) -> None:
    for connection in connections:
        await connection.disconnect(nowait=True)
