"""Old events go, the floor says so, and nobody is shown less than it says."""

import asyncio
from datetime import timedelta

import pytest

from server.kit.db import Write
from server.log.append import PARTITION_WIDTH, append
from server.log.cursor import CursorExpired, HeadRow
from server.log.read import read_head, read_page
from server.log.retention import BROKEN, keep
from tests.inbox.inbox_bench import Tenant, body

DAY = timedelta(days=1)


async def head_of(tenant: Tenant) -> HeadRow:
    async with tenant.database.connection() as connection:
        return await read_head(connection)


async def age(tenant: Tenant, upto: int, days: float) -> None:
    """Makes events old."""
    await tenant.execute(
        "UPDATE stream_event SET create_time = create_time - $2::interval WHERE seq <= $1", upto, timedelta(days=days)
    )


async def seqs(tenant: Tenant) -> list[int]:
    async with tenant.database.connection() as connection:
        return [row["seq"] for row in await connection.fetch("SELECT seq FROM stream_event ORDER BY seq")]


async def start_at(tenant: Tenant, head: int) -> None:
    """An empty log whose newest event had this number."""
    await tenant.execute(
        "UPDATE stream_head SET head = $1::bigint, floor = $1::bigint + 1, head_event_id = gen_random_uuid()", head
    )


@pytest.mark.parametrize("old", [0, 1, 6, 10])
async def test_what_is_older_than_the_retention_goes_and_the_rest_stays(tenant: Tenant, old: int) -> None:
    for _ in range(5):
        await tenant.say(count=2)
    await age(tenant, old, 7.1)
    kept = await keep(tenant.database, retention=7 * DAY)
    assert (kept.floor, kept.dropped) == (old + 1, old)
    assert await seqs(tenant) == list(range(old + 1, 11))
    head = await head_of(tenant)
    assert (head.head, head.floor) == (10, old + 1)
    again = await keep(tenant.database, retention=7 * DAY)
    assert (again.floor, again.dropped) == (old + 1, 0)
    await tenant.say()
    assert (await seqs(tenant))[-1] == 11


async def test_an_event_at_the_edge_stays_a_little_longer_rather_than_shorter(tenant: Tenant) -> None:
    await tenant.say(count=2)
    await age(tenant, 2, 7)
    assert (await keep(tenant.database, retention=7 * DAY)).dropped == 0


async def test_many_events_go_in_small_steps(tenant: Tenant) -> None:
    await tenant.say(count=3500)
    await age(tenant, 3400, 8)
    assert await keep(tenant.database, retention=7 * DAY)
    assert await seqs(tenant) == list(range(3401, 3501))


async def test_whole_partitions_are_dropped(own_tenant: Tenant) -> None:
    tenant = own_tenant
    await start_at(tenant, PARTITION_WIDTH - 3)
    await tenant.say(count=5)
    await age(tenant, PARTITION_WIDTH, 8)
    kept = await keep(tenant.database, retention=7 * DAY)
    assert kept.floor == PARTITION_WIDTH + 1
    assert await seqs(tenant) == [PARTITION_WIDTH + 1, PARTITION_WIDTH + 2]
    assert await tenant.value("SELECT to_regclass('stream_event_0')") is None
    async with tenant.database.connection() as connection:
        with pytest.raises(CursorExpired):
            await read_page(connection, after=PARTITION_WIDTH - 1)


async def test_a_log_without_a_partition_to_spare_gets_one_while_many_write(own_tenant: Tenant) -> None:
    """The next partition is made by a writer that holds the head, while others hold the table and wait for the head."""
    tenant = own_tenant
    await start_at(tenant, PARTITION_WIDTH - 20)
    await asyncio.gather(*(tenant.say() for _ in range(60)))
    assert len(await seqs(tenant)) == 60
    assert await tenant.value("SELECT to_regclass('stream_event_4')") is not None
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await tenant.value(deadlocks) == 0


async def test_a_consumer_that_is_behind_holds_the_floor_for_thirty_days(tenant: Tenant) -> None:
    await tenant.say(count=10)
    await tenant.execute("INSERT INTO consumers (name, seq, update_time) VALUES ('follower', 4, now())")
    await age(tenant, 10, 29)
    assert (await keep(tenant.database, retention=7 * DAY)).floor == 5
    await age(tenant, 10, 2)
    before = BROKEN.labels("follower")._value.get()
    assert (await keep(tenant.database, retention=7 * DAY)).floor == 11
    assert BROKEN.labels("follower")._value.get() == before + 1
    assert await tenant.value("SELECT broken_time IS NOT NULL FROM consumers WHERE name = 'follower'")
    await tenant.execute("DELETE FROM consumers")


async def test_readers_and_writers_meet_the_rising_floor_without_a_short_page(own_tenant: Tenant) -> None:
    """Whole partitions and single rows go while others read and write: a page is whole, or refused."""
    tenant = own_tenant
    await start_at(tenant, PARTITION_WIDTH - 200)
    await tenant.say(count=400)
    done = asyncio.Event()
    outcomes = {"whole": 0, "expired": 0}

    async def read() -> None:
        after = PARTITION_WIDTH - 200
        while not done.is_set():
            async with tenant.database.connection() as connection:
                try:
                    # Raises LogBroken over a hole.
                    page = await read_page(connection, after=after, limit=50)
                    after, outcomes["whole"] = after + len(page.events) // 2, outcomes["whole"] + 1
                except CursorExpired:
                    outcomes["expired"] += 1
                    after = (await read_head(connection)).floor - 1

    async def write() -> None:
        async def work(write: Write) -> None:
            await append(write, [tenant.event(body())])

        while not done.is_set():
            await tenant.database.write(work)

    tasks = [asyncio.ensure_future(each()) for each in (read, read, write)]
    for old in range(PARTITION_WIDTH - 150, PARTITION_WIDTH + 160, 30):
        await age(tenant, old, 8)
        await keep(tenant.database, retention=7 * DAY)
    done.set()
    await asyncio.gather(*tasks)
    assert outcomes["whole"] > 0
    assert (await head_of(tenant)).floor > PARTITION_WIDTH
