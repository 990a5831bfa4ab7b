"""A running process learns new keys of the control database without a restart."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import structlog

from server.kit.errors import DatabaseUnavailable
from server.kit.secrets import SecretUnreadable
from server.settings import SettingsInvalid
from server.tenancy.control import Control
from server.tenancy.keys import load_box, mac_keys

log = structlog.get_logger(__name__)
FOLLOW = timedelta(seconds=10)


async def follow_keys(control: Control) -> None:
    """Reads the keys again and again, until cancelled. What cannot be read now stays as it was."""
    while True:
        await asyncio.sleep(FOLLOW.total_seconds())
        try:
            await learn_keys(control)
        except (DatabaseUnavailable, SecretUnreadable, SettingsInvalid, asyncpg.PostgresError) as error:
            log.warning("keys.not_followed", error=type(error).__name__)


async def learn_keys(control: Control) -> None:
    """One round of follow_keys."""
    async with control.database.connection() as connection:
        box = await load_box(connection, control.provider)
        if box is None:
            return
        control.box.learn(box)
        keys, current = await mac_keys(connection, box)
        control.mac.learn(keys, current=current)
