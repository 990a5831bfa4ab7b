"""Changing and disabling agents, and teams that come and go: who may, what becomes of what they hold, and races."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest

from server.agents import loads, teams
from server.agents import service as agents
from server.agents.roles import PERMISSIONS, id_of
from server.agents.service import NotAssignable
from server.agents.teams import TeamInUse
from server.assignments import queue
from server.assignments import service as assignments
from server.conversations import service as conversations
from server.conversations.service import Changed
from server.kit.db import Write
from server.kit.errors import AlreadyExists, NotFound, Refusal
from server.kit.ids import new_id
from server.log.append import append
from server.people import lifecycle
from server.people.lifecycle import LastOwner
from server.rpc.auth import PermissionMissing
from server.rpc.call import Caller, CallerKind
from tests.desk import ALL, Desk, nobody

OWNER = Caller(kind=CallerKind.API_KEY, permissions=PERMISSIONS["owner"])
ADMIN = Caller(kind=CallerKind.AGENT, permissions=PERMISSIONS["admin"])
Move = Callable[[Desk, uuid.UUID], Awaitable[None]]
Step = Callable[[Write, uuid.UUID], Awaitable[lifecycle.Changed]]


async def disable(write: Write, agent_id: uuid.UUID) -> lifecycle.Changed:
    return await lifecycle.disable(write, agent_id, caller=OWNER, origin=nobody())


async def demote(write: Write, agent_id: uuid.UUID) -> lifecycle.Changed:
    return await update(write, agent_id, role="agent")


async def update(
    write: Write,
    agent_id: uuid.UUID,
    *,
    caller: Caller = OWNER,
    name: str | None = None,
    email: str | None = None,
    role: str = "",
) -> lifecycle.Changed:
    role_id = id_of(role, None) if role else None
    return await lifecycle.update(
        write, agent_id, caller=caller, origin=nobody(), name=name, email=email, role_id=role_id
    )


async def assign(
    desk: Desk, conversation_id: uuid.UUID, *, agent_id: uuid.UUID | None = None, team_id: uuid.UUID | None = None
) -> None:
    async def work(write: Write) -> Changed:
        return await assignments.assign(
            write,
            ALL,
            conversation_id,
            origin=nobody(),
            agent_id=agent_id,
            team_id=team_id,
            reason=None,
            expected_version=None,
        )

    await desk.do(work)


async def new_team(desk: Desk) -> uuid.UUID:
    team_id = new_id()

    async def work(write: Write) -> None:
        _, events = await teams.create(write, team_id=team_id, name=f"Team {team_id}", origin=nobody())
        await append(write, events)

    await desk.database.write(work)
    return team_id


async def remove_team(desk: Desk, team_id: uuid.UUID) -> None:
    async def work(write: Write) -> None:
        await append(write, await teams.remove(write, team_id, origin=nobody()))

    await desk.database.write(work)


async def conversation(desk: Desk) -> uuid.UUID:
    channel = await desk.new_channel()
    return (await desk.started(channel)).id


async def only_owners(desk: Desk, count: int) -> list[uuid.UUID]:
    """The tenant's enabled owners: so many, and no others."""
    await desk.execute("UPDATE agents SET state = 'disabled' WHERE role = 'owner'")
    return [await desk.new_agent("owner") for _ in range(count)]


async def test_what_the_disabled_held_goes_back_to_the_queue_of_its_team(desk: Desk) -> None:
    agent_id, team_id, held = await desk.new_agent("agent"), await new_team(desk), await conversation(desk)
    await assign(desk, held, agent_id=agent_id, team_id=team_id)
    head = await desk.value("SELECT head FROM stream_head")
    await desk.do(lambda write: disable(write, agent_id))
    assert await desk.kinds(after=head) == ["conversation_unassigned", "agent_disabled", "scope_changed"]
    (row,) = await desk.rows("SELECT assignee_id, team_id FROM conversations WHERE id = $1", held)
    assert (row["assignee_id"], row["team_id"]) == (None, team_id)
    ended = await desk.value("SELECT end_reason FROM conversation_assignments WHERE conversation_id = $1", held)
    assert ended == "agent_disabled"
    assert await desk.value("SELECT conversations FROM agent_loads WHERE agent_id = $1", agent_id) == 0
    with pytest.raises(NotAssignable):
        await assign(desk, held, agent_id=agent_id)
    again = await desk.do(lambda write: disable(write, agent_id))
    assert again.events == []


