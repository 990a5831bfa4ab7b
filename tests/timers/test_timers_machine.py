"""The state machine of timers, and that it finds each bug that is planted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from timers_machine import PLANTED, RETRIES, TimerMachine, World

from server.timers import service as timers
from tests import machines
from tests.desk import close_desk, open_desk
from tests.installation import Installed


@pytest.fixture
async def world(desks: Installed) -> AsyncIterator[World]:
    desk = await open_desk(desks)
    channel = await desk.new_channel()
    rows = [await desk.started(channel) for _ in range(3)]
    for row in rows:
        await desk.execute("DELETE FROM timers")
        await desk.move(row.id, "open")
    database = desk.dsn.rpartition("/")[2]
    await desk.database.close()
    yield World(f"{desks.server_dsn.rpartition('/')[0]}/{database}", desk.dsn, [row.id for row in rows])
    await close_desk(desk)


@contextmanager
def machine_on(world: World) -> Iterator[type[TimerMachine]]:
    with world, mock.patch.object(timers, "RETRIES", RETRIES):
        TimerMachine.world = world
        yield TimerMachine


def test_timers_agree_with_the_model(world: World) -> None:
    with machine_on(world) as machine:
        machines.run(machine, examples=6, steps=15)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_timers_agree_with_the_model_for_long(world: World) -> None:
    with machine_on(world) as machine:
        machines.run(machine, examples=60, steps=40)


@pytest.mark.faults
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(world: World, bug: str) -> None:
    with PLANTED[bug](), machine_on(world) as machine:
        machines.find(machine, examples=200, steps=40)
