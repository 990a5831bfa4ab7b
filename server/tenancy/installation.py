"""Sets up an installation: the control database, its tables, its first keys."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from server.kit.db import Database
from server.settings import Settings
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
            await admin.execute(f"REVOKE ALL ON DATABASE {identifier(name)} FROM PUBLIC")
    control = await set_up(settings)
    await Placement(control).ensure(LOCAL, server_dsn)
    return control
