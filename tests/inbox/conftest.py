from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from server.inbox.stream import StreamLimits
from server.inbox.tail import Pace
from tests.inbox.inbox_bench import Process, Tenant, Valkey, make_template, new_database, new_tenant, running_valkey
from tests.installation import running_postgres

FAST = Pace(verify=0.3, poll=0.05, freshness=1.0)
SLOW = Pace(verify=30, poll=30, freshness=1.0)
StartProcess = Callable[..., Awaitable[Process]]


@pytest.fixture(scope="session")
async def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    with running_postgres(tmp_path_factory.mktemp("inbox")) as dsn:
        await make_template(dsn)
        yield dsn


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of the test's own, to be killed."""
    with running_valkey(tmp_path) as valkey:
        yield valkey


@pytest.fixture(scope="session")
async def database_name(server_dsn: str) -> AsyncIterator[str]:
    async with new_database(server_dsn) as name:
        yield name


@pytest.fixture
async def tenant(server_dsn: str, database_name: str) -> AsyncIterator[Tenant]:
    async with new_tenant(server_dsn, database_name) as made:
        yield made


@pytest.fixture
async def other_tenant(server_dsn: str) -> AsyncIterator[Tenant]:
    async with new_database(server_dsn) as name, new_tenant(server_dsn, name) as made:
        yield made


@pytest.fixture
async def start(server_dsn: str) -> AsyncIterator[StartProcess]:
    """`await start(tenant, ..., valkey_url=..., limits=..., pace=...)`: a process that serves these tenants."""
    async with AsyncExitStack() as stack:

        async def start_one(
            *tenants: Tenant,
            valkey_url: str | None = None,
            pace: Pace = FAST,
            limits: StreamLimits | None = None,
            **streams: Any,
        ) -> Process:
            process = Process(valkey_url, pace, limits, **streams)
            for tenant in tenants:
                process.serve(server_dsn, tenant)
            await process.start()
            stack.push_async_callback(process.stop)
            return process

        yield start_one


@pytest.fixture
async def process(start: StartProcess, tenant: Tenant) -> Process:
    """One process without Valkey."""
    return await start(tenant)
