import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from server.kit.db import ACQUIRE_SECONDS, Database, Write
from server.kit.errors import DatabaseUnavailable
from tests.installation import connection_to


@pytest.fixture
async def database(server_dsn: str) -> AsyncIterator[Database]:
    made = Database(server_dsn, pool_size=3)
    yield made
    await made.close()


@pytest.fixture(scope="module", autouse=True)
async def counters(server_dsn: str) -> None:
    async with connection_to(server_dsn) as connection:
        await connection.execute("CREATE TABLE counters (id int PRIMARY KEY, value int NOT NULL)")
        await connection.execute("INSERT INTO counters SELECT id, 0 FROM generate_series(1, 100) id")


async def value(database: Database, counter: int) -> int:
    async with database.connection() as connection:
        found: int = await connection.fetchval("SELECT value FROM counters WHERE id = $1", counter)
    return found


def add(counter: int, *, then: Any = None) -> Any:
    async def work(write: Write) -> str:
        await write.connection.execute("UPDATE counters SET value = value + 1 WHERE id = $1", counter)
        if then is not None:
            await then()
        return "done"

    return work


async def kill_others(server_dsn: str) -> None:
    async with connection_to(server_dsn) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    await asyncio.sleep(0.05)


async def test_a_write_commits_and_says_so(server_dsn: str) -> None:
    told: list[Write] = []
    database = Database(server_dsn, pool_size=1, after_commit=told.append)
    assert await database.write(add(1)) == "done"
    assert (await value(database, 1), len(told)) == (1, 1)
    await database.close()


async def test_a_write_that_raises_leaves_nothing_and_is_not_told(server_dsn: str) -> None:
    told: list[Write] = []
    database = Database(server_dsn, pool_size=1, after_commit=told.append)

    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(add(2, then=fail))
    assert (await value(database, 2), told) == (0, [])
    await database.close()


async def test_a_write_is_not_begun_when_it_may_not(server_dsn: str) -> None:
    async def refuse() -> None:
        raise DatabaseUnavailable()

    database = Database(server_dsn, pool_size=1, before_write=refuse)
    with pytest.raises(DatabaseUnavailable):
        await database.write(add(3))
    assert await value(database, 3) == 0
    await database.close()


async def test_a_caller_that_goes_away_does_not_end_its_write(database: Database) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await go_on.wait()

    caller = asyncio.ensure_future(database.write(add(4, then=wait)))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await database.close()
    assert await value(database, 4) == 1


async def test_writes_that_deadlock_are_run_again(database: Database) -> None:
    async def both(first: int, second: int) -> None:
        async def work(write: Write) -> None:
            for counter in (first, second):
                await write.connection.execute("UPDATE counters SET value = value + 1 WHERE id = $1", counter)
                await asyncio.sleep(0.05)

        await database.write(work)

    await asyncio.gather(both(5, 6), both(6, 5))
    assert (await value(database, 5), await value(database, 6)) == (2, 2)


async def test_connections_that_the_server_closed_are_replaced_unseen(database: Database, server_dsn: str) -> None:
    await asyncio.gather(*(database.write(add(counter)) for counter in (7, 8, 9)))
    await kill_others(server_dsn)
    assert await asyncio.gather(*(database.write(add(counter)) for counter in (7, 8, 9))) == ["done"] * 3
    assert [await value(database, counter) for counter in (7, 8, 9)] == [2, 2, 2]


async def test_a_connection_lost_in_a_write_is_unavailable_and_the_next_one_works(
    database: Database, server_dsn: str
) -> None:
    async def lose() -> None:
        await kill_others(server_dsn)

    with pytest.raises(DatabaseUnavailable):
        await database.write(add(10, then=lose))
    assert await value(database, 10) == 0
    assert await database.write(add(10)) == "done"


async def test_a_connection_that_failed_while_idle_is_unavailable_and_replaced(database: Database) -> None:
    # Between the server's last word and the end of the socket asyncpg calls it an internal error.
    with pytest.raises(DatabaseUnavailable):
        async with database.connection() as failed:
            raise asyncpg.InternalClientError('cannot switch to state 12; protocol is in the "failed" state')
    async with database.connection() as connection:
        assert connection is not failed


async def test_a_full_disk_is_unavailable_and_no_fault_of_what_is_written(database: Database) -> None:
    async def full(write: Write) -> None:
        await write.connection.execute("DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$")

    with pytest.raises(DatabaseUnavailable):
        await database.write(full)


async def test_a_connection_lost_under_the_orm_is_unavailable(database: Database, server_dsn: str) -> None:
    from sqlalchemy import text

    async def work(write: Write) -> None:
        await kill_others(server_dsn)
        await write.session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await database.write(work)


async def test_without_a_free_connection_for_two_seconds_it_is_unavailable(database: Database) -> None:
    async def hold() -> None:
        async with database.connection() as connection:
            await connection.execute("SELECT pg_sleep(3)")

    holders = [asyncio.ensure_future(hold()) for _ in range(3)]
    await asyncio.sleep(0.2)
    assert database.busy
    with pytest.raises(DatabaseUnavailable) as refused:
        await value(database, 11)
    assert refused.value.retry_after is not None
    await asyncio.gather(*holders)
    assert not database.busy


async def test_work_in_the_background_leaves_half_of_the_connections(server_dsn: str) -> None:
    database = Database(server_dsn, pool_size=4)
    free = asyncio.Event()

    async def flood() -> str:
        try:
            return await database.background.write(add(7, then=free.wait))
        except DatabaseUnavailable:
            return "unavailable"

    waiting = [asyncio.ensure_future(flood()) for _ in range(5)]
    await value(database, 1)
    assert await database.write(add(8)) == "done"
    done, _ = await asyncio.wait(waiting, timeout=ACQUIRE_SECONDS + 2, return_when=asyncio.FIRST_COMPLETED)
    assert all(task.result() == "unavailable" for task in done)
    free.set()
    assert sorted(await asyncio.gather(*waiting)) == ["done"] * 2 + ["unavailable"] * 3
    assert await database.background.write(add(7)) == "done"
    await database.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql://nobody:x@127.0.0.1:1/none", pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        await value(database, 1)
    with pytest.raises(DatabaseUnavailable):
        await database.write(add(1))
    await database.close()


async def test_a_snapshot_agrees_with_itself_and_cannot_write(database: Database) -> None:
    async with database.snapshot() as connection:
        before = await connection.fetchval("SELECT value FROM counters WHERE id = 12")
        await database.write(add(12))
        assert await connection.fetchval("SELECT value FROM counters WHERE id = 12") == before
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("UPDATE counters SET value = 0")
    assert await value(database, 12) == before + 1


async def test_orm_and_sql_share_the_transaction(database: Database) -> None:
    from sqlalchemy import text

    async def work(write: Write) -> int:
        await write.connection.execute("UPDATE counters SET value = 41 WHERE id = 13")
        await write.session.execute(text("UPDATE counters SET value = value + 1 WHERE id = 13"))
        found: int = await write.connection.fetchval("SELECT value FROM counters WHERE id = 13")
        return found

    assert await database.write(work) == 42
    assert await value(database, 13) == 42
