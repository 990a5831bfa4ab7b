"""A provider and the simulator it talks to, both real, over HTTP."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from provider_bench import PHONE_NUMBER_ID, SHORT, TOKEN, Connect, Simulate, Simulated

from server.providers.contract import Provider
from server.providers.meta.graph import GraphLimits
from server.providers.registry import FACTORIES, ProviderSettings
from server.simulator.app import create_app
from server.simulator.config import SimulatorConfig


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """`connect(url, name="whatsapp", limits=...)`: a provider of the registry, closed at the end."""
    async with AsyncExitStack() as stack:

        def create(url: str, *, name: str = "whatsapp", limits: GraphLimits = SHORT) -> Provider:
            provider = FACTORIES[name](
                ProviderSettings(meta_graph_url=url, meta_limits=limits, callback_networks=("127.0.0.0/8",))
            )
            stack.push_async_callback(provider.close)
            return provider

        yield create


@pytest.fixture
async def simulate() -> AsyncIterator[Simulate]:
    """`await simulate(window="sync", ...)`: a running simulator; the fields are those of its account."""
    async with AsyncExitStack() as stack:

        async def start(**fields: object) -> Simulated:
            account = {
                "phone_number_id": PHONE_NUMBER_ID,
                "waba_id": "102290129340398",
                "display_phone_number": "15550783881",
                "access_token": TOKEN,
                "app_secret": "app-secret",
                "webhook_url": "http://127.0.0.1:9/",
                "window": "off",
            }
            config = SimulatorConfig.model_validate({"accounts": [account | fields], "receipts": None})
            server = await stack.enter_async_context(TestServer(create_app(config)))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Simulated(str(server.make_url("")).rstrip("/"), session)

        yield start
