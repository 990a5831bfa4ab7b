"""Two tenants for the whole suite, and every way to call."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import grpc
import pytest
from contract_edge import GrpcWeb, Rest
from contract_transports import Cli, Grpc, Sdk, Transport
from contract_world import World

from server.embedded.stack import Stack


@pytest.fixture(scope="session")
def direct(grpc_channel: grpc.Channel) -> Grpc:
    """gRPC straight to a server."""
    return Grpc("grpc", grpc_channel)


@pytest.fixture(scope="session")
def world(direct: Grpc, stack: Stack) -> Iterator[World]:
    """Whatever the suite sends, no server may call it its own fault."""
    logs = sorted(stack.home.logs.glob("serve-*.log"))
    assert logs
    before = {log: log.stat().st_size for log in logs}
    yield World(direct, stack.dev())
    told = [line for log in logs for line in log.read_bytes()[before[log] :].splitlines()]
    assert [line for line in told if b"rpc.failed" in line or b"never retrieved" in line] == []


@pytest.fixture(scope="session")
def rest(stack: Stack) -> Iterator[Rest]:
    """REST through Envoy."""
    with closing(Rest(stack.url)) as made:
        yield made


@pytest.fixture(scope="session")
def h2c(stack: Stack) -> Iterator[Grpc]:
    """gRPC through Envoy, which spreads calls over the servers."""
    with grpc.insecure_channel(stack.url.removeprefix("http://")) as channel:
        yield Grpc("h2c", channel)


@pytest.fixture(scope="session")
def transports(direct: Grpc, h2c: Grpc, rest: Rest, stack: Stack) -> Iterator[list[Transport]]:
    """gRPC first: what the others are compared with."""
    with ExitStack() as open_:
        made = [GrpcWeb(stack.url), Cli(stack.url), Sdk(stack.url)]
        for each in made:
            open_.enter_context(closing(each))
        yield [direct, h2c, rest, *made]


@pytest.fixture(scope="session")
def edges(direct: Grpc, rest: Rest) -> list[Transport]:
    """The two that every refusal is compared on."""
    return [direct, rest]
