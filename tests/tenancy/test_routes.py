import asyncio
import uuid

import pytest

from server.kit.errors import AlreadyExists
from server.kit.ids import new_id
from server.tenancy.routes import WHATSAPP, Route, Routes
from tests.installation import Installed


@pytest.fixture(scope="module")
async def tenant_id(installed: Installed) -> uuid.UUID:
    row = await installed.tenants.by_name(await installed.new_tenant())
    assert row is not None
    return row.id


@pytest.fixture
def number() -> str:
    return str(new_id().int % 10**15)


async def test_a_claimed_number_leads_to_its_channel(installed: Installed, tenant_id: uuid.UUID, number: str) -> None:
    routes, channel_id = Routes(installed.control.database), new_id()
    assert await routes.find(WHATSAPP, [number]) == {}
    await routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=channel_id)
    assert await routes.find(WHATSAPP, [number, "1", number]) == {number: Route(tenant_id, channel_id)}


async def test_a_number_belongs_to_one_channel_of_the_installation(
    installed: Installed, tenant_id: uuid.UUID, number: str
) -> None:
    async def claim() -> uuid.UUID:
        channel_id = new_id()
        await Routes(installed.control.database).claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=channel_id)
        return channel_id

    outcomes = await asyncio.gather(*(claim() for _ in range(8)), return_exceptions=True)
    assert len([outcome for outcome in outcomes if isinstance(outcome, uuid.UUID)]) == 1
    assert len([outcome for outcome in outcomes if isinstance(outcome, AlreadyExists)]) == 7


async def test_claiming_again_for_the_same_channel_changes_nothing(
    installed: Installed, tenant_id: uuid.UUID, number: str
) -> None:
    routes, channel_id = Routes(installed.control.database), new_id()
    for _ in range(2):
        await routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=channel_id)
        assert (await routes.find(WHATSAPP, [number]))[number].channel_id == channel_id


async def test_a_released_number_may_be_claimed_by_another_channel(
    installed: Installed, tenant_id: uuid.UUID, number: str
) -> None:
    routes, first, second = Routes(installed.control.database), new_id(), new_id()
    await routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=first)
    await routes.release(WHATSAPP, number, channel_id=second)
    assert await routes.find(WHATSAPP, [number]) == {number: Route(tenant_id, first)}
    await routes.release(WHATSAPP, number, channel_id=first)
    await routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=second)


async def test_a_number_that_was_left_is_another_tenants_when_nobody_remembers_the_old_one(
    installed: Installed, tenant_id: uuid.UUID, number: str
) -> None:
    """Each process may take what comes for it for the old owner's for half a minute."""
    other = await installed.tenants.by_name(await installed.new_tenant())
    assert other is not None
    control = installed.control.database
    routes, first, second = Routes(control), new_id(), new_id()
    await routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=first, shared_id="w")
    await routes.leave(WHATSAPP, number, channel_id=first)
    assert await Routes(control).find(WHATSAPP, [number]) == {}
    assert tenant_id not in await Routes(control).sharing(WHATSAPP, "w")
    with pytest.raises(AlreadyExists):
        await routes.claim(WHATSAPP, number, tenant_id=other.id, channel_id=second)
    async with control.connection() as connection:
        await connection.execute(
            "UPDATE routes SET release_time = release_time - interval '61 seconds' WHERE external_id = $1", number
        )
    await routes.claim(WHATSAPP, number, tenant_id=other.id, channel_id=second)
    assert await Routes(control).find(WHATSAPP, [number]) == {number: Route(other.id, second)}


async def test_a_number_that_was_left_is_the_tenants_own_again_at_once(
    installed: Installed, tenant_id: uuid.UUID, number: str
) -> None:
    routes, first, second = Routes(installed.control.database), new_id(), new_id()
    await routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=first)
    await routes.leave(WHATSAPP, number, channel_id=first)
    await routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=second)
    assert await routes.find(WHATSAPP, [number]) == {number: Route(tenant_id, second)}
