"""The state machine of deliveries, and that it finds each bug that is planted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from deliveries_machine import PLANTED, QUICK, DeliveryMachine, World
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

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


def run(world: World, *, examples: int, steps: int, shrink: bool = True, bug: str = "") -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
    with world, QUICK:
        DeliveryMachine.world = world
        if not bug:
            run_state_machine_as_test(DeliveryMachine, settings=chosen)
            return
        with PLANTED[bug](), pytest.raises(AssertionError):
            run_state_machine_as_test(DeliveryMachine, settings=chosen)


def test_deliveries_agree_with_the_model(world: World) -> None:
    run(world, examples=4, steps=20)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_deliveries_agree_with_the_model_for_long(world: World) -> None:
    run(world, examples=120, steps=50)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(world: World, bug: str) -> None:
    run(world, examples=200, steps=50, shrink=False, bug=bug)
