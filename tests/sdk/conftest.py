"""One server per test, on a port of the kernel, and a client of it."""

from collections.abc import AsyncIterator

import grpc
import pytest
import switchboard_sdk
from sdk_server import Server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server, grpc_server = Server(), grpc.aio.server()
    server.register(grpc_server)
    server.url = f"http://127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    await grpc_server.start()
    yield server
    await grpc_server.stop(grace=None)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[switchboard_sdk.Client]:
    async with switchboard_sdk.connect(server.url, token="sb_test") as client:
        yield client
