"""The state machine of statistics, and that it finds each bug that is planted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from statistics_machine import StatisticsMachine, World
from statistics_planted import PLANTED

from server.kit.db import Database
from server.kit.ids import new_id
from tests.desk import Desk
from tests.machines import find, run


@pytest.fixture
async def world(own_desk: Desk) -> World:
    """Its pools are opened anew on the machine's own loop."""
    channels = [await own_desk.new_channel() for _ in range(2)]
    agents = [await own_desk.new_agent() for _ in range(2)]
    team = new_id()
    await own_desk.execute("INSERT INTO teams (id, name, create_time) VALUES ($1, 'Team', now())", team)
    await own_desk.database.close()
    await own_desk.beside.close()
    return World(own_desk, channels, agents, [team])


@pytest.fixture
def machine(world: World) -> Iterator[type[StatisticsMachine]]:
    own = Database(world.desk.dsn, pool_size=2), Database(world.desk.dsn, pool_size=2)
    kept = world.desk.database, world.desk.beside
    world.desk.database, world.desk.beside = own
    StatisticsMachine.world = world
    yield StatisticsMachine
    for database in own:
        world.run(database.close())
    world.runner.close()
    world.desk.database, world.desk.beside = kept


def test_statistics_agree_with_the_model_and_with_sql(machine: type[StatisticsMachine]) -> None:
    run(machine, examples=20, steps=30)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_statistics_agree_for_long(machine: type[StatisticsMachine]) -> None:
    run(machine, examples=150, steps=50)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(machine: type[StatisticsMachine], bug: str) -> None:
    with PLANTED[bug]():
        find(machine, examples=150, steps=40)
