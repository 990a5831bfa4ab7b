import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from server.kit.db import Database
from server.kit.errors import DatabaseUnavailable
from server.tenancy.work import Kept, Lease, WorkDirectory
from tests.installation import Installed

SOON = timedelta(seconds=1)


@pytest.fixture(scope="module")
async def made(installed: Installed) -> uuid.UUID:
    row = await installed.tenants.by_name(await installed.new_tenant())
    assert row is not None
    return row.id


@pytest.fixture
async def tenant_id(installed: Installed, made: uuid.UUID) -> uuid.UUID:
    """A tenant that is the only one in the directory, and idle."""
    await installed.execute("DELETE FROM tenant_work")
    await installed.execute("INSERT INTO tenant_work (tenant_id) VALUES ($1)", made)
    return made


@pytest.fixture
def directory(installed: Installed) -> WorkDirectory:
    """A process of its own: it has announced nothing yet."""
    return WorkDirectory(installed.control.database)


async def active_for(installed: Installed, tenant_id: uuid.UUID) -> timedelta:
    async with installed.control.database.connection() as connection:
        left: timedelta = await connection.fetchval(
            "SELECT active_until - now() FROM tenant_work WHERE tenant_id = $1", tenant_id
        )
    return left


async def expire(installed: Installed, tenant_id: uuid.UUID) -> None:
    await installed.execute(
        "UPDATE tenant_work SET active_until = now() - interval '1 s' WHERE tenant_id = $1", tenant_id
    )


async def leased(directory: WorkDirectory, worker: str = "worker") -> Lease:
    (lease,) = await directory.find(worker, limit=10)
    return lease


async def test_an_idle_tenant_is_nobodys(directory: WorkDirectory, tenant_id: uuid.UUID) -> None:
    assert await directory.find("worker", limit=10) == []


async def test_an_announced_tenant_is_found(directory: WorkDirectory, tenant_id: uuid.UUID) -> None:
    await directory.announce(tenant_id)
    lease = await leased(directory)
    assert lease.tenant_id == tenant_id
    assert lease.active


