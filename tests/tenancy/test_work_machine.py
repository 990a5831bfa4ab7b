"""The state machine of the directory, and that it finds each bug that is planted."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from work_machine import PLANTED, WorkMachine, World

from server.tenancy import work
from tests import machines
from tests.installation import installed_on


@pytest.fixture
async def world(server_dsn: str) -> AsyncIterator[World]:
    async with installed_on(server_dsn, f"control_{uuid.uuid4().hex[:12]}") as made:
        tenant_id = uuid.uuid4()
        await made.execute(
            "INSERT INTO tenants (id, name, state, server_id, database_name, role_name, role_password, wrapped_key, create_time)"
            " SELECT $1, 'machine', 'active', id, 'machine', 'machine', '', '', now() FROM postgres_servers",
            tenant_id,
        )
        await made.execute("INSERT INTO tenant_work (tenant_id) VALUES ($1)", tenant_id)
        yield World(made.settings.needed_control_dsn(), tenant_id)


@contextmanager
def machine_on(world: World) -> Iterator[type[WorkMachine]]:
    with world, mock.patch.object(work, "time", world.clock):
        WorkMachine.world = world
        yield WorkMachine


def test_whatever_is_committed_is_found_and_done(world: World) -> None:
    with machine_on(world) as machine:
        machines.run(machine, examples=5, steps=15)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_whatever_is_committed_is_found_and_done_for_long(world: World) -> None:
    with machine_on(world) as machine:
        machines.run(machine, examples=60, steps=40)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(world: World, bug: str) -> None:
    with PLANTED[bug](), machine_on(world) as machine:
        machines.find(machine, examples=150, steps=40)
