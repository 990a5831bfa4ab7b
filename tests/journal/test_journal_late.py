"""Webhooks that come when their tenant's database is away, and webhooks that come again when everything about them is old."""

import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from journal_inlet import Inlet

from server.intake.service import Intake
from server.kit.clock import utc_now
from server.kit.db import Database
from server.kit.errors import DatabaseUnavailable
from server.simulator import payloads
from server.tenancy.meta_apps import MetaApps
from server.tenancy.quarantine import Quarantine
from server.tenancy.routes import WHATSAPP, Routes
from tests.desk import kill_backends
from tests.installation import connection_to

SECRET = "app secret"


@dataclasses.dataclass
class Door:
    """The way of a webhook to durable places. elsewhere: the same, of a process whose control database is away."""

    intake: Intake
    elsewhere: Intake
    quarantine: Quarantine


@pytest.fixture
async def door(inlet: Inlet) -> AsyncIterator[Door]:
    control, away = inlet.installed.control, Database("postgresql://nobody@127.0.0.1:9/control", pool_size=1)
    apps, routes, quarantine = MetaApps(control), Routes(control.database), Quarantine(control.database)
    await apps.ensure(app_id="late", name="late", app_secret=SECRET, verify_token="-")
    number = inlet.desk.numbers[inlet.channel.id].phone_number_id
    await routes.claim(WHATSAPP, number, tenant_id=inlet.desk.tenant.id, channel_id=inlet.channel.id)
    whole = {
        "tenants": inlet.installed.tenants,
        "routes": routes,
        "meta_apps": apps,
        "objects": inlet.desk.providers["whatsapp"].webhook_objects,
    }
    yield Door(
        Intake(**whole, quarantine=quarantine),
        Intake(**whole, quarantine=Quarantine(away)),
        quarantine,
    )
    await away.close()


async def allowed(inlet: Inlet, *, connections: bool) -> None:
    """Whether the tenant's database takes connections."""
    name = inlet.desk.dsn.rpartition("/")[2]
    async with connection_to(inlet.installed.server_dsn) as admin:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {connections}')
    if not connections:
        await kill_backends(inlet.desk.dsn, inlet.installed.server_dsn)


async def test_a_webhook_waits_apart_while_its_tenants_database_is_away_and_is_applied_once(
    inlet: Inlet, door: Door
) -> None:
    data = payloads.encode(inlet.texts("while you were away"))
    signature = payloads.sign(data, SECRET)
    await allowed(inlet, connections=False)
    try:
        assert await door.intake.receive("late", data, signature) == []
        # Neither here nor there: no 200, so that Meta sends it again.
        with pytest.raises(DatabaseUnavailable) as refused:
            await door.elsewhere.receive("late", data, signature)
        assert refused.value.status == "UNAVAILABLE"
    finally:
        await allowed(inlet, connections=True)
    (part,) = [each for each in await door.quarantine.due(limit=1000) if each.tenant_id == inlet.desk.tenant.id]
    assert (part.reason, part.body) == ("tenant_unavailable", data)
    for _ in range(2):
        stored: Any = await door.intake.redrive(part)
        await inlet.applier.apply(inlet.desk.tenant, stored.payload_id, stored.receive_time)
    assert await inlet.said() == ["while you were away"]
    assert await inlet.desk.value("SELECT count(*) FROM journal") == 1


@pytest.mark.parametrize("after", [timedelta(days=6), timedelta(days=8), timedelta(days=40)], ids=str)
async def test_a_webhook_that_comes_again_after_days_changes_nothing(inlet: Inlet, after: timedelta) -> None:
    bodies: list[Any] = [inlet.texts("hello", at=(utc_now() - after).timestamp())]
    message = bodies[0]["entry"][0]["changes"][0]["value"]["messages"][0]
    bodies.append(inlet.of_type("reaction", {"message_id": message["id"], "emoji": "👍"}))
    bodies.append(inlet.receipts(("wamid.stranger", "read")))
    for body in bodies:
        await inlet.taken(body, at=utc_now() - after)
    async with connection_to(inlet.installed.owned(inlet.desk.dsn)) as owner:
        await owner.execute("SELECT drop_journal_before($1)", utc_now().date() - timedelta(days=30))
    before = await inlet.desk.head()
    for body in bodies:
        payload = await inlet.taken(body)
        assert await inlet.items(payload.id) == []
    assert await inlet.desk.head() == before
    assert await inlet.said() == ["hello"]
