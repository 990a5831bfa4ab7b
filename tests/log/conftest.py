from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.inbox.inbox_bench import Tenant, Valkey, make_template, new_database, new_tenant, running_valkey
from tests.installation import running_postgres


@pytest.fixture(scope="session")
async def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    with running_postgres(tmp_path_factory.mktemp("log")) as dsn:
        await make_template(dsn)
        yield dsn


@pytest.fixture(scope="session")
async def database_name(server_dsn: str) -> AsyncIterator[str]:
    async with new_database(server_dsn) as name:
        yield name


@pytest.fixture
async def tenant(server_dsn: str, database_name: str) -> AsyncIterator[Tenant]:
    async with new_tenant(server_dsn, database_name) as made:
        yield made


@pytest.fixture
async def own_tenant(server_dsn: str) -> AsyncIterator[Tenant]:
    """In a database of its own, whose partitions may be changed."""
    async with new_database(server_dsn) as name, new_tenant(server_dsn, name) as made:
        yield made


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path) as valkey:
        yield valkey
