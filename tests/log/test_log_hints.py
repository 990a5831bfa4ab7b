"""Hints through Valkey: quick when it is there, honest when it is not."""

import asyncio
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import redis.asyncio
import structlog

from server.log import hints
from server.log.hints import PREFIX, Hints
from tests.inbox.inbox_bench import Valkey

TENANT, OTHER = uuid.uuid4(), uuid.uuid4()


async def soon(reached: Callable[[], bool], within: float = 30.0) -> None:
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < within, "it did not happen in time"
        await asyncio.sleep(0.01)


class Ear:
    def __init__(self, heard_by: Hints) -> None:
        self.hints = heard_by
        self.heard: list[tuple[uuid.UUID, int, int]] = []
        self.health: list[bool] = []
        heard_by.on_hint(lambda *hint: self.heard.append(hint))
        heard_by.on_change(self.health.append)


@asynccontextmanager
async def ear(url: str | None, **options: bool) -> AsyncIterator[Ear]:
    made = Ear(Hints(url, **options))
    made.hints.start()
    try:
        yield made
    finally:
        await made.hints.close()


async def test_a_hint_reaches_who_follows_the_tenant_and_nobody_else(valkey: Valkey) -> None:
    async with ear(valkey.url) as writer, ear(valkey.url) as reader, ear(valkey.url, follow_all=True) as worker:
        reader.hints.follow(TENANT)
        await soon(lambda: reader.hints.healthy and writer.hints.healthy and worker.hints.healthy)
        writer.hints.publish(OTHER, 1, 2)
        writer.hints.publish(TENANT, 7, 9)
        await soon(lambda: len(worker.heard) == 2 and len(reader.heard) == 1)
        assert reader.heard == [(TENANT, 7, 9)]
        assert worker.heard == [(OTHER, 1, 2), (TENANT, 7, 9)]
        assert writer.heard == []
        reader.hints.unfollow(TENANT)
        reader.hints.follow(OTHER)
        await soon(lambda: reader.hints.healthy)
        writer.hints.publish(TENANT, 9, 10)
        writer.hints.publish(OTHER, 2, 3)
        await soon(lambda: len(reader.heard) == 2)
        assert reader.heard[-1] == (OTHER, 2, 3)
        assert 0 <= writer.hints.lag_seconds < 30


async def test_after_a_restart_hints_come_back_and_it_is_said(valkey: Valkey) -> None:
    async with ear(valkey.url) as reader:
        reader.hints.follow(TENANT)
        await soon(lambda: reader.hints.healthy)
        valkey.kill()
        await soon(lambda: not reader.hints.healthy)
        reader.hints.publish(TENANT, 1, 2)
        valkey.start()
        await soon(lambda: reader.hints.healthy)
        assert reader.health == [True, False, True]
        reader.hints.publish(TENANT, 2, 3)
        await soon(lambda: (TENANT, 2, 3) in reader.heard)


async def test_a_server_that_stops_answering_is_noticed(valkey: Valkey) -> None:
    assert valkey.process is not None
    async with ear(valkey.url) as reader:
        await soon(lambda: reader.hints.healthy)
        os.kill(valkey.process.pid, signal.SIGSTOP)
        try:
            await soon(lambda: not reader.hints.healthy)
        finally:
            os.kill(valkey.process.pid, signal.SIGCONT)
        await soon(lambda: reader.hints.healthy)


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1/0"])
async def test_without_valkey_publishing_does_nothing_and_nothing_is_healthy(url: str | None) -> None:
    async with ear(url) as reader:
        reader.hints.follow(TENANT)
        for number in range(3000):
            reader.hints.publish(TENANT, number, number + 1)
        await asyncio.sleep(0.3)
        assert not reader.hints.healthy
        assert reader.health == []


async def test_what_is_not_a_hint_is_ignored(valkey: Valkey) -> None:
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(ear(valkey.url, follow_all=True))
        await soon(lambda: reader.hints.healthy)
        with socket.create_connection(("127.0.0.1", valkey.port)) as raw:
            for channel, text in (
                (f"{PREFIX}{TENANT}", "2:1:2"),
                (f"{PREFIX}x", "1:1:2"),
                (f"{PREFIX}{TENANT}", "1:1:x"),
            ):
                raw.sendall(f"PUBLISH {channel} {text}\r\n".encode())
            raw.sendall(f"PUBLISH {PREFIX}{TENANT} 1:4:5\r\n".encode())
            await soon(lambda: bool(reader.heard))
        assert reader.heard == [(TENANT, 4, 5)]
        assert reader.hints.healthy


async def storm(followed: Hints, seconds: float) -> None:
    """Follows and unfollows without a pause, so that a subscription is on its way at any moment one looks."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        followed.follow(TENANT)
        await asyncio.sleep(0)
        followed.unfollow(TENANT)


async def test_subscriptions_on_their_way_do_not_end_a_session(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(hints, "BEAT_SECONDS", 0.01)
    async with ear(valkey.url) as reader:
        await soon(lambda: reader.hints.healthy)
        with structlog.testing.capture_logs() as logs:
            await storm(reader.hints, 2.0)
        assert [entry["event"] for entry in logs] == []
        await soon(lambda: reader.hints.healthy)


async def test_a_session_that_ends_amid_commands_is_followed_by_another(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "BACKOFF_SECONDS", (0.01, 0.02))
    async with ear(valkey.url) as reader, redis.asyncio.Redis.from_url(valkey.url) as operator:
        for number in range(1, 11):
            await soon(lambda: reader.hints.healthy)
            ending = asyncio.ensure_future(storm(reader.hints, 0.02))
            await asyncio.sleep(0.01)
            await operator.client_kill_filter(_type="pubsub")
            await ending
            # It may be back before one looks.
            await soon(lambda number=number: reader.health.count(False) >= number)
        reader.hints.follow(TENANT)
        await soon(lambda: reader.hints.healthy)
        reader.hints.publish(TENANT, 1, 2)
        await soon(lambda: reader.heard == [(TENANT, 1, 2)])