async def test_an_announcement_lies_five_seconds_ahead(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    await asyncio.gather(*(directory.announce(tenant_id) for _ in range(20)))
    assert await active_for(installed, tenant_id) > timedelta(seconds=5)


async def test_a_renewal_moves_the_time_of_announced_tenants(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    await directory.announce(tenant_id)
    await installed.execute(
        "UPDATE tenant_work SET active_until = now() + interval '6 s' WHERE tenant_id = $1", tenant_id
    )
    await directory.renew_announced()
    assert await active_for(installed, tenant_id) > timedelta(seconds=10)


async def test_nothing_is_announced_without_the_control_database(tenant_id: uuid.UUID) -> None:
    nowhere = Database("postgresql://nobody:x@127.0.0.1:1/nothing", pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        await WorkDirectory(nowhere).announce(tenant_id)
    await nowhere.close()


async def test_of_many_workers_one_gets_the_tenant(directory: WorkDirectory, tenant_id: uuid.UUID) -> None:
    await directory.announce(tenant_id)
    found = await asyncio.gather(*(directory.find(f"worker {number}", limit=10) for number in range(8)))
    assert len([lease for leases in found for lease in leases]) == 1


async def test_a_lease_is_renewed_by_its_worker_alone(directory: WorkDirectory, tenant_id: uuid.UUID) -> None:
    await directory.announce(tenant_id)
    await leased(directory)
    assert set(await directory.renew("worker", [tenant_id])) == {tenant_id}
    assert await directory.renew("another", [tenant_id]) == {}


async def test_a_dead_workers_tenant_is_found_again(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    await directory.announce(tenant_id)
    await leased(directory, "dead")
    await installed.execute("UPDATE tenant_work SET lease_until = now() WHERE tenant_id = $1", tenant_id)
    assert (await leased(directory, "alive")).tenant_id == tenant_id
    assert await directory.renew("dead", [tenant_id]) == {}


async def test_a_stopping_worker_gives_everything_back(directory: WorkDirectory, tenant_id: uuid.UUID) -> None:
    await directory.announce(tenant_id)
    await leased(directory, "stopping")
    await directory.leave("stopping")
    assert (await leased(directory, "next")).tenant_id == tenant_id


async def test_one_tenant_is_given_back_at_a_time(directory: WorkDirectory, tenant_id: uuid.UUID) -> None:
    await directory.announce(tenant_id)
    await leased(directory, "holding")
    await directory.release("holding", [uuid.uuid4()])
    assert await directory.find("next", limit=10) == []
    await directory.release("holding", [tenant_id])
    assert (await leased(directory, "next")).tenant_id == tenant_id


async def test_a_retired_tenant_is_found_when_its_work_is_due(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    await directory.announce(tenant_id)
    await expire(installed, tenant_id)
    await installed.execute("UPDATE tenant_work SET next_due_time = now() WHERE tenant_id = $1", tenant_id)
    lease = await leased(directory)
    assert not lease.active
    assert await directory.retire(lease, datetime.now(UTC) + timedelta(hours=1))
    assert await directory.find("worker", limit=10) == []
    # Due times count two seconds early, so that a worker is there in time.
    await installed.execute(
        "UPDATE tenant_work SET next_due_time = now() + interval '1.9 s' WHERE tenant_id = $1", tenant_id
    )
    assert (await leased(directory)).tenant_id == tenant_id


async def test_a_tenant_that_was_announced_meanwhile_is_not_retired(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    await directory.announce(tenant_id)
    lease = await leased(directory)
    await expire(installed, tenant_id)
    lease = (await directory.renew("worker", [tenant_id]))[tenant_id]
    assert not lease.active
    await WorkDirectory(installed.control.database).announce(tenant_id)
    assert not await directory.retire(lease, None)
    # Nor when that announcement has run out by now: what it announced was committed after the last look.
    await expire(installed, tenant_id)
    assert not await directory.retire(lease, None)


async def test_a_lost_lease_retires_nothing(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    await directory.announce(tenant_id)
    lease = await leased(directory, "slow")
    await installed.execute("UPDATE tenant_work SET lease_until = now() WHERE tenant_id = $1", tenant_id)
    await leased(directory, "quick")
    await expire(installed, tenant_id)
    assert not await directory.retire(lease, None)


async def test_a_disabled_tenant_is_left_alone_until_it_is_enabled(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    await installed.tenants.set_state(tenant_id, "disabled")
    await directory.announce(tenant_id)
    assert await directory.find("worker", limit=10) == []
    await installed.tenants.set_state(tenant_id, "active")
    assert (await leased(directory)).tenant_id == tenant_id


async def test_what_was_announced_is_found_however_late_a_worker_comes(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    await directory.announce(tenant_id)
    await installed.execute(
        "UPDATE tenant_work SET active_until = now() - interval '1 h' WHERE tenant_id = $1", tenant_id
    )
    lease = await leased(directory)
    assert not lease.active
    assert await directory.retire(lease, None)
    assert await directory.find("worker", limit=10) == []


async def test_the_daily_check_tells_what_the_directory_missed(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    due = datetime.now(UTC) + timedelta(minutes=5)
    before = Kept(tenant_id, None, None)
    assert await directory.correct(before, due)
    assert not await directory.correct(before, due)
    after = Kept(tenant_id, None, due)
    assert not await directory.correct(after, due)
    assert not await directory.correct(after, None)
    await directory.announce(tenant_id)
    assert not await directory.correct(after, datetime.now(UTC))


async def test_a_tenant_is_looked_at_whole_once_a_day_by_one_worker(
    installed: Installed, directory: WorkDirectory, tenant_id: uuid.UUID
) -> None:
    assert await directory.claim_house(limit=10) == []
    await installed.execute("UPDATE tenant_work SET house_time = now() - interval '25 h'")
    found = await asyncio.gather(*(directory.claim_house(limit=10) for _ in range(4)))
    assert [kept.tenant_id for kepts in found for kept in kepts] == [tenant_id]
    assert await directory.claim_house(limit=10) == []


async def test_workers_take_equal_parts_of_the_tenants(installed: Installed, directory: WorkDirectory) -> None:
    ids = await with_rows(installed, 10)
    for tenant_id in ids:
        await directory.announce(tenant_id)
    for name in ("one", "two"):
        await directory.share(name)
    share = await directory.share("one")
    assert (share.workers, share.tenants, share.each) == (2, 10, 5)
    first = await directory.find("one", limit=200, held=0, workers=share.workers)
    assert len(first) == 5
    assert await directory.find("one", limit=200, held=5, workers=share.workers) == []
    assert len(await directory.find("two", limit=200, held=0, workers=share.workers)) == 5
    await directory.leave("two")
    assert (await directory.share("one")).each == 10
    assert len(await directory.find("one", limit=200, held=5, workers=1)) == 5
    await directory.leave("one")
    await installed.execute("DELETE FROM tenants WHERE id = ANY($1)", ids)


async def with_rows(installed: Installed, count: int) -> list[uuid.UUID]:
    """Tenants that nobody connects to: rows of the control database alone, in an otherwise empty directory."""
    ids = [uuid.uuid4() for _ in range(count)]
    await installed.execute("DELETE FROM tenant_work")
    await installed.execute(
        "INSERT INTO tenants (id, name, state, server_id, database_name, role_name, role_password, wrapped_key, create_time)"
        " SELECT u.id, u.id::text, 'active', (SELECT id FROM postgres_servers LIMIT 1), u.id::text, u.id::text, '', '', now()"
        " FROM unnest($1::uuid[]) AS u (id)",
        ids,
    )
    return ids


async def test_renewals_and_announcements_of_many_tenants_do_not_deadlock(installed: Installed) -> None:
    rows = [await installed.tenants.by_name(await installed.new_tenant()) for _ in range(4)]
    ids = [row.id for row in rows if row is not None]
    processes = [WorkDirectory(installed.control.database) for _ in range(4)]
    for process in processes:
        for tenant_id in ids:
            await process.announce(tenant_id)
    await processes[0].find("worker", limit=100)
    for _ in range(20):
        await asyncio.gather(
            *(process.renew_announced() for process in processes), processes[0].renew("worker", reversed(ids))
        )
