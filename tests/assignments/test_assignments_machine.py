"""The state machine of assignment, and that it finds each bug that is planted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from assignments_machine import AssignmentMachine, World
from assignments_planted import PLANTED

from tests import machines
from tests.desk import close_desk, open_desk
from tests.installation import Installed


@pytest.fixture
async def world(desks: Installed) -> AsyncIterator[World]:
    desk = await open_desk(desks)
    channel = await desk.new_channel()
    database = desk.dsn.rpartition("/")[2]
    await desk.database.close()
    yield World(f"{desks.server_dsn.rpartition('/')[0]}/{database}", desk, channel)
    await close_desk(desk)


@contextmanager
def machine_on(world: World) -> Iterator[type[AssignmentMachine]]:
    with world:
        AssignmentMachine.world = world
        yield AssignmentMachine


def test_assignment_agrees_with_the_model(world: World) -> None:
    with machine_on(world) as machine:
        machines.run(machine, examples=5, steps=20)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_assignment_agrees_with_the_model_for_long(world: World) -> None:
    with machine_on(world) as machine:
        machines.run(machine, examples=60, steps=50)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(world: World, bug: str) -> None:
    with PLANTED[bug](), machine_on(world) as machine:
        machines.find(machine, examples=150, steps=50)
