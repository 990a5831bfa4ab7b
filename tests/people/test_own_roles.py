"""Roles of the tenant's own: who may make and give them, and what holds when they change."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from server.agents import own_roles
from server.agents import service as agents
from server.agents.own_roles import RoleBuiltIn, RoleInUse
from server.agents.roles import BUILT_IN_IDS, PERMISSIONS
from server.agents.service import NotAssignable
from server.auth.repository import load_rights
from server.auth.verifier import scope_of
from server.kit.db import Write
from server.kit.errors import AlreadyExists, NotFound
from server.kit.ids import new_id
from server.people import lifecycle
from server.rpc.auth import PermissionMissing
from server.rpc.call import Caller, CallerKind
from server.rpc.permissions import named
from tests.desk import Desk, nobody

OWNER = Caller(kind=CallerKind.API_KEY, permissions=PERMISSIONS["owner"])
ADMIN = Caller(kind=CallerKind.AGENT, permissions=PERMISSIONS["admin"])
READER = named("CONVERSATIONS_READ", "EVENTS_READ")
WRITER = READER | named("MESSAGES_SEND")


async def new_role(desk: Desk, permissions: frozenset[int], *, name: str = "", caller: Caller = OWNER) -> uuid.UUID:
    role_id = new_id()

    async def work(write: Write) -> own_roles.Changed:
        wanted = name or f"Role {role_id}"
        return await own_roles.create(
            write, role_id=role_id, name=wanted, permissions=permissions, caller=caller, origin=nobody()
        )

    return (await desk.do(work)).role.id


async def change(desk: Desk, role_id: uuid.UUID, permissions: frozenset[int], *, caller: Caller = OWNER) -> None:
    async def work(write: Write) -> own_roles.Changed:
        return await own_roles.update(
            write, role_id, name=None, permissions=permissions, caller=caller, origin=nobody()
        )

    await desk.do(work)


async def give(desk: Desk, agent_id: uuid.UUID, role_id: uuid.UUID, *, caller: Caller = OWNER) -> None:
    async def work(write: Write) -> lifecycle.Changed:
        return await lifecycle.update(
            write, agent_id, caller=caller, origin=nobody(), name=None, email=None, role_id=role_id
        )

    await desk.do(work)


async def delete(desk: Desk, role_id: uuid.UUID) -> None:
    async def work(write: Write) -> None:
        await own_roles.delete(write, role_id, caller=OWNER, origin=nobody())

    await desk.database.write(work)


async def permissions(desk: Desk, agent_id: uuid.UUID) -> frozenset[int]:
    rights = await load_rights(desk.database, agent_id)
    assert rights is not None
    return rights.permissions


async def check_assignable(desk: Desk, agent_id: uuid.UUID) -> None:
    async with desk.database.connection() as connection:
        await agents.check_assignable(connection, agent_id=agent_id, team_id=None)


async def test_an_agent_may_what_its_own_role_may_and_streams_hear_of_a_change(desk: Desk) -> None:
    role_id, agent_id = await new_role(desk, READER), await desk.new_agent("agent")
    await give(desk, agent_id, role_id)
    assert await permissions(desk, agent_id) == READER
    head = await desk.value("SELECT head FROM stream_head")
    await change(desk, role_id, WRITER)
    await change(desk, role_id, WRITER)
    assert await permissions(desk, agent_id) == WRITER
    assert await desk.kinds(after=head) == ["role_updated", "scope_changed"]


async def test_only_who_may_reply_takes_conversations(desk: Desk) -> None:
    role_id, agent_id = await new_role(desk, READER), await desk.new_agent("agent")
    await give(desk, agent_id, role_id)
    with pytest.raises(NotAssignable):
        await check_assignable(desk, agent_id)
    await change(desk, role_id, WRITER)
    await check_assignable(desk, agent_id)


async def test_who_may_see_all_sees_all(desk: Desk) -> None:
    role_id, agent_id = await new_role(desk, READER), await desk.new_agent("supervisor")
    await give(desk, agent_id, role_id)
    for wanted in (READER, READER | named("CONVERSATIONS_SEE_ALL")):
        await change(desk, role_id, wanted)
        rights = await load_rights(desk.database, agent_id)
        assert rights is not None
        assert scope_of(agent_id, rights).all == (wanted != READER)


async def test_nobody_makes_changes_or_gives_a_role_that_may_more_than_himself(desk: Desk) -> None:
    owners, agent_id = PERMISSIONS["owner"], await desk.new_agent("agent")
    role_id, small = await new_role(desk, owners), await new_role(desk, READER)
    with pytest.raises(PermissionMissing):
        await new_role(desk, owners, caller=ADMIN)
    with pytest.raises(PermissionMissing):
        await change(desk, small, owners, caller=ADMIN)
    with pytest.raises(PermissionMissing):
        await change(desk, role_id, READER, caller=ADMIN)
    with pytest.raises(PermissionMissing):
        await give(desk, agent_id, role_id, caller=ADMIN)


async def test_a_role_stays_while_somebody_has_it(desk: Desk) -> None:
    role_id, agent_id = await new_role(desk, READER), await desk.new_agent("agent")
    await give(desk, agent_id, role_id)
    with pytest.raises(RoleInUse) as refused:
        await delete(desk, role_id)
    assert refused.value.metadata == {"agents": "1", "invites": "0"}
    await give(desk, agent_id, next(iter(BUILT_IN_IDS)), caller=OWNER)
    await delete(desk, role_id)
    with pytest.raises(NotFound):
        await give(desk, agent_id, role_id)


async def test_names_are_unique_and_the_built_in_ones_are_taken(desk: Desk) -> None:
    await new_role(desk, READER, name="Night shift")
    for taken in ("night SHIFT", "Owner", "READ_ONLY"):
        with pytest.raises(AlreadyExists):
            await new_role(desk, READER, name=taken)


@pytest.mark.parametrize("role_id", BUILT_IN_IDS, ids=BUILT_IN_IDS.values())
async def test_built_in_roles_stay(desk: Desk, role_id: uuid.UUID) -> None:
    with pytest.raises(RoleBuiltIn):
        await change(desk, role_id, READER)
    with pytest.raises(RoleBuiltIn):
        await delete(desk, role_id)


async def test_a_role_that_is_deleted_while_it_is_given_stays_or_is_not_given(desk: Desk) -> None:
    for _ in range(4):
        role_id, agent_id = await new_role(desk, READER), await desk.new_agent("agent")
        results = await asyncio.gather(give(desk, agent_id, role_id), delete(desk, role_id), return_exceptions=True)
        (refused,) = [result for result in results if result is not None]
        assert isinstance(refused, RoleInUse | NotFound)
