"""A simulator and a webhook receiver, both real servers on ports of the kernel."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from simulator_bench import Meta, Receiver, Start, account

from server.simulator.app import create_app
from server.simulator.config import SimulatorConfig


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(account=..., receipts=..., webhooks=...)`: a simulator with one account, and its receiver."""
    async with AsyncExitStack() as stack:

        async def start_one(*, account_fields: Mapping[str, object] | None = None, **config: object) -> Meta:
            receiver = Receiver()
            app = web.Application(client_max_size=8 * 1024 * 1024)
            app.router.add_post("/webhooks", receiver.handle)
            listener = await stack.enter_async_context(TestServer(app))
            receiver.url = str(listener.make_url("/webhooks"))
            first = account(receiver.url, **(account_fields or {}))
            settings = SimulatorConfig.model_validate({"accounts": [first], "receipts": None, **config})
            server = await stack.enter_async_context(TestServer(create_app(settings)))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Meta(str(server.make_url("")).rstrip("/"), session, receiver, server.close)

        yield start_one


@pytest.fixture
async def meta(start: Start) -> Meta:
    """A simulator as Meta is, without receipts."""
    return await start()
