"""The one place that wires: a whole stack, started once, that the suites share."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from server.embedded.stack import Options, Stack
from tests.desk import Desk, close_desk, open_desk
from tests.installation import Installed, installed_on, running_postgres


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Postgres, Valkey, Envoy, two serve processes, a worker and the simulator, on ports of the kernel in a home of their own."""
    inner = {"SWITCHBOARD_CALLBACK_NETWORKS": "127.0.0.0/8"}
    with Stack(Options(home=tmp_path_factory.mktemp("stack") / "home", environment=inner)) as running:
        yield running


@pytest.fixture
def dev(stack: Stack) -> dict[str, Any]:
    """dev.json as it is now: a child that was restarted has another pid."""
    return stack.dev()


@pytest.fixture
def customer_writes(dev: dict[str, Any]) -> Any:
    """Lets a simulated customer write: customer_writes(sender, text, **more) returns the wamids."""

    def write(sender: str, text: str, **more: Any) -> list[str]:
        body = json.dumps(
            {"from": sender, "text": text, "phoneNumberId": dev["channels"][0]["phone_number_id"], **more}
        )
        request = urllib.request.Request(
            dev["simulator"]["url"] + "/_control/inbound", data=body.encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        assert found["webhookStatus"] == 200
        wamids: list[str] = found["wamids"]
        return wamids

    return write


# pytest-grpc would start a synchronous server of its own, and its address leaks a socket: the real grpc.aio server answers instead.
@pytest.fixture(scope="session")
def grpc_addr(stack: Stack) -> str:
    """The address of the first serve process."""
    address: str = stack.dev()["serve"][0]["grpc"]
    return address


@pytest.fixture(scope="session")
def _grpc_server(stack: Stack) -> Stack:
    return stack


@pytest.fixture(scope="session")
def grpc_server(stack: Stack) -> Stack:
    """The stack: its server runs already."""
    return stack


@pytest.fixture(scope="session")
def grpc_channel(grpc_addr: str) -> Iterator[grpc.Channel]:
    """A channel to the real server."""
    with grpc.insecure_channel(grpc_addr) as channel:
        yield channel


@pytest.fixture(scope="session")
def desks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Postgres of `desks` lives."""
    return tmp_path_factory.mktemp("desks")


@pytest.fixture(scope="session")
async def desks(desks_folder: Path) -> AsyncIterator[Installed]:
    """An installation without any server, on a Postgres of its own, for the suites that work at its tenants' databases."""
    with running_postgres(desks_folder) as dsn:
        async with installed_on(dsn, "control") as made:
            yield made


@pytest.fixture(scope="module")
async def desk(desks: Installed) -> AsyncIterator[Desk]:
    """A tenant's database, one for the tests of a file."""
    made = await open_desk(desks)
    yield made
    await close_desk(made)


@pytest.fixture
async def own_desk(desks: Installed) -> AsyncIterator[Desk]:
    """A tenant's database of the test's own."""
    made = await open_desk(desks)
    yield made
    await close_desk(made)


@pytest.fixture
def postgres_errors(desks: Installed, desks_folder: Path) -> Callable[[], list[str]]:
    """The errors that the Postgres of `desks` reported since the test began; retries hide them from callers."""
    log = desks_folder / "home" / "logs" / "postgres.log"
    before = log.stat().st_size

    def since() -> list[str]:
        with log.open("rb") as file:
            file.seek(before)
            lines = file.read().decode("utf-8", "replace").splitlines()
        return [line.partition("ERROR:")[2].strip() for line in lines if "ERROR:" in line]

    return since


@pytest.fixture
def checkout() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
