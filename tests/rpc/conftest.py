"""A public server as `serve` makes it, with one service that shows what its calls are like."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from grpc import aio
from rpc_server import Anybody, Contacts
from switchboard.v1.contact_service_pb2_grpc import add_ContactServiceServicer_to_server

from server.audit.trail import Trail
from server.rpc.rates import RateLimits
from server.rpc.server import public_server


@pytest.fixture
async def contacts() -> Contacts:
    return Contacts()


@pytest.fixture
async def address(contacts: Contacts) -> AsyncIterator[str]:
    server = public_server(Anybody(), RateLimits(), Trail())
    add_ContactServiceServicer_to_server(contacts, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def channel(address: str) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(address) as made:
        yield made
