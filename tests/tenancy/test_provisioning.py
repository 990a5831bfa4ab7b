import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from server.kit.errors import AlreadyExists
from server.tenancy.placement import NoServer
from server.tenancy.provisioning import Provisioning, connected, ensure_template
from server.tenancy.sql import identifier
from tests.installation import Installed, connection_to


@pytest.fixture(scope="module")
async def dsns(installed: Installed) -> tuple[str, str]:
    """The addresses of two tenants, as their own roles."""
    rows = [await installed.tenants.by_name(await installed.new_tenant()) for _ in range(2)]
    return tuple(installed.tenants.dsn(row) for row in rows if row is not None)


async def test_a_tenant_has_its_settings_without_asking_for_them(dsns: tuple[str, str]) -> None:
    async with connection_to(dsns[0]) as connection:
        for setting, value in {
            "synchronous_commit": "on",
            "lock_timeout": "2s",
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "5s",
            "transaction_timeout": "15s",
        }.items():
            assert await connection.fetchval("SELECT current_setting($1)", setting) == value


async def test_a_tenant_reads_and_writes_its_tables(dsns: tuple[str, str]) -> None:
    async with connection_to(dsns[0]) as connection, connection.transaction():
        await connection.execute("UPDATE stream_head SET head = head")
        await connection.execute("SELECT ensure_event_partition(7000000)")
        await connection.execute("INSERT INTO teams (id, name, create_time) VALUES (gen_random_uuid(), 'sales', now())")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (i int)",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine (i int)",
        "DROP TABLE agents",
        "ALTER TABLE agents ADD COLUMN extra text",
        "TRUNCATE stream_event",
        "UPDATE alembic_version SET version_num = 'x'",
        "CREATE ROLE mine",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE postgres",
    ],
)
async def test_a_tenant_owns_nothing(dsns: tuple[str, str], statement: str) -> None:
    async with connection_to(dsns[0]) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_a_tenant_cannot_connect_to_another_database(installed: Installed, dsns: tuple[str, str]) -> None:
    own, other = dsns
    for name in (urlsplit(other).path, "/control"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(own.rpartition("/")[0] + name)


async def test_every_tenant_has_a_log_of_its_own(dsns: tuple[str, str]) -> None:
    epochs = []
    for dsn in dsns:
        async with connection_to(dsn) as connection:
            epochs.append(await connection.fetchval("SELECT epoch FROM stream_head"))
    assert epochs[0] != epochs[1]


async def test_passwords_and_keys_are_not_readable_in_the_control_database(
    installed: Installed, dsns: tuple[str, str]
) -> None:
    async with installed.control.database.connection() as connection:
        rows = await connection.fetch("SELECT role_password, wrapped_key FROM tenants")
        servers = await connection.fetch("SELECT admin_password FROM postgres_servers")
    stored = b"".join(row["role_password"] for row in rows) + b"".join(row["admin_password"] for row in servers)
    for dsn in (*dsns, installed.server_dsn):
        assert str(urlsplit(dsn).password).encode() not in stored


async def test_a_name_is_given_once(installed: Installed) -> None:
    name = await installed.new_tenant()
    with pytest.raises(AlreadyExists):
        await installed.new_tenant(name)


async def test_of_two_who_make_the_same_tenant_one_does(installed: Installed) -> None:
    made = await asyncio.gather(*(installed.new_tenant("contested") for _ in range(4)), return_exceptions=True)
    assert sorted(type(item).__name__ for item in made) == ["AlreadyExists"] * 3 + ["str"]


async def test_an_attempt_that_was_cut_short_is_finished_by_the_next(installed: Installed) -> None:
    name = await installed.new_tenant()
    await installed.execute("UPDATE tenants SET state = 'provisioning', schema_revision = NULL WHERE name = $1", name)
    await installed.new_tenant(name)
    row = await installed.tenants.by_name(name)
    assert row is not None
    assert row.state == "active"
    tenant = await installed.tenants.get(row.id)
    async with tenant.database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM stream_head") == 1


async def test_an_outdated_template_is_replaced(installed: Installed) -> None:
    from server.tenancy.placement import Placement

    server = next(iter((await Placement(installed.control).all()).values()))
    async with connected(server.admin_dsn()) as admin:
        await admin.execute("CREATE DATABASE switchboard_template_0000_old IS_TEMPLATE true")
        newest = await ensure_template(server, admin)
        await admin.execute(f"ALTER DATABASE {identifier(newest)} IS_TEMPLATE false ALLOW_CONNECTIONS true")
        await admin.execute(f"DROP DATABASE {identifier(newest)}")
        assert await ensure_template(server, admin) == newest
        left = await admin.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'switchboard_template%'")
    assert [row["datname"] for row in left] == [newest]


async def test_without_a_server_there_is_no_tenant(server_dsn: str) -> None:
    from tests.installation import installed_on

    async with installed_on(server_dsn, "control_without_servers") as empty:
        await empty.execute("DELETE FROM postgres_servers")
        with pytest.raises(NoServer):
            await Provisioning(empty.control).create("nowhere")


@pytest.mark.parametrize("name", ['a"b', "a b", "A", "", "a;b", "a" * 64])
def test_names_that_are_no_identifiers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an identifier"):
        identifier(name)
