"""Fan-out of the live stream: 200 streams open, 50 of which match, 200 events a second; from the return of COMMIT to the client.

The reference of each row is a bare grpc.aio server of the same run that writes the same bytes to as many streams. It and ours take
turns, and a row's quantiles are those of all turns together: what else the machine does meets them alike. Clocks are
CLOCK_MONOTONIC of one machine. Our server runs with credentials, validation, fsync and the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import uvloop
from grpc import aio
from switchboard.v1 import auth_service_pb2 as auth
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import options_pb2
from switchboard.v1.auth_service_pb2_grpc import AuthServiceStub

from server.embedded.stack import Options, Stack
from server.kit import collector
from tests.bench.fanout_server import METHOD
from tests.bench.measuring import Costs, Row, quantiles, show

STREAMS, MATCHING, RATE = 200, 50, 200
TURNS, SECONDS = 4, 4.0
# Events, by how many of them a transaction has.
LOCKSTEPS = {1: 400, 64: 6400}
# Milliseconds, and times the reference's p99.
MEDIAN_MOST, LATE_MOST, TIMES_MOST = 5.0, 25.0, 3.0
WATCH = "/switchboard.v1.InboxService/WatchInbox"


class Server:
    """A process of tests.bench.fanout_server."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, command: str) -> dict[str, Any]:
        """One command, and its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """The next line."""
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return found


@contextlib.asynccontextmanager
async def running(environment: dict[str, str]) -> AsyncIterator[Server]:
    """A server process, until its standard input ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.bench.fanout_server"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=None,
        env={**os.environ, **environment},
        limit=1 << 24,
    )
    server = Server(process, "")
    server.address = (await server.answer())["address"]
    try:
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


class Client:
    """Streams that note when each seq came."""

    def __init__(self) -> None:
        self.received: list[tuple[int, float]] = []
        self._calls: list[Any] = []
        self._reading: list[asyncio.Task[None]] = []

    async def open(
        self, channel: aio.Channel, method: str, request: bytes, metadata: Sequence[tuple[str, str]]
    ) -> None:
        """Opens one stream and returns after its first item."""
        call = channel.unary_stream(method)(request, metadata=tuple(metadata))
        await call.read()
        self._calls.append(call)
        self._reading.append(asyncio.create_task(self._read(call)))

    async def _read(self, call: Any) -> None:
        while (item := await call.read()) is not aio.EOF:
            now = time.monotonic()
            self.received += [(event.seq, now) for event in inbox.WatchInboxResponse.FromString(item).events]

    async def close(self) -> None:
        """Ends all streams."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    def milliseconds(self, made: dict[str, float]) -> list[float]:
        """From when each was made, over all streams; all of them must have come once to each stream."""
        found = [(now - made[str(seq)]) * 1000 for seq, now in self.received if str(seq) in made]
        if len(found) != len(made) * MATCHING:
            raise AssertionError(f"{len(found)} deliveries of {len(made) * MATCHING}")
        return found


@contextlib.asynccontextmanager
async def streams(
    address: str, method: str, requests: Sequence[bytes], keys: Sequence[str] = ()
) -> AsyncIterator[Client]:
    """A client with a stream for each request, on four connections."""
    client = Client()
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(aio.insecure_channel(address, options=options)) for _ in range(4)]
        for index, request in enumerate(requests):
            metadata = (("authorization", f"Bearer {keys[index % len(keys)]}"),) if keys else ()
            await client.open(channels[index % 4], method, request, metadata)
            # No more may be opened in a second.
            await asyncio.sleep(0.01 if keys else 0)
        try:
            yield client
        finally:
            await client.close()


class Pace:
    """A row's turns: how long each delivery took, and what each process took of the machine meanwhile."""

    def __init__(self, **pids: int) -> None:
        self.found: list[float] = []
        self.costs = Costs(**pids)

    async def turn(self, writer: Server, client: Client) -> None:
        """The writer makes events at the pace, and the client notes when they came."""
        await writer.ask(f"paced {RATE} 1")
        await asyncio.sleep(0.5)
        client.received.clear()
        with self.costs:
            made = (await writer.ask(f"paced {RATE} {SECONDS}"))["made"]
        await asyncio.sleep(1.5)
        self.found += client.milliseconds(made)

    @property
    def words(self) -> str:
        """How a row shows it."""
        return "p50 {:.2f} ms, p99 {:.2f} ms".format(*quantiles(self.found))


