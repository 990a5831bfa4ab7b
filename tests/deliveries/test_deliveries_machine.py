"""The state machine of deliveries, and that it finds each bug that is planted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from deliveries_machine import DeliveryMachine
from deliveries_planted import PLANTED
from deliveries_world import QUICK, World

from tests import machines
from tests.desk import close_desk, open_desk
from tests.installation import Installed


@pytest.fixture
async def world(desks: Installed) -> AsyncIterator[World]:
    desk = await open_desk(desks)
    channels = [await desk.new_channel() for _ in range(2)]
    rows = [await desk.started(channels[index % 2]) for index in range(4)]
    owner = f"{desks.server_dsn.rpartition('/')[0]}/{desk.dsn.rpartition('/')[2]}"
    await desk.database.close()
    yield World(desk, owner, [channel.id for channel in channels], [row.id for row in rows])
    await close_desk(desk)


@contextmanager
def machine_on(world: World) -> Iterator[type[DeliveryMachine]]:
    with world, QUICK:
        DeliveryMachine.world = world
        yield DeliveryMachine


def test_deliveries_agree_with_the_model(world: World) -> None:
    with machine_on(world) as machine:
        machines.run(machine, examples=4, steps=20)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_deliveries_agree_with_the_model_for_long(world: World) -> None:
    with machine_on(world) as machine:
        machines.run(machine, examples=120, steps=50)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(world: World, bug: str) -> None:
    with machine_on(world) as machine, PLANTED[bug]():
        machines.find(machine, examples=200, steps=50)
