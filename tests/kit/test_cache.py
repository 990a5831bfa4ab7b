import asyncio
from datetime import timedelta

import pytest

from server.kit.cache import Cache


class Table:
    """Rows that can change, and how often they were read."""

    def __init__(self, **rows: int) -> None:
        self.rows = rows
        self.reads = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def load(self, key: str) -> int | None:
        self.reads += 1
        value = self.rows.get(key)
        await self.slow.wait()
        return value


async def test_a_value_is_loaded_once() -> None:
    table = Table(a=1)
    cache = Cache(table.load)
    assert [await cache.get("a") for _ in range(3)] == [1, 1, 1]
    assert table.reads == 1


async def test_many_who_ask_at_once_share_one_load() -> None:
    table = Table(a=1)
    cache = Cache(table.load)
    assert set(await asyncio.gather(*(cache.get("a") for _ in range(100)))) == {1}
    assert table.reads == 1


async def test_one_who_goes_away_does_not_end_the_load_of_the_others() -> None:
    table = Table(a=1)
    table.slow.clear()
    cache = Cache(table.load)
    leaving, staying = asyncio.ensure_future(cache.get("a")), asyncio.ensure_future(cache.get("a"))
    await asyncio.sleep(0)
    leaving.cancel()
    table.slow.set()
    assert await staying == 1
    assert table.reads == 1


async def test_a_missing_row_is_kept_for_a_shorter_time() -> None:
    table = Table()
    cache = Cache(table.load, keep_missing=timedelta(milliseconds=300))
    assert await cache.get("a") is None
    table.rows["a"] = 1
    assert await cache.get("a") is None
    await asyncio.sleep(0.35)
    assert await cache.get("a") == 1


async def test_an_old_value_is_loaded_again() -> None:
    table = Table(a=1)
    cache = Cache(table.load, keep=timedelta(milliseconds=20))
    await cache.get("a")
    table.rows["a"] = 2
    await asyncio.sleep(0.03)
    assert await cache.get("a") == 2


async def test_what_is_forgotten_during_its_load_is_loaded_again() -> None:
    table = Table(a=1)
    table.slow.clear()
    cache = Cache(table.load)
    early = asyncio.ensure_future(cache.get("a"))
    await asyncio.sleep(0.01)
    table.rows["a"] = 2
    cache.forget_where(lambda key, _: key == "a")
    late = asyncio.ensure_future(cache.get("a"))
    await asyncio.sleep(0.01)
    table.slow.set()
    assert (await early, await late) == (1, 2)
    assert await cache.get("a") == 2


async def test_errors_are_not_kept() -> None:
    attempts = []

    async def load(key: str) -> int | None:
        attempts.append(key)
        if len(attempts) == 1:
            raise ConnectionRefusedError
        return 1

    cache = Cache(load)
    with pytest.raises(ConnectionRefusedError):
        await cache.get("a")
    assert await cache.get("a") == 1


async def test_it_holds_no_more_than_its_size() -> None:
    table = Table(a=1, b=2, c=3)
    cache = Cache(table.load, size=2)
    for key in "abc":
        await cache.get(key)
    await cache.get("a")
    assert table.reads == 4
