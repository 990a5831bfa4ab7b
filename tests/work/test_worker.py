"""Workers in this process, on real tenants: what one sort of work does to another, and how workers share."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from server import housekeeping, runner
from server.composition import Parts, background, compose
from server.kit.clock import utc_now
from server.kit.db import Connection
from server.runner import Backlog, rest
from server.worker import Worker
from tests.desk import Desk, close_desk, open_desk
from tests.installation import Installed


@contextlib.asynccontextmanager
async def working(installed: Installed) -> AsyncIterator[tuple[Worker, Parts]]:
    """A worker as a process runs it, without Valkey; it ends as on SIGTERM."""
    nowhere = {"valkey_url": SecretStr("redis://127.0.0.1:1/0")}
    async with compose(installed.settings.model_copy(update=nowhere), follow_all=True) as (parts, commits):
        worker = Worker(parts, installed.settings)
        commits.local = lambda tenant_id, _: worker.wake(tenant_id)
        async with background(parts.directory.run(), worker.run()):
            yield worker, parts
        await worker.stop()


@pytest.fixture
async def alone(desks: Installed) -> Installed:
    """Nobody else is announced."""
    await desks.execute(
        "UPDATE tenant_work SET active_until = NULL, next_due_time = NULL, lessee = NULL, lease_until = NULL"
    )
    return desks


async def test_a_sort_of_work_that_fails_leaves_the_others_alone(alone: Installed, own_desk: Desk) -> None:
    row = await own_desk.started(await own_desk.new_channel())
    owner = f"{alone.server_dsn.rpartition('/')[0]}/{own_desk.dsn.rpartition('/')[2]}"
    await in_database(owner, "ALTER TABLE counted_conversations RENAME TO elsewhere")
    async with working(alone):
        for _ in range(3):
            await own_desk.move(row.id, "snoozed", snooze_until=utc_now() + timedelta(milliseconds=300))
            while (await own_desk.conversation(row.id)).status != "open":
                await asyncio.sleep(0.02)
        await in_database(owner, "ALTER TABLE elsewhere RENAME TO counted_conversations")
        while await own_desk.value("SELECT head > coalesce((SELECT min(seq) FROM consumers), 0) FROM stream_head"):
            await asyncio.sleep(0.05)


async def test_what_the_directory_missed_is_found_by_the_daily_look_and_counted(
    alone: Installed, own_desk: Desk
) -> None:
    row = await own_desk.started(await own_desk.new_channel())
    await own_desk.move(row.id, "snoozed", snooze_until=utc_now() + timedelta(milliseconds=500))
    # As if it had been written without being announced, a day ago.
    await alone.execute("UPDATE tenant_work SET active_until = NULL, next_due_time = NULL")
    missed = housekeeping.MISSED._value.get()
    async with working(alone) as (_, parts):
        await asyncio.sleep(1.5)
        assert (await own_desk.conversation(row.id)).status == "snoozed"
        await alone.execute(
            "UPDATE tenant_work SET house_time = now() - interval '25 h' WHERE tenant_id = $1", own_desk.tenant.id
        )
        async with background(housekeeping.run(parts)):
            while (await own_desk.conversation(row.id)).status != "open":
                await asyncio.sleep(0.02)
    assert housekeeping.MISSED._value.get() == missed + 1


async def test_an_idle_tenant_is_retired_although_its_looks_take_their_time(
    alone: Installed, own_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lane then has its second at another moment, and no look at one of them is a look at all."""
    behind = runner.statistics.behind

    async def slow(connection: Connection) -> bool:
        await asyncio.sleep(0.1)
        return await behind(connection)

    monkeypatch.setattr(runner.statistics, "behind", slow)
    await own_desk.started(await own_desk.new_channel())
    async with working(alone), asyncio.timeout(20), alone.control.database.connection() as control:
        await asyncio.sleep(1.5)
        await control.execute("UPDATE tenant_work SET active_until = now() WHERE tenant_id = $1", own_desk.tenant.id)
        kept = "SELECT active_until IS NOT NULL FROM tenant_work WHERE tenant_id = $1"
        while await control.fetchval(kept, own_desk.tenant.id):
            await asyncio.sleep(0.1)


async def in_database(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_worker_that_comes_later_gets_its_part_and_one_that_ends_leaves_all_to_the_other(
    alone: Installed,
) -> None:
    opened = [await open_desk(alone) for _ in range(6)]
    ids = {desk.tenant.id for desk in opened}

    async def held(worker: Worker) -> set[uuid.UUID]:
        async with alone.control.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT tenant_id FROM tenant_work WHERE lessee = $1 AND lease_until > now()", worker.name
            )
        return {row["tenant_id"] for row in rows}

    async def until_held(worker: Worker, enough: int) -> None:
        while len(await held(worker) & ids) < enough:
            for tenant_id in ids:
                await alone.directory.announce(tenant_id)
            await asyncio.sleep(0.05)

    async with working(alone) as (second, _):
        async with working(alone) as (first, _):
            await until_held(first, 2)
            await until_held(second, 2)
            assert not await held(first) & await held(second)
        assert await held(first) == set(), "it gave everything back at its end"
        await until_held(second, 6)
    assert await held(second) == set()
    for desk in opened:
        await close_desk(desk)


def test_what_fails_rests_longer_each_time_up_to_half_a_minute() -> None:
    assert [rest(failures) for failures in range(8)] == [1, 1, 2, 4, 8, 16, 30, 30]
    assert rest(100_000) == 30, "after days"


def test_all_tenants_that_are_behind_share_the_time_that_is_worked() -> None:
    backlog, one, other = Backlog(share=0.25), uuid.uuid4(), uuid.uuid4()
    assert backlog.rest(one, took=1) == 3
    assert backlog.rest(other, took=1) == 7
    backlog.done(one)
    assert backlog.rest(other, took=1) == 3
