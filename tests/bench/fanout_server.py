"""What serves the streams of tests.bench.fanout: our server as `serve` makes it, or a bare one that only writes.

Run as a process of its own. It prints its address; each line of standard input is a command, answered by one line of JSON:
`paced RATE SECONDS` makes events at a steady pace and answers {seq: monotonic seconds of its commit}; `lockstep COUNT STREAMS
BATCH` makes so many events once all streams were written those before, and answers the seconds it took; `window MILLISECONDS`
has the bare server wake its streams so long after an event.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from typing import Any, Protocol

import grpc
import uvloop
from grpc import aio
from switchboard.v1 import conversation_pb2, event_pb2, message_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.app import assemble
from server.composition import compose
from server.kit import collector
from server.kit.db import Database, Write
from server.kit.ids import new_id
from server.log.append import Appended, append
from server.log.event import SYSTEM, Cause, NewEvent, Routing
from server.rpc.rates import RateLimits
from server.rpc.server import OPTIONS
from server.settings import load

METHOD = "bench.Fanout"


def body() -> event_pb2.InboxEvent:
    """A message with its list row, of usual size."""
    message = message_pb2.Message(id=str(new_id()), conversation_id=str(new_id()))
    message.text.body = "Is it possible to change the delivery address of my order?"
    row = conversation_pb2.Conversation(id=str(new_id()), channel_id=str(new_id()), identity_id=str(new_id()))
    row.contact.id, row.contact.name = str(new_id()), "A customer"
    row.last_message_preview, row.subject = message.text.body, "An order"
    return event_pb2.InboxEvent(message_received=event_pb2.MessageReceived(message=message, conversation=row))


class Source(Protocol):
    """Makes one event and tells when it was made."""

    async def make(self, count: int = 1) -> None:
        """So many events, in one transaction."""

    @property
    def made(self) -> dict[int, float]:
        """Monotonic seconds by seq."""

    @property
    def written(self) -> float:
        """Events written to streams, all streams together."""


class Log:
    """Commits events of one channel into the tenant's log as the batch writer does: what waits goes together, nothing waits for it."""

    def __init__(self, database: Database, channel_id: uuid.UUID, metrics: Any) -> None:
        self._database = database
        self._routing = Routing(channel_id=channel_id)
        self._metrics = metrics
        self.made: dict[int, float] = {}
        self._queued: list[NewEvent] = []
        self._writing: asyncio.Task[None] | None = None

    async def make(self, count: int = 1) -> None:
        self._queued += [self._event() for _ in range(count)]
        while self._queued:
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write())
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        async with self._database.held() as held:
            while self._queued:
                events, self._queued = self._queued[:128], self._queued[128:]

                async def work(write: Write, events: list[NewEvent] = events) -> None:
                    await append(write, events)

                await held.write_at_once(work)

    def _event(self) -> NewEvent:
        return NewEvent(
            body=body(),
            actor=SYSTEM,
            cause=Cause(kind=1, id="bench"),
            conversation_id=new_id(),
            conversation_version=1,
            before=self._routing,
            after=self._routing,
        )

    def committed(self, appended: Appended) -> None:
        """The moment that latency is counted from."""
        now = time.monotonic()
        self.made.update(dict.fromkeys(range(appended.prev_head + 1, appended.new_head + 1), now))

    @property
    def written(self) -> float:
        return float(self._metrics.delivered._value.get())


class Bare:
    """Writes the same bytes to its streams and does nothing else: what grpc.aio costs."""

    def __init__(self) -> None:
        self.made: dict[int, float] = {}
        self.written = 0.0
        self.window = 0.0
        self._waking = False
        self._waiting: list[tuple[list[bytes], asyncio.Event]] = []
        event = body()
        event.id, event.cause.id = str(new_id()), "bench"
        event.cursor, event.last_of_transaction = "c" * 64, True
        self._event = event

    async def watch(self, request: bytes, context: Any) -> None:
        """One stream; it is sent something only if its request says so."""
        await context.write(inbox.WatchInboxResponse(hello=inbox.Hello()).SerializeToString())
        waiting: tuple[list[bytes], asyncio.Event] = ([], asyncio.Event())
        queue, wake = waiting
        if request == b"1":
            self._waiting.append(waiting)
        try:
            while True:
                await wake.wait()
                wake.clear()
                batch = queue.copy()
                queue.clear()
                await context.write(b"".join(batch))
                self.written += len(batch)
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def make(self, count: int = 1) -> None:
        for _ in range(count):
            self._make()

    def _make(self) -> None:
        seq = self._event.seq = len(self.made) + 1
        item = inbox.WatchInboxResponse(events=[self._event]).SerializeToString()
        self.made[seq] = time.monotonic()
        for queue, _ in self._waiting:
            queue.append(item)
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_later(self.window, self._wake)

    def _wake(self) -> None:
        self._waking = False
        for _, wake in self._waiting:
            wake.set()


async def paced(source: Source, rate: float, seconds: float) -> dict[int, float]:
    """Events at a steady pace, whatever becomes of those before."""
    tasks, due, count = set(), time.monotonic(), int(rate * seconds)
    source.made.clear()
    for _ in range(count):
        tasks.add(asyncio.ensure_future(source.make()))
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.wait(tasks)
    return dict(source.made)


async def lockstep(source: Source, count: int, streams: int, batch: int) -> float:
    """Seconds for so many events, of which each batch is made once the one before was written to all streams."""
    began, written = time.monotonic(), source.written
    for index in range(batch, count + 1, batch):
        await source.make(batch)
        while source.written < written + index * streams:
            await asyncio.sleep(0)
    return time.monotonic() - began


async def obey(source: Source) -> None:
    """Commands, until there are no more."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        cpu = time.process_time()
        if line[0] == "paced":
            answer: dict[str, Any] = {"made": await paced(source, float(line[1]), float(line[2]))}
        elif line[0] == "window" and isinstance(source, Bare):
            source.window, answer = float(line[1]) / 1000, {}
        else:
            answer = {"seconds": await lockstep(source, *map(int, line[1:4]))}
        print(json.dumps({**answer, "cpu": time.process_time() - cpu}), flush=True)


async def serve_log(tenant_id: uuid.UUID, channel_id: uuid.UUID) -> None:
    """The public server of `serve`, with settings from the environment."""
    async with compose(load(), follow_all=False) as (parts, commits):
        tails, streams, _, server = await assemble(load(), parts, commits, RateLimits())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        log = Log((await parts.tenants.get(tenant_id)).database, channel_id, tails.metrics)
        local = commits.local

        def committed(tenant: uuid.UUID, appended: Appended) -> None:
            log.committed(appended)
            local(tenant, appended)

        commits.local = committed
        announcing = asyncio.ensure_future(parts.directory.run())
        # As `serve` does.
        collector.settle()
        print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
        await obey(log)
        announcing.cancel()
        await streams.drain()
        await server.stop(0.5)
        await tails.close()


async def serve_bare() -> None:
    """The reference."""
    source = Bare()
    server = aio.server(options=OPTIONS)
    handler = grpc.unary_stream_rpc_method_handler(source.watch)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHOD, {"Watch": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    collector.settle()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await obey(source)
    await server.stop(0)


def main() -> None:
    """The tenant and the channel stand in the environment; without them the bare server runs."""
    tenant_id = os.environ.get("BENCH_TENANT")
    if tenant_id is None:
        uvloop.run(serve_bare())
    else:
        uvloop.run(serve_log(uuid.UUID(tenant_id), uuid.UUID(os.environ["BENCH_CHANNEL"])))


if __name__ == "__main__":
    main()
