import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from server.kit.db import Write
from server.kit.errors import DatabaseUnavailable, NotFound
from server.kit.ids import new_id
from server.models import migration
from server.rpc.rates import Rates
from server.tenancy import operator
from server.tenancy import tenants as tenants_module
from server.tenancy.tenants import SchemaOutdated, TenantDisabled, Tenants
from tests.installation import Installed


@pytest.fixture(scope="module")
async def made(installed: Installed) -> uuid.UUID:
    row = await installed.tenants.by_name(await installed.new_tenant())
    assert row is not None
    return row.id


@pytest.fixture
async def tenant_id(installed: Installed, made: uuid.UUID) -> AsyncIterator[uuid.UUID]:
    """A tenant as it is after its creation, whatever the test makes of its row."""
    yield made
    await installed.execute(
        "UPDATE tenants SET state = 'active', schema_revision = $2 WHERE id = $1", made, migration.newest("tenant")
    )
    await installed.tenants.set_state(made, "active")


async def head(write: Write) -> int:
    value: int = await write.connection.fetchval("SELECT head FROM stream_head")
    return value


async def test_a_tenant_is_opened_once_and_kept(installed: Installed, tenant_id: uuid.UUID) -> None:
    first = await installed.tenants.get(tenant_id)
    assert await installed.tenants.get(tenant_id) is first
    assert await first.database.write(head) == 0


async def test_a_write_announces_its_tenant_and_is_told_after_its_commit(
    installed: Installed, tenant_id: uuid.UUID
) -> None:
    told: list[uuid.UUID] = []
    registry = Tenants(installed.control, installed.directory, after_commit=lambda tenant, _write: told.append(tenant))
    tenant = await registry.get(tenant_id)
    await tenant.database.write(head)
    assert told == [tenant_id]
    async with installed.control.database.connection() as connection:
        left = await connection.fetchval("SELECT active_until - now() FROM tenant_work WHERE tenant_id = $1", tenant_id)
    assert left > timedelta(seconds=5)
    await registry.close()


async def test_an_unknown_tenant_is_not_found(installed: Installed) -> None:
    with pytest.raises(NotFound):
        await installed.tenants.get(new_id())
    with pytest.raises(NotFound):
        await installed.tenants.set_state(new_id(), "disabled")


async def test_a_disabled_tenant_is_refused_but_to_those_who_store_its_webhooks(
    installed: Installed, tenant_id: uuid.UUID
) -> None:
    await installed.tenants.set_state(tenant_id, "disabled")
    with pytest.raises(TenantDisabled):
        await installed.tenants.get(tenant_id)
    tenant = await installed.tenants.get(tenant_id, disabled_too=True)
    assert await tenant.database.write(head) == 0
    await installed.tenants.set_state(tenant_id, "active")
    assert (await installed.tenants.get(tenant_id)).state == "active"


async def test_a_tenant_that_is_being_made_may_be_asked_for_again(installed: Installed, tenant_id: uuid.UUID) -> None:
    await installed.execute("UPDATE tenants SET state = 'provisioning' WHERE id = $1", tenant_id)
    with pytest.raises(DatabaseUnavailable):
        await Tenants(installed.control, installed.directory).get(tenant_id)


async def test_an_older_schema_is_refused_and_a_newer_one_is_served(installed: Installed, tenant_id: uuid.UUID) -> None:
    await installed.execute("UPDATE tenants SET schema_revision = NULL WHERE id = $1", tenant_id)
    with pytest.raises(SchemaOutdated):
        await Tenants(installed.control, installed.directory).get(tenant_id)
    await installed.execute("UPDATE tenants SET schema_revision = '9999' WHERE id = $1", tenant_id)
    registry = Tenants(installed.control, installed.directory)
    assert (await registry.get(tenant_id)).id == tenant_id
    await registry.close()


async def test_idle_pools_are_closed_and_open_again(
    installed: Installed, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Tenants(installed.control, installed.directory)
    tenant = await registry.get(tenant_id)
    await tenant.database.write(head)
    await registry.sweep()
    assert registry.open_connections == 1
    monkeypatch.setattr(tenants_module, "IDLE", timedelta(0))
    await registry.sweep()
    assert registry.open_connections == 0
    assert await tenant.database.write(head) == 0
    assert await (await registry.get(tenant_id)).database.write(head) == 0
    await tenant.database.close()
    await registry.close()


async def test_above_the_cap_the_pools_not_used_for_longest_are_closed(installed: Installed) -> None:
    registry = Tenants(installed.control, installed.directory, max_connections=2)
    rows = [await installed.tenants.by_name(await installed.new_tenant()) for _ in range(4)]
    for row in rows:
        assert row is not None
        await (await registry.get(row.id)).database.write(head)
    assert registry.open_connections <= 3
    await registry.close()


async def test_tenants_are_paged_by_name(installed: Installed) -> None:
    names = sorted([await installed.new_tenant() for _ in range(3)])
    rows = await installed.tenants.page(after=names[0], size=1)
    assert [row.name for row in rows] == [names[1]] or names[0] < rows[0].name <= names[1]
    assert (await installed.tenants.page(after="zzzz", size=10)) == []


async def test_all_active_tenants_are_listed(installed: Installed, tenant_id: uuid.UUID) -> None:
    assert tenant_id in await installed.tenants.all_ids()
    await installed.tenants.set_state(tenant_id, "disabled")
    assert tenant_id not in await installed.tenants.all_ids()


async def test_a_tenant_may_have_limits_of_its_own(installed: Installed, tenant_id: uuid.UUID) -> None:
    registry = Tenants(installed.control, installed.directory, rates=Rates(caller=20, tenant=100))
    assert (await registry.get(tenant_id)).rates == Rates(caller=20, tenant=100)
    name = (await registry.row(tenant_id)).name
    for calls, caller_calls, expected in (
        (50, 0, Rates(caller=0, tenant=50)),
        (None, None, Rates(caller=20, tenant=100)),
    ):
        await operator.limit_tenant(installed.settings, name, calls=calls, caller_calls=caller_calls)
        follower = Tenants(installed.control, installed.directory, rates=Rates(caller=20, tenant=100))
        assert (await follower.get(tenant_id)).rates == expected
    with pytest.raises(NotFound):
        await operator.limit_tenant(installed.settings, "nobody-at-all", calls=1, caller_calls=None)