async def test_the_enabled_begin_with_nothing(desk: Desk) -> None:
    agent_id, held = await desk.new_agent("agent"), await conversation(desk)
    await desk.do(lambda write: disable(write, agent_id))
    await desk.do(lambda write: lifecycle.enable(write, agent_id, caller=OWNER, origin=nobody()))
    await assign(desk, held, agent_id=agent_id)


@pytest.mark.parametrize("step", [disable, demote])
async def test_the_last_owner_stays(desk: Desk, step: Step) -> None:
    first, last = await only_owners(desk, 2)
    await desk.do(lambda write: step(write, first))
    with pytest.raises(LastOwner):
        await desk.do(lambda write: step(write, last))


@pytest.mark.parametrize(("one", "other"), [(disable, disable), (disable, demote), (demote, demote)])
async def test_of_two_owners_who_go_at_once_one_stays(desk: Desk, one: Step, other: Step) -> None:
    for _ in range(4):
        first, second = await only_owners(desk, 2)
        results = await asyncio.gather(
            desk.do(lambda write, who=first: one(write, who)),  # type: ignore[misc]
            desk.do(lambda write, who=second: other(write, who), database=desk.beside),  # type: ignore[misc]
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["Changed", "LastOwner"]


async def test_nothing_is_given_to_who_is_disabled_at_the_same_time(desk: Desk) -> None:
    for _ in range(4):
        agent_id, held = await desk.new_agent("agent"), await conversation(desk)
        given, _ = await asyncio.gather(
            assign(desk, held, agent_id=agent_id),
            desk.do(lambda write, who=agent_id: disable(write, who), database=desk.beside),  # type: ignore[misc]
            return_exceptions=True,
        )
        assert given is None or isinstance(given, NotAssignable)
        assert await desk.value("SELECT assignee_id FROM conversations WHERE id = $1", held) is None


async def waiting(desk: Desk, count: int) -> None:
    """Until so many wait for a lock."""
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while await desk.value(blocked) < count:
        await asyncio.sleep(0.01)


async def test_giving_waits_for_disabling_and_is_refused_without_a_deadlock(
    desk: Desk, postgres_errors: Callable[[], list[str]]
) -> None:
    agent_id, held = await desk.new_agent("agent"), await conversation(desk)
    async with desk.beside.connection() as connection, connection.transaction():
        await loads.lock(connection, [agent_id])
        disabling = asyncio.create_task(desk.do(lambda write: disable(write, agent_id)))
        await waiting(desk, 1)
        giving = asyncio.create_task(assign(desk, held, agent_id=agent_id))
        await waiting(desk, 2)
    await disabling
    with pytest.raises(NotAssignable):
        await giving
    assert not [line for line in postgres_errors() if "deadlock" in line]


@pytest.mark.parametrize(
    "work",
    [
        lambda write, who: lifecycle.disable(write, who, caller=ADMIN, origin=nobody()),
        lambda write, who: lifecycle.enable(write, who, caller=ADMIN, origin=nobody()),
        lambda write, who: update(write, who, caller=ADMIN, name="Else"),
        lambda write, who: update(write, who, caller=ADMIN, role="agent"),
        lambda write, who: agents.set_memberships(
            write, who, caller=ADMIN, origin=nobody(), team_ids=[], channel_ids=[]
        ),
        lambda write, who: teams.set_member(write, new_id(), who, belongs=True, caller=ADMIN, origin=nobody()),
        lambda write, who: teams.set_member(write, new_id(), who, belongs=False, caller=ADMIN, origin=nobody()),
    ],
)
async def test_admins_change_no_owner_and_make_none(desk: Desk, work: Step) -> None:
    owner, other = await desk.new_agent("owner"), await desk.new_agent("admin")
    with pytest.raises(PermissionMissing) as refused:
        await desk.do(lambda write: work(write, owner))
    assert refused.value.metadata == {"permission": "PERMISSION_OWNERS_MANAGE"}
    with pytest.raises(PermissionMissing):
        await desk.do(lambda write: update(write, other, caller=ADMIN, role="owner"))
    await desk.do(lambda write: update(write, other, caller=ADMIN, role="supervisor"))


async def test_a_new_role_is_told_to_streams_and_a_new_name_only_to_readers(desk: Desk) -> None:
    agent_id = await desk.new_agent("agent")
    head = await desk.value("SELECT head FROM stream_head")
    await desk.do(lambda write: update(write, agent_id, name="Renamed"))
    await desk.do(lambda write: update(write, agent_id, role="supervisor"))
    assert await desk.kinds(after=head) == ["agent_updated", "agent_updated", "scope_changed"]
    assert (await desk.do(lambda write: update(write, agent_id, name="Renamed"))).events == []


async def test_an_address_belongs_to_one(desk: Desk) -> None:
    one, other = await desk.new_agent("agent"), await desk.new_agent("agent")
    await desk.do(lambda write: update(write, one, email="one@example.org"))
    with pytest.raises(AlreadyExists):
        await desk.do(lambda write: update(write, other, email="one@example.org"))


async def test_an_empty_address_clears_it_and_no_address_leaves_it(desk: Desk) -> None:
    one, other = await desk.new_agent("agent"), await desk.new_agent("agent")
    await desk.do(lambda write: update(write, one, email="free@example.org"))
    await desk.do(lambda write: update(write, one, name="Renamed"))
    assert await desk.value("SELECT email FROM agents WHERE id = $1", one) == "free@example.org"
    await desk.do(lambda write: update(write, one, email=""))
    await desk.do(lambda write: update(write, other, email="free@example.org"))
    assert await desk.value("SELECT email FROM agents WHERE id = $1", one) is None


async def archived(desk: Desk, conversation_id: uuid.UUID) -> None:
    await desk.move(conversation_id, "resolved")
    await desk.move(conversation_id, "archived")


async def reopened(desk: Desk, conversation_id: uuid.UUID) -> None:
    await desk.move(conversation_id, "open")


async def deleted(desk: Desk, conversation_id: uuid.UUID) -> None:
    await desk.do(lambda write: conversations.delete(write, ALL, conversation_id, origin=nobody()))


async def restored(desk: Desk, conversation_id: uuid.UUID) -> None:
    await desk.do(lambda write: conversations.restore(write, ALL, conversation_id, origin=nobody()))


async def drain(desk: Desk) -> None:
    """What a worker does when it looks."""
    async with desk.database.connection() as connection:
        state = await queue.state(connection)
    assert state.wanted
    await queue.drain(desk.database, state.head, present=frozenset())


@pytest.mark.parametrize(("closed", "back"), [(archived, reopened), (deleted, restored)])
async def test_what_comes_back_to_life_is_taken_from_the_disabled(desk: Desk, closed: Move, back: Move) -> None:
    agent_id, team_id, held = await desk.new_agent("agent"), await new_team(desk), await conversation(desk)
    await assign(desk, held, agent_id=agent_id, team_id=team_id)
    await closed(desk, held)
    await desk.do(lambda write: disable(write, agent_id))
    await drain(desk)
    assert await desk.value("SELECT assignee_id FROM conversations WHERE id = $1", held) == agent_id
    await back(desk, held)
    head = await desk.value("SELECT head FROM stream_head")
    await drain(desk)
    assert await desk.kinds(after=head) == ["conversation_unassigned"]
    (row,) = await desk.rows("SELECT assignee_id, team_id FROM conversations WHERE id = $1", held)
    assert (row["assignee_id"], row["team_id"]) == (None, team_id)
    (entry,) = await desk.rows("SELECT * FROM conversation_assignments WHERE conversation_id = $1", held)
    assert (entry["agent_id"], entry["end_reason"]) == (agent_id, "agent_disabled")
    assert await desk.value("SELECT conversations FROM agent_loads WHERE agent_id = $1", agent_id) == 0


async def test_what_comes_back_to_who_is_enabled_again_stays(desk: Desk) -> None:
    agent_id, held = await desk.new_agent("agent"), await conversation(desk)
    await assign(desk, held, agent_id=agent_id)
    await archived(desk, held)
    await desk.do(lambda write: disable(write, agent_id))
    await desk.do(lambda write: lifecycle.enable(write, agent_id, caller=OWNER, origin=nobody()))
    await reopened(desk, held)
    await drain(desk)
    assert await desk.value("SELECT assignee_id FROM conversations WHERE id = $1", held) == agent_id


async def test_a_team_with_a_live_conversation_stays(desk: Desk) -> None:
    team_id, held = await new_team(desk), await conversation(desk)
    await assign(desk, held, team_id=team_id)
    with pytest.raises(TeamInUse) as refused:
        await remove_team(desk, team_id)
    assert refused.value.metadata == {"by": "conversations"}


@pytest.mark.parametrize(("closed", "back"), [(archived, reopened), (deleted, restored)])
async def test_what_comes_back_to_a_deleted_team_is_its_channels(desk: Desk, closed: Move, back: Move) -> None:
    team_id, held = await new_team(desk), await conversation(desk)
    await assign(desk, held, team_id=team_id)
    await closed(desk, held)
    await remove_team(desk, team_id)
    await drain(desk)
    assert await desk.value("SELECT team_id FROM conversations WHERE id = $1", held) == team_id
    await back(desk, held)
    await drain(desk)
    assert await desk.value("SELECT team_id FROM conversations WHERE id = $1", held) is None
    (entry,) = await desk.rows("SELECT * FROM conversation_assignments WHERE conversation_id = $1", held)
    assert (entry["team_id"], entry["end_reason"], entry["end_text"]) == (team_id, "unassigned", "the team is deleted")


async def test_what_comes_back_to_a_disabled_agent_of_a_deleted_team_is_its_channels(desk: Desk) -> None:
    agent_id, team_id, held = await desk.new_agent("agent"), await new_team(desk), await conversation(desk)
    await assign(desk, held, agent_id=agent_id, team_id=team_id)
    await archived(desk, held)
    await desk.do(lambda write: disable(write, agent_id))
    await remove_team(desk, team_id)
    await reopened(desk, held)
    await drain(desk)
    (row,) = await desk.rows("SELECT assignee_id, team_id FROM conversations WHERE id = $1", held)
    assert (row["assignee_id"], row["team_id"]) == (None, None)


async def test_the_members_of_a_deleted_team_lose_it_and_its_name_is_free(desk: Desk) -> None:
    team_id, agent_id = await new_team(desk), await desk.new_agent("agent")

    async def join(write: Write) -> None:
        _, events = await teams.set_member(write, team_id, agent_id, belongs=True, caller=OWNER, origin=nobody())
        await append(write, events)

    await desk.database.write(join)
    head = await desk.value("SELECT head FROM stream_head")
    await remove_team(desk, team_id)
    assert await desk.kinds(after=head) == ["team_deleted", "scope_changed"]
    async with desk.database.session_snapshot() as (session, _):
        assert (await agents.get(session, agent_id)).team_ids == []
    with pytest.raises(NotFound):
        await desk.database.write(join)
    with pytest.raises(NotAssignable):
        await assign(desk, await conversation(desk), team_id=team_id)

    async def create(write: Write) -> None:
        await teams.create(write, team_id=new_id(), name=f"Team {team_id}", origin=nobody())

    await desk.database.write(create)


async def test_a_team_that_is_deleted_while_it_is_given_something_keeps_or_never_gets_it(desk: Desk) -> None:
    for _ in range(4):
        team_id, held = await new_team(desk), await conversation(desk)
        results = await asyncio.gather(
            assign(desk, held, team_id=team_id), remove_team(desk, team_id), return_exceptions=True
        )
        (refused,) = [result for result in results if result is not None]
        assert isinstance(refused, Refusal)
        assert refused.reason in ("TEAM_IN_USE", "NOT_ASSIGNABLE")
