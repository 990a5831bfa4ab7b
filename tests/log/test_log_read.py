"""Pages of the log."""

import asyncio
import random

import pytest

from server.log.cursor import CursorExpired
from server.log.read import LogBroken, Page, read_head, read_page, read_place
from tests.inbox.inbox_bench import Tenant


async def page(tenant: Tenant, after: int, **limits: int) -> Page:
    async with tenant.database.connection() as connection:
        return await read_page(connection, after=after, **limits)


async def test_an_empty_log_has_a_head_of_nothing(tenant: Tenant) -> None:
    async with tenant.database.connection() as connection:
        head = await read_head(connection)
    assert (head.head, head.floor, head.head_event_id) == (0, 1, None)
    assert (await page(tenant, 0)).events == []
    assert (await page(tenant, 0)).reaches_head(0)


async def test_pages_follow_each_other_without_a_gap(tenant: Tenant) -> None:
    for count in (1, 4, 2):
        await tenant.say(count=count)
    first = await page(tenant, 0, limit=3)
    second = await page(tenant, 3, limit=10)
    assert [event.seq for event in first.events + second.events] == list(range(1, 8))
    assert [event.tx_last for event in first.events + second.events] == [1, 5, 5, 5, 5, 7, 7]
    assert not first.reaches_head(0)
    assert second.reaches_head(3)
    assert second.head.head_event_id == second.events[-1].id


async def test_a_page_is_bounded_in_bytes_but_never_empty(tenant: Tenant) -> None:
    await tenant.say("x" * 5000, count=5)
    assert len((await page(tenant, 0, max_bytes=1)).events) == 1
    assert len((await page(tenant, 0, max_bytes=12_000)).events) == 3


async def test_a_page_below_the_floor_is_refused_whatever_rows_are_left(tenant: Tenant) -> None:
    await tenant.say(count=10)
    await tenant.execute("UPDATE stream_head SET floor = 6")
    assert [event.seq for event in (await page(tenant, 5)).events] == [6, 7, 8, 9, 10]
    with pytest.raises(CursorExpired):
        await page(tenant, 4)


@pytest.mark.parametrize("missing", [1, 5, 10])
async def test_a_hole_is_never_skipped(tenant: Tenant, missing: int) -> None:
    await tenant.say(count=10)
    await tenant.execute("DELETE FROM stream_event WHERE seq = $1", missing)
    seen: list[int] = []

    async def walk() -> None:
        while len(seen) < 10:
            seen.extend(event.seq for event in (await page(tenant, len(seen), limit=5)).events)

    with pytest.raises(LogBroken):
        await walk()
    assert len(seen) < missing


async def test_a_place_has_the_id_of_its_event(tenant: Tenant) -> None:
    await tenant.say(count=2)
    async with tenant.database.connection() as connection:
        head, newest = await read_place(connection, 2)
        _, nothing = await read_place(connection, 3)
    assert newest == head.head_event_id
    assert nothing is None


async def test_readers_see_what_writers_commit_in_order_and_without_holes(tenant: Tenant) -> None:
    async def write(number: int) -> None:
        for _ in range(10):
            await tenant.say(f"w{number}", count=random.choice((1, 1, 3)))

    async def read() -> list[int]:
        seen: list[int] = []
        while writers and not all(task.done() for task in writers):
            seen += [event.seq for event in (await page(tenant, len(seen), limit=7)).events]
        return seen

    writers = [asyncio.ensure_future(write(number)) for number in range(6)]
    seen = await read()
    await asyncio.gather(*writers)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > 10
