from datetime import timedelta

import pytest

from server.kit.errors import AlreadyExists, NotFound
from server.kit.ids import new_id
from server.tenancy.meta_apps import MetaAppInUse, MetaApps, MetaAppSecrets
from server.tenancy.routes import WHATSAPP, Routes
from tests.installation import Installed


@pytest.fixture
def apps(installed: Installed) -> MetaApps:
    return MetaApps(installed.control)


@pytest.fixture
def app_id() -> str:
    return f"app-{new_id().hex[-12:]}"


async def test_an_app_is_found_by_its_id_with_its_secrets(apps: MetaApps, app_id: str) -> None:
    assert await apps.get(app_id) is None
    made = await apps.create(app_id=app_id, name="Ours", app_secret="a secret", verify_token="a token")
    assert made.webhook_path == f"/v1/webhooks/meta/{app_id}"
    assert await apps.get(app_id) == MetaAppSecrets((b"a secret",), b"a token")


async def test_an_id_is_given_once(apps: MetaApps, app_id: str) -> None:
    await apps.create(app_id=app_id, name="Ours", app_secret="a secret", verify_token="a token")
    with pytest.raises(AlreadyExists):
        await apps.create(app_id=app_id, name="Theirs", app_secret="another", verify_token="another")


async def test_a_replaced_secret_is_accepted_beside_the_new_one(apps: MetaApps, app_id: str) -> None:
    for secret in ("first", "first", "second"):
        await apps.ensure(app_id=app_id, name="Ours", app_secret=secret, verify_token=f"{secret} token")
    assert await apps.get(app_id) == MetaAppSecrets((b"second", b"first"), b"second token")


async def test_a_secret_is_replaced_with_an_overlap_that_ends(
    installed: Installed, apps: MetaApps, app_id: str
) -> None:
    other = MetaApps(installed.control)
    await apps.create(app_id=app_id, name="Ours", app_secret="the first", verify_token="a token")
    assert await other.get(app_id) == MetaAppSecrets((b"the first",), b"a token")
    day = timedelta(days=1)
    app = await apps.update(app_id, name=None, app_secret="the second", verify_token=None, overlap=day)
    assert app.name == "Ours"
    assert app.rotate_time is not None
    assert app.previous_expire_time == app.rotate_time + day
    assert await other.latest(app_id) == MetaAppSecrets((b"the second", b"the first"), b"a token"), "another process"
    assert await other.get(app_id) == await other.latest(app_id)
    same = await apps.update(app_id, name="Mine", app_secret="the second", verify_token="another", overlap=day)
    assert (same.name, same.rotate_time) == ("Mine", app.rotate_time), "the same secret is no new one"
    assert await apps.get(app_id) == MetaAppSecrets((b"the second", b"the first"), b"another")
    app = await apps.update(app_id, name=None, app_secret="the third", verify_token=None, overlap=timedelta(0))
    assert app.previous_expire_time is None
    assert await apps.get(app_id) == MetaAppSecrets((b"the third",), b"another"), "of one that leaked nothing is taken"


async def test_an_app_that_is_deleted_is_unknown(apps: MetaApps, app_id: str) -> None:
    await apps.create(app_id=app_id, name="Ours", app_secret="a secret", verify_token="a token")
    await apps.delete(app_id)
    assert await apps.get(app_id) is None
    for gone in (apps.app(app_id), apps.delete(app_id)):
        with pytest.raises(NotFound):
            await gone


async def test_an_app_is_not_deleted_while_webhooks_of_connected_channels_come_by_it(
    installed: Installed, apps: MetaApps, app_id: str
) -> None:
    await apps.create(app_id=app_id, name="Ours", app_secret="a secret", verify_token="a token")
    routes, connected = Routes(installed.control.database), []
    for name in (await installed.new_tenant(), await installed.new_tenant()):
        tenant = await installed.tenants.by_name(name)
        assert tenant is not None
        number, channel = new_id().hex, new_id()
        await routes.claim(WHATSAPP, number, tenant_id=tenant.id, channel_id=channel, app_id=app_id)
        connected.append((number, channel))
    # One that was connected when nobody could say so is noted when its provider is asked.
    number, channel = new_id().hex, new_id()
    await routes.claim(WHATSAPP, number, tenant_id=tenant.id, channel_id=channel)
    await routes.note_app(WHATSAPP, number, channel_id=channel, app_id=app_id)
    await routes.claim(WHATSAPP, number, tenant_id=tenant.id, channel_id=channel)
    connected.append((number, channel))
    for left in (("3", "2"), ("2", "1"), ("1", "1")):
        with pytest.raises(MetaAppInUse) as refused:
            await apps.delete(app_id)
        assert refused.value.metadata == dict(zip(("channels", "tenants"), left, strict=True))
        assert await apps.get(app_id) is not None
        number, channel = connected.pop(0)
        await routes.leave(WHATSAPP, number, channel_id=channel)
    await apps.delete(app_id)
    with pytest.raises(NotFound):
        await apps.delete(app_id)


async def test_secrets_are_sealed(installed: Installed, apps: MetaApps, app_id: str) -> None:
    await apps.create(app_id=app_id, name="Ours", app_secret="a secret of ours", verify_token="a token of ours")
    async with installed.control.database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM meta_apps WHERE id = $1", app_id)
    assert b"of ours" not in row["app_secret"] + row["verify_token"]


async def test_apps_are_paged_by_id(apps: MetaApps, app_id: str) -> None:
    for number in range(3):
        await apps.create(app_id=f"{app_id}-{number}", name="Ours", app_secret="a secret", verify_token="a token")
    page = await apps.page(after=f"{app_id}-0", size=2)
    assert [app.id for app in page] == [f"{app_id}-1", f"{app_id}-2"]
