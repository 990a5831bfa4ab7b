"""The state machine of timers, and that it finds each bug that is planted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from timers_machine import PLANTED, RETRIES, TimerMachine, World

from server.timers import service as timers
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


def run(world: World, *, examples: int, steps: int, shrink: bool = True) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
    with world, mock.patch.object(timers, "RETRIES", RETRIES):
        TimerMachine.world = world
        run_state_machine_as_test(TimerMachine, settings=chosen)


def test_timers_agree_with_the_model(world: World) -> None:
    run(world, examples=6, steps=15)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_timers_agree_with_the_model_for_long(world: World) -> None:
    run(world, examples=60, steps=40)


@pytest.mark.faults
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(world: World, bug: str) -> None:
    with PLANTED[bug](), pytest.raises(AssertionError):
        run(world, examples=200, steps=40, shrink=False)