async def deliveries(server: Server) -> dict[int, float]:
    """Deliveries per second of the server's CPU time, by how many events a transaction has."""
    found = {}
    for batch, count in LOCKSTEPS.items():
        answer = await server.ask(f"lockstep {count} {MATCHING} {batch}")
        found[batch] = count * MATCHING / float(answer["cpu"])
    return found


async def measure(environment: dict[str, str], keys: Sequence[str], channel_id: str, postgres: int) -> list[Row]:
    """All rows. environment: the settings of our servers, with the tenant and the channel of the events."""
    # The clients' garbage is not part of what is measured.
    collector.settle()
    wanted = inbox.WatchInboxRequest(filter={"channel_id": [channel_id]}).SerializeToString()
    others = [inbox.WatchInboxRequest(filter={"channel_id": [str(uuid.uuid4())]}) for _ in range(STREAMS - MATCHING)]
    requests = [wanted] * MATCHING + [other.SerializeToString() for other in others]
    bare_requests = [b"1"] * MATCHING + [b"0"] * (STREAMS - MATCHING)
    async with running({}) as bare, running(environment) as first, running(environment) as second:
        alone = Pace(server=bare.pid)
        local = Pace(serve=first.pid, postgres=postgres)
        hinted = Pace(writer=first.pid, serve=second.pid, postgres=postgres)
        for turn in range(TURNS):
            async with streams(bare.address, f"/{METHOD}/Watch", bare_requests) as client:
                await alone.turn(bare, client)
                if turn == 0:
                    least = await deliveries(bare)
            async with streams(first.address, WATCH, requests, keys) as client:
                await local.turn(first, client)
                if turn == 0:
                    rates = await deliveries(first)
            async with streams(second.address, WATCH, requests, keys) as client:
                await hinted.turn(first, client)
    return [
        in_time("same process", local, alone),
        in_time("another process", hinted, alone),
        *(
            Row(
                f"deliveries per second of CPU, {batch} in a transaction",
                f"{rate:,.0f}",
                f"{least[batch]:,.0f}  bare writes",
                ratio=rate / least[batch],
            )
            for batch, rate in rates.items()
        ),
    ]


def in_time(where: str, ours: Pace, reference: Pace) -> Row:
    """Latency under the pace, with its three targets."""
    (median, late), bare = quantiles(ours.found), quantiles(reference.found)[1]
    return Row(
        f"commit -> client, {STREAMS} streams, {MATCHING} matching, {RATE} events/s, {where}",
        ours.words,
        f"{reference.words}  bare fan-out ({reference.costs.shares()})",
        ratio=late / bare,
        target=f"p50 ≤ {MEDIAN_MOST:g}, p99 ≤ {LATE_MOST:g} and ≤ {TIMES_MOST:g} x",
        met=median <= MEDIAN_MOST and late <= min(LATE_MOST, TIMES_MOST * bare),
        cost=ours.costs.shares(),
    )


async def new_keys(dev: dict[str, Any]) -> list[str]:
    """Credentials for all streams: a caller may have sixteen."""
    async with aio.insecure_channel(dev["serve"][0]["grpc"]) as channel:
        request = auth.CreateApiKeyRequest(name="fan-out", permissions=[options_pb2.PERMISSION_EVENTS_READ])
        metadata = (("authorization", f"Bearer {dev['tenant_key']}"),)
        stub = AuthServiceStub(channel)
        return [(await stub.CreateApiKey(request, metadata=metadata)).secret for _ in range(STREAMS // 10)]


async def measured(stack: Stack) -> list[Row]:
    """The rows of `make bench`."""
    dev = stack.dev()
    channel_id = dev["channels"][0]["id"]
    environment = {**stack._environment(), "BENCH_TENANT": dev["tenant"], "BENCH_CHANNEL": channel_id}
    return await measure(environment, await new_keys(dev), channel_id, stack.pid("postgres"))


def main() -> None:
    """These rows alone, on a stack of their own."""
    with tempfile.TemporaryDirectory() as folder, Stack(Options(home=Path(folder) / "home", receipts=None)) as stack:
        stack.terminate("work")
        show(uvloop.run(measured(stack)))


if __name__ == "__main__":
    main()
