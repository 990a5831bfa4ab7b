from collections.abc import AsyncIterator, Iterator

import pytest

from tests.installation import Installed, installed_on, running_postgres


@pytest.fixture(scope="session")
def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("auth")) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def installed(server_dsn: str) -> AsyncIterator[Installed]:
    async with installed_on(server_dsn, "control") as made:
        yield made
