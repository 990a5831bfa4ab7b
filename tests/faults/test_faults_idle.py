"""What a tenant costs while nothing happens: a statement a second where streams are open, none elsewhere."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from faults_stack import Faults
from grpc import aio
from switchboard.v1 import inbox_service_pb2
from switchboard.v1.inbox_service_pb2_grpc import InboxServiceStub

from server.embedded.stack import Options, Stack

pytestmark = pytest.mark.faults
# Transactions of a visit of autovacuum, which looks in of its own accord.
VACUUMS = 4


async def transactions(faults: Faults) -> Counter[str]:
    """By tenant's database: a statement outside of a transaction counts as one. It looks from another database."""
    connection = await asyncpg.connect(faults.stack.server_dsn())
    try:
        rows = await connection.fetch(
            "SELECT datname, xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname LIKE 'sb\\_%'"
        )
        return Counter({row["datname"]: row["n"] for row in rows})
    finally:
        await connection.close()


async def retired(faults: Faults) -> None:
    """What the start wrote is worked off, the daily look at each tenant is done, and no worker holds any."""
    connection = await asyncpg.connect(faults.dev["postgres"]["control"])
    busy = "SELECT count(*) FROM tenant_work WHERE active_until IS NOT NULL OR lessee IS NOT NULL OR house_time IS NULL"
    async with asyncio.timeout(120):
        while await connection.fetchval(busy) > 0:
            await asyncio.sleep(1)
    await connection.close()
    # Postgres counts an idle connection's last statements up to 10 s later.
    await asyncio.sleep(12)


async def spent(faults: Faults, seconds: float) -> Counter[str]:
    """Of each tenant in this time."""
    before = await transactions(faults)
    await asyncio.sleep(seconds)
    return await transactions(faults) - before


async def opened(server: str, credential: str) -> tuple[aio.Channel, Any]:
    """A stream of one process, after its hello."""
    channel = aio.insecure_channel(server)
    metadata = (("authorization", f"Bearer {credential}"),)
    stream = InboxServiceStub(channel).WatchInbox(inbox_service_pb2.WatchInboxRequest(), metadata=metadata)
    assert (await stream.read()).HasField("hello")
    return channel, stream


@pytest.fixture(params=[2, 4])
def faults(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Faults]:
    """With so many serve processes."""
    with Stack(Options(home=tmp_path / "home", receipts=None, processes=request.param)) as stack:
        yield Faults(stack)


@pytest.mark.timeout(400)
async def test_an_idle_tenant_costs_a_statement_a_second_with_streams_and_none_without(faults: Faults) -> None:
    """Six streams of four agents and a key in each process, opened at different times; then nothing happens."""
    agents = [agent["token"] for agent in faults.dev["agents"]][:4]
    credentials = [*agents, faults.dev["tenant_key"], faults.dev["tenant_key"]]
    servers = [server["grpc"] for server in faults.dev["serve"]]
    seconds = 60.0
    await retired(faults)
    without = await spent(faults, 10)
    assert all(count <= VACUUMS for count in without.values()), without
    streams = []
    for credential, server in itertools.product(credentials, servers):
        streams.append(await opened(server, credential))
        await asyncio.sleep(12 / len(servers) / len(credentials))
    await asyncio.sleep(12)
    found = await spent(faults, seconds)
    for channel, stream in streams:
        stream.cancel()
        await channel.close()
    rate = max(found.values()) / seconds
    print(f"{len(streams)} streams in {len(servers)} processes: {rate:.2f} statements a second")
    assert [count for count in found.values() if count > VACUUMS] == [max(found.values())], "tenants without streams"
    # The tail is kept for a minute after its last stream, and costs nothing.
    await asyncio.sleep(12)
    after = await spent(faults, 20)
    print(f"without streams: {without.total()} statements in 10 s before, {after.total()} in 20 s after")
    assert rate <= 1.0
    assert all(count <= VACUUMS for count in after.values()), after
