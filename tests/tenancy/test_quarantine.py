import hashlib
import uuid
from dataclasses import replace

import pytest

from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.tenancy.quarantine import Part, Quarantine
from server.tenancy.routes import WHATSAPP, Routes
from tests.installation import Installed


@pytest.fixture(scope="module")
async def tenant_id(installed: Installed) -> uuid.UUID:
    row = await installed.tenants.by_name(await installed.new_tenant())
    assert row is not None
    return row.id


@pytest.fixture
async def quarantine(installed: Installed) -> Quarantine:
    await installed.execute("DELETE FROM quarantine")
    return Quarantine(installed.control.database)


def part(number: str | None, *, tenant_id: uuid.UUID | None = None) -> Part:
    body = b'{"object": "whatsapp_business_account"}'
    return Part(
        id=new_id(),
        provider=WHATSAPP,
        app_id="app",
        external_id=number,
        tenant_id=tenant_id,
        reason="unrouted",
        body=body,
        split=False,
        content_hash=hashlib.sha256(body).digest(),
        secret_index=0,
        receive_time=utc_now(),
    )


async def test_an_unowned_part_waits_until_its_number_is_connected(
    installed: Installed, quarantine: Quarantine, tenant_id: uuid.UUID
) -> None:
    number = str(new_id().int % 10**15)
    waiting = part(number)
    await quarantine.store([waiting])
    assert await quarantine.due(limit=10) == []
    await Routes(installed.control.database).claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=new_id())
    assert await quarantine.due(limit=10) == [waiting]


async def test_a_part_that_was_tried_is_left_alone_for_a_minute_or_until_it_is_woken(
    quarantine: Quarantine, tenant_id: uuid.UUID
) -> None:
    await quarantine.store([part("4930", tenant_id=tenant_id)])
    assert len(await quarantine.due(limit=10)) == 1
    assert await quarantine.due(limit=10) == []
    await quarantine.wake(WHATSAPP, "4930")
    assert len(await quarantine.due(limit=10)) == 1


async def test_a_delivered_part_is_gone(quarantine: Quarantine, tenant_id: uuid.UUID) -> None:
    waiting = part("4931", tenant_id=tenant_id)
    await quarantine.store([waiting])
    await quarantine.done([waiting.id])
    assert await quarantine.due(limit=10) == []


async def test_storing_a_part_twice_keeps_one(quarantine: Quarantine, tenant_id: uuid.UUID) -> None:
    waiting = part("4932", tenant_id=tenant_id)
    await quarantine.store([waiting, replace(waiting, reason="again")])
    assert await quarantine.due(limit=10) == [waiting]


async def test_after_seven_days_a_part_is_gone(installed: Installed, quarantine: Quarantine) -> None:
    await quarantine.store([part(None), part("4933")])
    assert await quarantine.purge() == 0
    await installed.execute("UPDATE quarantine SET expire_time = now() WHERE external_id IS NULL")
    assert await quarantine.purge() == 1
