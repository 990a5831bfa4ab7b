"""watch() against a log whose streams break at random: every event once, in order, whatever happens."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest
import switchboard_sdk
from sdk_server import bookmark, caught_up, drop, end, events, goodbye, hello, refuse, status
from switchboard.v1 import inbox_service_pb2_grpc
from switchboard_client.switchboard.v1 import WatchStart

LAST = 40


class BreakingLog(inbox_service_pb2_grpc.InboxServiceServicer):
    """Honours cursors ("c7" is after event 7), may send again what was sent, and ends streams in every way there is."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.opened = 0

    async def WatchInbox(self, request, context):
        self.opened += 1
        position = int(request.cursor.removeprefix("c") or 0)
        if self.random.random() < 0.1:
            await drop(context)
        await context.write(hello(f"c{position}"))
        if self.random.random() < 0.3:
            position = max(0, position - self.random.randint(1, 3))
        while position < LAST:
            size = self.random.randint(1, min(4, LAST - position))
            await context.write(events(*range(position + 1, position + size + 1)))
            position += size
            if self.random.random() < 0.25:
                await context.write(self.random.choice([bookmark, caught_up])(f"c{position}"))
            if self.random.random() < 0.3:
                await self.leave(position, context)
                return
        await asyncio.Event().wait()

    async def leave(self, position, context):
        cursor = f"c{position}"
        now = timedelta()
        way = self.random.randrange(6)
        if way == 0:
            await drop(context)
        elif way == 1:
            await refuse(status(grpc.StatusCode.INTERNAL, reason="INTERNAL"))(context)
        elif way == 2:
            await context.write(goodbye(cursor, reconnect_after=now))
        elif way == 3:
            await context.write(end(self.random.choice(["DRAIN", "LIFETIME", "SLOW_CONSUMER"]), cursor))
        elif way == 4:
            await context.write(end("UNAVAILABLE", cursor, retry_after=now))


@pytest.fixture(params=range(12))
async def log(request) -> AsyncIterator[tuple[BreakingLog, str]]:
    servicer, server = BreakingLog(request.param), grpc.aio.server()
    inbox_service_pb2_grpc.add_InboxServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    await server.stop(grace=None)


async def test_every_event_comes_once_and_in_order(log):
    servicer, url = log
    async with asyncio.timeout(60), switchboard_sdk.connect(url, token="t") as client:
        async with client.watch(start=WatchStart.EARLIEST) as watch:
            seen = []
            async for event in watch:
                seen.append((event.seq, watch.cursor))
                if event.seq == LAST:
                    break
    assert seen == [(seq, f"c{seq}") for seq in range(1, LAST + 1)]
    assert servicer.opened > 1
