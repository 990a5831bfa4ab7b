"""The bare reference: a grpc.aio server with uvloop and nothing in it, as a process of its own, like `switchboard serve`.

Echo: bytes in, other bytes of the size asked for out. Stream: writes responses of a size, as fast as they go or on demand. It
has no interceptors, no messages, no credentials and no database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import uvloop
from grpc import aio

SERVICE = "bench.Reference"


async def echo(request: bytes, _context: Any) -> bytes:
    """The answer has as many bytes as the first four of the request say."""
    return bytes(int.from_bytes(request[:4], "big"))


async def stream(request: bytes, context: Any) -> None:
    """Writes: {"size": bytes of a response, "count": how many}."""
    asked = json.loads(request)
    response = bytes(asked["size"])
    for _ in range(asked["count"]):
        await context.write(response)


class Fan:
    """Streams that wait for what is told."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[bytes]] = []

    async def follow(self, request: bytes, context: Any) -> None:
        """A stream that gets what Tell tells; with b"silent", one that gets nothing."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        if request != b"silent":
            self._queues.append(queue)
        await context.write(b"open")
        while True:
            await context.write(await queue.get())

    async def tell(self, request: bytes, _context: Any) -> bytes:
        """Writes its request to every stream that is not silent."""
        for queue in self._queues:
            queue.put_nowait(request)
        return b""


async def serve() -> None:
    fan = Fan()
    unary, streaming = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods = {
        "Echo": unary(echo),
        "Tell": unary(fan.tell),
        "Stream": streaming(stream),
        "Follow": streaming(fan.follow),
    }
    server = aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


@dataclass(frozen=True)
class Reference:
    """Where it listens, and its process."""

    address: str
    pid: int


@contextlib.contextmanager
def running() -> Iterator[Reference]:
    """Starts it and ends it."""
    command = [sys.executable, "-m", "tests.bench.reference"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Reference(f"127.0.0.1:{process.stdout.readline().strip()}", process.pid)
        finally:
            process.kill()


if __name__ == "__main__":
    uvloop.run(serve())
