from collections.abc import Iterator

import pytest

from tests.installation import running_postgres


@pytest.fixture(scope="session")
def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("kit")) as dsn:
        yield dsn
