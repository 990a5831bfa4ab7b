"""What a tenant costs while nothing happens: a statement a second where streams are open, none elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import pytest
from faults_stack import Faults
from grpc import aio
from switchboard.v1 import inbox_service_pb2
from switchboard.v1.inbox_service_pb2_grpc import InboxServiceStub

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


async def test_an_idle_tenant_costs_a_statement_a_second_with_streams_and_none_without(faults: Faults) -> None:
    """Twelve streams of four agents and a key, in both processes; nothing happens for half a minute."""
    agents = [agent["token"] for agent in faults.dev["agents"]][:4]
    credentials = [*agents, faults.dev["tenant_key"], faults.dev["tenant_key"]]
    servers = [server["grpc"] for server in faults.dev["serve"]][:2]
    seconds = 30.0
    await retired(faults)
    without = await spent(faults, 10)
    print(f"without streams: {without.total()} statements in 10 s")
    assert all(count <= VACUUMS for count in without.values())
    streams, channels = [], [aio.insecure_channel(server) for server in servers]
    for channel in channels:
        for credential in credentials:
            metadata = (("authorization", f"Bearer {credential}"),)
            stream = InboxServiceStub(channel).WatchInbox(inbox_service_pb2.WatchInboxRequest(), metadata=metadata)
            assert (await stream.read()).HasField("hello")
            streams.append(stream)
    await asyncio.sleep(12)
    found = await spent(faults, seconds)
    for stream in streams:
        stream.cancel()
    for channel in channels:
        await channel.close()
    each = found.total() / seconds / len(servers)
    print(f"{len(streams)} streams: {each:.2f} statements a second in each of {len(servers)} processes")
    assert each <= 1.0
    assert [count for count in found.values() if count > VACUUMS] == [max(found.values())], "tenants without streams"
