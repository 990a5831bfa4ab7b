"""One server per test, on a port of the kernel, and a command line that knows where it is."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cli_server import Cli, Seen, register


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def cli(seen: Seen, tmp_path: Path) -> AsyncIterator[Cli]:
    server = grpc.aio.server()
    register(seen, server)
    url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    environment = {"SWITCHBOARD_URL": url, "SWITCHBOARD_TOKEN": "sb_test", "SWITCHBOARD_HOME": str(tmp_path)}
    # Local times in the output are those of one zone wherever the tests run.
    yield Cli(url, {**environment, "TZ": "UTC", "COLUMNS": "200"})
    await server.stop(grace=None)
