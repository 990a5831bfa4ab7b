"""The live stream to one client, and logs that streams read from their beginning."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from grpc import aio
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import message_service_pb2

from tests.bench.measuring import Costs, Row, quantiles
from tests.bench.reference import SERVICE
from tests.bench.stand import Stand

WATCH = "/switchboard.v1.InboxService/WatchInbox"
SENDS, READERS = 300, 8
# A response this long holds events alone; the shorter ones are looked into for the end of the catch-up.
LONG = 4000


async def rows(stand: Stand) -> list[Row]:
    """Commit to client, and catching up."""
    return [await answered(stand), await caught_up(stand)]


async def answered(stand: Stand) -> Row:
    """From the answer of a send, which is after its commit, to its event at a client; below 0 the event came first."""
    call = stand.channel.unary_stream(WATCH)(inbox.WatchInboxRequest().SerializeToString(), metadata=stand.metadata)
    await call.read()
    seen: dict[str, asyncio.Future[float]] = {}

    def at(message_id: str) -> asyncio.Future[float]:
        return seen.setdefault(message_id, asyncio.get_running_loop().create_future())

    async def follow() -> None:
        while (item := await call.read()) is not aio.EOF:
            now = time.perf_counter()
            for event in inbox.WatchInboxResponse.FromString(item).events:
                if event.HasField("message_created"):
                    at(event.message_created.message.id).set_result(now)

    following, found, told = asyncio.create_task(follow()), [], []
    send, echo = stand.sending(), stand.echoing()
    for _ in range(SENDS // (3 if stand.quick else 1)):
        answer = message_service_pb2.SendMessageResponse.FromString(await send())
        replied = time.perf_counter()
        found.append((await asyncio.wait_for(at(answer.message.id), 5) - replied) * 1000)
        began = time.perf_counter()
        await echo()
        told.append((time.perf_counter() - began) * 1000)
    call.cancel()
    await asyncio.gather(following, return_exceptions=True)
    p50, p99 = quantiles(found)
    bare = quantiles(told)
    return Row(
        "answer of a send -> its event at a client",
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms",
        f"p50 {bare[0]:.2f} ms, p99 {bare[1]:.2f} ms  bare echo",
        target="p50 < 20 ms",
        met=p50 < 20,
    )


async def caught_up(stand: Stand) -> Row:
    """Streams that read the whole log: deliveries a second, beside a bare server that writes responses of that size."""
    request = inbox.WatchInboxRequest(start=inbox.WATCH_START_EARLIEST).SerializeToString()
    events = await stand.database.fetchval(
        "SELECT count(*) FROM stream_event WHERE seq <= (SELECT head FROM stream_head)"
    )
    with Costs(serve=stand.pids["serve"]) as costs:
        began = time.perf_counter()
        sizes = await asyncio.gather(*(_read_log(stand, request) for _ in range(READERS)))
        took = time.perf_counter() - began
    mean, count = sum(sizes[0]) // len(sizes[0]), len(sizes[0])
    asked = json.dumps({"size": mean, "count": count}).encode()
    began = time.perf_counter()
    await asyncio.gather(*(_read_bare(stand, asked) for _ in range(READERS)))
    bare = events * READERS / (time.perf_counter() - began)
    ours = events * READERS / took
    return Row(
        f"catching up: {READERS} streams from the log's beginning, deliveries",
        f"{ours:,.0f} /s",
        f"{bare:,.0f} /s  bare writes, {mean:,} bytes each",
        ratio=ours / bare,
        cost=costs.each(events * READERS),
    )


async def _read_log(stand: Stand, request: bytes) -> Sequence[int]:
    """The sizes of a stream's responses until it has caught up."""
    call: Any = stand.channel.unary_stream(WATCH)(request, metadata=stand.metadata)
    sizes: list[int] = []
    while (item := await call.read()) is not aio.EOF:
        sizes.append(len(item))
        if len(item) < LONG and inbox.WatchInboxResponse.FromString(item).HasField("caught_up"):
            break
    call.cancel()
    return sizes


async def _read_bare(stand: Stand, asked: bytes) -> None:
    call: Any = stand.bare.unary_stream(f"/{SERVICE}/Stream")(asked)
    while await call.read() is not aio.EOF:
        pass
