from collections.abc import AsyncIterator, Iterator

import pytest

from server.tenancy.tenants import Tenant
from tests.auth.signed_in import Process
from tests.installation import Installed, installed_on, running_postgres


@pytest.fixture(scope="session")
def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("auth")) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def installed(server_dsn: str) -> AsyncIterator[Installed]:
    async with installed_on(server_dsn, "control") as made:
        yield made


@pytest.fixture
async def process(installed: Installed) -> AsyncIterator[Process]:
    made = Process(installed)
    yield made
    await made.tenants.close()


@pytest.fixture(scope="session")
async def acme(installed: Installed) -> AsyncIterator[Tenant]:
    """A tenant for tests that change nothing about the tenant itself."""
    made = Process(installed)
    yield await made.new_tenant()
    await made.tenants.close()
