import asyncio
from dataclasses import replace

import pytest

from server.kit.secrets import new_master_key
from server.settings import Settings, load
from server.tenancy.control import open_control
from server.tenancy.meta_apps import MetaApps
from server.tenancy.routes import WHATSAPP, Routes
from server.tenancy.seed import SeedState, WhatsappAccount, connect_first_tenant, seed
from server.tenancy.tenants import Tenants
from server.tenancy.work import WorkDirectory

ACCOUNTS = {
    "acme": WhatsappAccount("100000000000001", "200000000000001", "+4930901820001", "token of acme"),
    "globex": WhatsappAccount("100000000000002", "200000000000002", "+4930901820002", "token of globex"),
}


@pytest.fixture(scope="module")
def settings(server_dsn: str) -> Settings:
    return load({"control_dsn": server_dsn.rpartition("/")[0] + "/control_seeded", "master_key": new_master_key()})


@pytest.fixture(scope="module")
async def seeded(settings: Settings, server_dsn: str) -> SeedState:
    return await seed(settings, server_dsn=server_dsn, whatsapp=ACCOUNTS)


async def test_a_second_start_finds_everything(settings: Settings, server_dsn: str, seeded: SeedState) -> None:
    assert await seed(settings, server_dsn=server_dsn, whatsapp=ACCOUNTS) == seeded


async def test_there_are_two_tenants_with_three_agents_and_a_channel(seeded: SeedState) -> None:
    assert [tenant.name for tenant in seeded.tenants] == ["acme", "globex"]
    for tenant in seeded.tenants:
        assert [agent.role for agent in tenant.agents] == ["owner", "agent", "agent"]
        assert [channel.phone_number_id for channel in tenant.channels] == [ACCOUNTS[tenant.name].phone_number_id]


async def test_keys_and_passwords_do_not_show_themselves(seeded: SeedState) -> None:
    for secret in (seeded.platform_key, seeded.tenants[0].key, seeded.tenants[0].dsn, seeded.meta_app.app_secret):
        assert secret not in repr(seeded)


async def test_a_changed_token_is_taken_over_and_readable_with_the_tenants_key(
    settings: Settings, server_dsn: str, seeded: SeedState
) -> None:
    changed = {**ACCOUNTS, "acme": replace(ACCOUNTS["acme"], access_token="another token")}
    again = await seed(settings, server_dsn=server_dsn, whatsapp=changed)
    assert again == seeded
    control = await open_control(settings)
    tenants = Tenants(control, WorkDirectory(control.database))
    tenant = await tenants.get(seeded.tenants[0].id)
    channel = seeded.tenants[0].channels[0]
    async with tenant.database.connection() as connection:
        sealed = await connection.fetchval("SELECT access_token FROM channels WHERE id = $1", channel.id)
    opened = tenant.secrets.open(sealed, table="channels", column="access_token", row=channel.id)
    assert opened == b"another token"
    await tenants.close()
    await control.close()


async def test_a_revoked_key_gives_way_to_another(settings: Settings, server_dsn: str, seeded: SeedState) -> None:
    control = await open_control(settings)
    async with control.database.connection() as connection:
        await connection.execute("UPDATE api_keys SET revoke_time = now() WHERE tenant_id = $1", seeded.tenants[1].id)
    await control.close()
    again = await seed(settings, server_dsn=server_dsn, whatsapp=ACCOUNTS)
    assert again.tenants[1].key != seeded.tenants[1].key
    assert again.tenants[0].key == seeded.tenants[0].key


async def test_a_single_tenant_start_makes_app_and_channel_of_the_first_tenant(
    settings: Settings, server_dsn: str, seeded: SeedState
) -> None:
    given = {
        "meta_app_id": "from-settings",
        "meta_app_secret": "secret from settings",
        "meta_verify_token": "token from settings",
        "whatsapp_token": "sending",
        "whatsapp_phone_number_id": "100000000000009",
        "whatsapp_waba_id": "200000000000009",
    }
    single = settings.model_copy(update=load(given).model_dump(include=set(given)))
    await seed(single, server_dsn=server_dsn, whatsapp=ACCOUNTS)
    control = await open_control(settings)
    secrets = await MetaApps(control).get("from-settings")
    routes = await Routes(control.database).find(WHATSAPP, ["100000000000009"])
    await control.close()
    assert secrets is not None
    assert secrets.app_secrets == (b"secret from settings",)
    assert routes["100000000000009"].tenant_id == seeded.tenants[0].id


async def test_processes_that_start_at_once_make_one_channel(
    settings: Settings, server_dsn: str, seeded: SeedState
) -> None:
    given = {
        "whatsapp_token": "sending",
        "whatsapp_phone_number_id": "100000000000010",
        "whatsapp_waba_id": "200000000000010",
    }
    single = settings.model_copy(update=load(given).model_dump(include=set(given)))
    control = await open_control(settings)
    processes = [Tenants(control, WorkDirectory(control.database), pool_size=1) for _ in range(4)]
    await asyncio.gather(*(connect_first_tenant(control, process, single) for process in processes))
    tenant = await processes[0].get(seeded.tenants[0].id)
    async with tenant.database.connection() as connection:
        rows = await connection.fetch("SELECT id FROM channels WHERE account_id = '100000000000010'")
    assert len(rows) == 1
    for process in processes:
        await process.close()
    await control.close()
