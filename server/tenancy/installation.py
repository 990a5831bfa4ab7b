"""Sets up an installation: the control database, its tables, its first keys."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import asyncpg

from server.kit.db import Database
from server.kit.errors import DatabaseUnavailable
from server.settings import Settings, SettingsInvalid
from server.tenancy.control import Control, make_installation_key, open_control
from server.tenancy.master_key import key_provider
from server.tenancy.placement import Placement
from server.tenancy.provisioning import connected, migrate_database
from server.tenancy.sql import identifier

LOCAL = "local"


async def set_up(settings: Settings) -> Control:
    """Brings the control database to the newest revision, makes its key, and opens it. It must exist."""
    provider = key_provider(settings)
    dsn = settings.needed_control_dsn()
    await _check_address(dsn)
    await migrate_database(dsn, "control")
    database = Database(dsn, pool_size=1)
    try:
        await make_installation_key(database, provider)
    finally:
        await database.close()
    return await open_control(settings)


async def set_up_on(settings: Settings, *, server_dsn: str) -> Control:
    """The same on a server of ours: makes the control database too, and places tenants on that server."""
    name = unquote(urlsplit(settings.needed_control_dsn()).path.removeprefix("/"))
    async with connected(server_dsn) as admin:
        if not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name):
            await admin.execute(f"CREATE DATABASE {identifier(name)}")
        # A tenant's role shall come into its own database and into no other.
        for closed in (name, "postgres", "template1"):
            await admin.execute(f"REVOKE ALL ON DATABASE {identifier(closed)} FROM PUBLIC")
    control = await set_up(settings)
    await Placement(control).ensure(LOCAL, server_dsn)
    return control


async def _check_address(dsn: str) -> None:
    """Says in one sentence what is wrong with the address, before anything is begun."""
    try:
        async with connected(dsn):
            return
    except (asyncpg.PostgresError, DatabaseUnavailable) as error:
        reason = error.__cause__ or error
        raise SettingsInvalid(f"SWITCHBOARD_CONTROL_DSN leads to no database: {reason}.") from None
