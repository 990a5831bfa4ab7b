"""The state machine of conversations, and that it finds each bug that is planted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from conversations_machine import PLANTED, ConversationMachine, World
from conversations_model import AUTO_RESOLVE, RETENTION

from server.kit.db import Database
from tests.desk import Desk
from tests.installation import Installed
from tests.machines import find, run


@pytest.fixture
async def world(desks: Installed, own_desk: Desk) -> World:
    """Its pools are opened anew on the machine's own loop."""
    channels = [
        await own_desk.new_channel(),
        await own_desk.new_channel(new_thread_each_time=True, auto_resolve_after=AUTO_RESOLVE),
    ]
    agents = [await own_desk.new_agent() for _ in range(2)]
    await own_desk.execute("UPDATE tenant_settings SET conversation_retention = $1", RETENTION)
    await own_desk.database.close()
    await own_desk.beside.close()
    owner = f"{desks.server_dsn.rpartition('/')[0]}/{own_desk.dsn.rpartition('/')[2]}"
    return World(own_desk, owner, channels, agents)


@pytest.fixture
def machine(world: World) -> Iterator[type[ConversationMachine]]:
    own = Database(world.desk.dsn, pool_size=2), Database(world.desk.dsn, pool_size=2)
    kept = world.desk.database, world.desk.beside
    world.desk.database, world.desk.beside = own
    ConversationMachine.world = world
    yield ConversationMachine
    world.move(timedelta(0))
    for database in own:
        world.run(database.close())
    world.runner.close()
    world.desk.database, world.desk.beside = kept


def test_conversations_agree_with_the_model(machine: type[ConversationMachine]) -> None:
    run(machine, examples=6, steps=30)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_conversations_agree_with_the_model_for_long(machine: type[ConversationMachine]) -> None:
    run(machine, examples=150, steps=50)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(machine: type[ConversationMachine], bug: str) -> None:
    with PLANTED[bug]():
        find(machine, examples=150, steps=40)
