import pytest

from server.kit.errors import AlreadyExists
from server.kit.ids import new_id
from server.tenancy.meta_apps import MetaApps, MetaAppSecrets
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
