"""The control database as a process sees it: its pool, the box of its secrets, and the keys made from it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

import asyncpg
import structlog

from server.kit.clock import CLOCK, utc_now
from server.kit.db import Database
from server.kit.errors import DatabaseUnavailable, Refusal
from server.kit.mac import MacKeys
from server.kit.secrets import KeyProvider, SecretBox, new_data_key
from server.settings import Settings, SettingsInvalid
from server.tenancy.keys import OWNER, load_box, load_mac_keys
from server.tenancy.master_key import key_provider

FOLLOW_CLOCK_SECONDS = 0.1

log = structlog.get_logger(__name__)


class InstallationMissing(Refusal):
    """The control database has no tables or no keys yet."""

    status = "FAILED_PRECONDITION"
    reason = "SCHEMA_OUTDATED"

    def __init__(self) -> None:
        super().__init__("the control database is not set up; run: switchboard migrate")


@dataclass(frozen=True)
class Control:
    """box seals the secrets of the control database; provider unwraps the data keys of tenants; mac: of cursors and page tokens.

    box and mac change their keys in place where keys are followed.
    """

    database: Database
    box: SecretBox
    provider: KeyProvider
    mac: MacKeys

    async def close(self) -> None:
        """Closes the pool."""
        await self.database.close()


async def open_control(settings: Settings) -> Control:
    """Opens the control database. SettingsInvalid, DatabaseUnavailable, or InstallationMissing before the first migration."""
    provider = key_provider(settings)
    database = Database(settings.needed_control_dsn(), pool_size=settings.pool_size)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(database.close)
        try:
            control = await _opened(database, provider, settings)
        except DatabaseUnavailable as error:
            raise DatabaseUnavailable("the control database does not answer at SWITCHBOARD_CONTROL_DSN") from error
        undo.pop_all()
    return control


async def _opened(database: Database, provider: KeyProvider, settings: Settings) -> Control:
    async with database.connection() as connection:
        exists = await connection.fetchval(
            "SELECT to_regclass('installation') IS NOT NULL AND to_regproc('clock_now') IS NOT NULL"
        )
        box = await load_box(connection, provider) if exists else None
    if box is None:
        raise InstallationMissing()
    await _set_clock(database, settings)
    return Control(database, box, provider, await load_mac_keys(database, box))


async def follow_clock(database: Database, settings: Settings) -> None:
    """In a test, moves this process's clock as the databases' is moved, at most 0.1 s later. Runs until cancelled."""
    while True:
        await asyncio.sleep(FOLLOW_CLOCK_SECONDS)
        try:
            await _set_clock(database, settings)
        except (DatabaseUnavailable, asyncpg.PostgresError) as error:
            log.warning("clock.not_followed", error=type(error).__name__)


async def _set_clock(database: Database, settings: Settings) -> None:
    async with database.connection() as connection:
        moved: timedelta = await connection.fetchval("SELECT clock_now() - now()")
    if settings.env == "test":
        CLOCK.move(moved + timedelta(seconds=settings.clock_offset))
    elif moved:
        raise SettingsInvalid("The databases' clock is moved, which only SWITCHBOARD_ENV=test allows.")


async def make_installation_key(database: Database, provider: KeyProvider) -> None:
    """Makes the installation's data key, once."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO installation (id, wrapped_key, create_time) VALUES (1, $1, $2) ON CONFLICT DO NOTHING",
            new_data_key(provider, owner=OWNER),
            utc_now(),
        )


def address(*, host: str, port: int, user: str, password: str, database: str) -> str:
    """A postgresql:// address."""
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(database, safe='')}"
