"""What frees a write of grpc.aio that flow control holds up: docs/decisions/0014-a-stalled-write.md. Prints a table.

A client opens a stream and reads nothing; the handler writes until a write does not return. Then one thing is done, and it is
noted after how long the write returned, with what, and what the client saw when it read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc import aio
from rich.console import Console
from rich.table import Table

from server.embedded import binaries
from server.rpc.server import OPTIONS

METHOD, PIECE, PATIENCE, IDLE = "bench.Stalled", b"x" * 16_384, 6.0, 2.0


@dataclass
class Handler:
    """One call at the server."""

    context: Any = None
    task: asyncio.Task[Any] | None = None
    writing: asyncio.Task[Any] | None = None
    written: int = 0
    freed: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def watch(self, _request: bytes, context: Any) -> None:
        """Writes for ever."""
        self.context, self.task = context, asyncio.current_task()
        try:
            while True:
                self.writing = asyncio.ensure_future(context.write(PIECE))
                await self.writing
                self.written += 1
        except BaseException as error:
            if not self.freed.done():
                self.freed.set_result(type(error).__name__)
            raise

    async def stalled(self) -> None:
        """Returns once a write has not returned for a while."""
        before = -1
        while before != self.written or self.context is None:
            before = self.written
            await asyncio.sleep(0.5)


@dataclass
class Scene:
    """A handler whose write is stalled, the call of the client, and the client's channel."""

    handler: Handler
    call: Any
    channel: aio.Channel


Act = Callable[[Scene], Awaitable[Any]]


async def abort(scene: Scene) -> None:
    """From a task that is not the handler's."""
    await scene.handler.context.abort(grpc.StatusCode.UNAVAILABLE, "stalled")


async def cancel_handler(scene: Scene) -> None:
    """The whole handler."""
    assert scene.handler.task is not None
    scene.handler.task.cancel()


async def cancel_write(scene: Scene) -> None:
    """The write alone, as wait_for would."""
    assert scene.handler.writing is not None
    scene.handler.writing.cancel()


async def cancel_call(scene: Scene) -> None:
    """The client gives up."""
    scene.call.cancel()


async def close_channel(scene: Scene) -> None:
    """The client is gone."""
    await scene.channel.close()


async def nothing(_scene: Scene) -> None:
    """Only time passes."""


async def acted(act: Act, scene: Scene) -> str:
    """What the act itself ended with."""
    try:
        await asyncio.wait_for(act(scene), PATIENCE)
    except TimeoutError:
        return f"did not return in {PATIENCE:.0f} s"
    except BaseException as error:
        return type(error).__name__
    return "returned"


async def client_saw(scene: Scene) -> str:
    """The status, once it reads again."""
    try:
        async with asyncio.timeout(PATIENCE):
            read = 0
            while await scene.call.read() is not aio.EOF:
                read += 1
                if read > 2000:
                    return "the stream goes on"
            return str((await scene.call.code()).name)
    except TimeoutError:
        return "no status: it hangs"
    except (aio.AioRpcError, asyncio.CancelledError, aio.UsageError) as error:
        return error.code().name if isinstance(error, aio.AioRpcError) else type(error).__name__


@contextlib.asynccontextmanager
async def scene(front: Callable[[int], Any] | None) -> AsyncIterator[Scene]:
    """A server with one stalled call; front: what stands between, given the server's port."""
    handler = Handler()
    server = aio.server(options=OPTIONS)
    method = grpc.unary_stream_rpc_method_handler(handler.watch)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHOD, {"Watch": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with contextlib.AsyncExitStack() as stack:
        target = port if front is None else await stack.enter_async_context(front(port))
        options = (("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1))
        channel = aio.insecure_channel(f"127.0.0.1:{target}", options=options)
        call = channel.unary_stream(f"/{METHOD}/Watch")(b"")
        await handler.stalled()
        yield Scene(handler, call, channel)
        call.cancel()
        await channel.close()
        await server.stop(0)


@contextlib.asynccontextmanager
async def envoy(port: int) -> AsyncIterator[int]:
    """An Envoy with the windows of envoy.yaml and short timeouts; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "envoy.json"
        path.write_text(json.dumps(configuration(own, port)))
        process = await asyncio.create_subprocess_exec(
            str(binaries.envoy()), "-c", str(path), "--log-level", "error", "--disable-hot-restart"
        )
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", own), timeout=0.1):
                break
            await asyncio.sleep(0.05)
        try:
            yield own
        finally:
            process.terminate()
            await process.wait()


def configuration(own: int, port: int) -> dict[str, Any]:
    """One listener, one route with an idle timeout, one cluster."""
    windows = {"initial_stream_window_size": 65536, "initial_connection_window_size": 1048576}
    api = "type.googleapis.com/envoy.extensions"
    router = {"name": "router", "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s", "idle_timeout": f"{IDLE:.0f}s"}}
    manager = {
        "@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "stream_flush_timeout": f"{IDLE:.0f}s",
        "http2_protocol_options": windows,
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    protocol = {
        "@type": f"{api}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": windows},
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": address(own),
                    "per_connection_buffer_limit_bytes": 32768,
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "server",
                    "per_connection_buffer_limit_bytes": 32768,
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
                    },
                    "load_assignment": {
                        "cluster_name": "server",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
                    },
                }
            ],
        }
    }


def address(port: int) -> dict[str, Any]:
    """On loopback."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


CASES: tuple[tuple[str, Act, Any], ...] = (
    ("nothing", nothing, None),
    ("context.abort() from another task", abort, None),
    ("the handler's task is cancelled", cancel_handler, None),
    ("the write alone is cancelled", cancel_write, None),
    ("the client cancels", cancel_call, None),
    ("the client's connection closes", close_channel, None),
    (f"nothing, Envoy between, idle timeout {IDLE:.0f} s", nothing, envoy),
    ("context.abort() from another task, Envoy between", abort, envoy),
)


async def rows() -> list[tuple[str, ...]]:
    """One row for each case: what was done, what it ended with, when the write returned and how, and what the client saw."""
    found = []
    for name, act, front in CASES:
        async with scene(front) as stalled:
            began = time.monotonic()
            ended = await acted(act, stalled)
            freed = "held for good"
            with contextlib.suppress(TimeoutError):
                raised = await asyncio.wait_for(asyncio.shield(stalled.handler.freed), PATIENCE)
                freed = f"{time.monotonic() - began:.2f} s, {raised}"
            held = f"{stalled.handler.written * len(PIECE) // 1024} KiB"
            found.append((name, held, ended, freed, await client_saw(stalled)))
    return found


def main() -> None:
    """Prints the table."""
    table = Table("done while a write is stalled", "written before", "the act", "the write", "the client reads again")
    for row in uvloop.run(rows()):
        table.add_row(*row)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
