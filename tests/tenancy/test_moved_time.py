"""Time is moved in a test, and nowhere else."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from server.kit.clock import CLOCK, utc_now
from server.settings import Settings, SettingsInvalid, load
from server.tenancy.control import follow_clock, open_control
from tests.installation import Installed, installed_on
from tests.moved_time import move_time

HOUR = timedelta(hours=1)


@pytest.fixture
async def moved(server_dsn: str) -> AsyncIterator[Installed]:
    """An installation whose databases' time is an hour ahead."""
    async with installed_on(server_dsn, f"control_{uuid.uuid4().hex[:12]}") as made:
        await made.new_tenant()
        await move_time(server_dsn, to=HOUR)
        try:
            yield made
        finally:
            await move_time(server_dsn, to=timedelta(0))
            CLOCK.move(timedelta(0))


def in_a_test(settings: Settings, **more: object) -> Settings:
    return settings.model_copy(update={"env": "test", **more})


def ahead() -> timedelta:
    """How far the process's clock is before the machine's, to a second."""
    return timedelta(seconds=round((utc_now() - datetime.now(UTC)).total_seconds()))


async def test_a_process_in_a_test_goes_by_the_databases_time(moved: Installed, server_dsn: str) -> None:
    control = await open_control(in_a_test(moved.settings))
    assert ahead() == HOUR
    following = asyncio.create_task(follow_clock(control.database, in_a_test(moved.settings)))
    await move_time(server_dsn, to=-HOUR)
    assert ahead() == -HOUR
    following.cancel()
    await control.close()


async def test_a_tenant_made_while_time_is_moved_is_moved(moved: Installed) -> None:
    row = await moved.tenants.by_name(await moved.new_tenant())
    assert row is not None
    database = (await moved.tenants.get(row.id)).database
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT clock_now() - now()") == HOUR


async def test_a_clock_of_its_own_goes_before_the_databases(moved: Installed) -> None:
    control = await open_control(in_a_test(moved.settings, clock_offset=-60.0))
    assert ahead() == HOUR - timedelta(minutes=1)
    await control.close()


async def test_outside_a_test_moved_databases_are_refused(moved: Installed) -> None:
    with pytest.raises(SettingsInvalid, match="only SWITCHBOARD_ENV=test allows"):
        await open_control(moved.settings)
    assert ahead() == timedelta(0)


@pytest.mark.parametrize("env", ["development", "production"])
def test_outside_a_test_an_offset_is_refused(monkeypatch: pytest.MonkeyPatch, env: str) -> None:
    monkeypatch.setenv("SWITCHBOARD_ENV", env)
    monkeypatch.setenv("SWITCHBOARD_CLOCK_OFFSET", "60")
    with pytest.raises(SettingsInvalid, match="SWITCHBOARD_CLOCK_OFFSET moves the clock"):
        load()
