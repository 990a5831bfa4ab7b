"""Assignments: who has it, who could see it, and the ledger that says why."""

import asyncio
import uuid
from typing import Any

import pytest

from server.agents.service import NotAssignable
from server.assignments import service
from server.conversations import convert
from server.conversations.rules import ConversationArchived, VersionMismatch
from server.conversations.service import Changed
from server.kit.errors import NotFound
from server.kit.ids import new_id
from server.log.event import ActorKind
from server.rpc.call import Scope
from tests.desk import ALL, Desk, agent, nobody


async def assign(desk: Desk, some: uuid.UUID, who: uuid.UUID | None = None, **more: Any) -> Changed:
    whole: dict[str, Any] = {"origin": nobody(), "team_id": None, "reason": None, "expected_version": None, **more}
    scope = whole.pop("scope", ALL)
    return await desk.do(lambda write: service.assign(write, scope, some, agent_id=who, **whole))


async def unassign(desk: Desk, some: uuid.UUID, **more: Any) -> Changed:
    whole: dict[str, Any] = {"origin": nobody(), "reason": None, "expected_version": None, **more}
    return await desk.do(lambda write: service.unassign(write, ALL, some, **whole))


async def ledger(desk: Desk, some: uuid.UUID) -> list[Any]:
    return await desk.rows(
        "SELECT * FROM conversation_assignments WHERE conversation_id = $1 ORDER BY start_time, id", some
    )


async def new_team(desk: Desk) -> uuid.UUID:
    team_id = new_id()
    await desk.execute("INSERT INTO teams (id, name, create_time) VALUES ($1, $2, now())", team_id, f"team {team_id}")
    return team_id


async def test_each_assignment_is_a_row_that_ends_when_the_next_begins(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    ana, ben, team = await desk.new_agent(), await desk.new_agent(), await new_team(desk)
    by, key = agent(ana), nobody()
    await assign(desk, row.id, ana, origin=by, reason="knows her")
    await assign(desk, row.id, ben, team_id=team, origin=key)
    await unassign(desk, row.id, origin=by, reason="shift ends")
    first, second = await ledger(desk, row.id)
    assert (first["agent_id"], first["team_id"], first["reason"], first["assigned_by_id"]) == (
        ana,
        None,
        "knows her",
        ana,
    )
    assert (second["agent_id"], second["team_id"], second["type"]) == (ben, team, "manual")
    assert first["end_time"] == second["start_time"]
    assert second["end_time"] is not None
    told, ended = convert.assignment(first), convert.assignment(second)
    assert [told.assigned_by.id, told.ended_by.id, told.HasField("end_text")] == [str(ana), str(key.actor.id), False]
    assert [ended.assigned_by.id, ended.ended_by.id, ended.end_text] == [str(key.actor.id), str(ana), "shift ends"]
    assert (told.ended_by.kind, ended.ended_by.kind) == (ActorKind.ACTOR_KIND_API_KEY, ActorKind.ACTOR_KIND_AGENT)
    after = await desk.conversation(row.id)
    assert (after.assignee_id, after.team_id, after.version) == (None, None, row.version + 3)
    await desk.check_log()


async def test_the_event_says_who_could_see_it_before_and_after(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    ana, ben = await desk.new_agent(), await desk.new_agent()
    before = (await desk.head())[1]
    await assign(desk, row.id, ana)
    await assign(desk, row.id, ben)
    await unassign(desk, row.id)
    found = await desk.rows(
        "SELECT assignee_before, assignee_after, conversation_version FROM stream_event WHERE seq > $1 ORDER BY seq",
        before,
    )
    assert [tuple(item)[:2] for item in found] == [(None, ana), (ana, ben), (ben, None)]
    events = [event for _, event in await desk.events(after=before)]
    assert [event.WhichOneof("body") for event in events] == [
        "conversation_assigned",
        "conversation_assigned",
        "conversation_unassigned",
    ]
    assert events[1].conversation_assigned.previous_agent_id == str(ana)
    assert events[1].conversation_assigned.assignment.agent_id == str(ben)
    assert events[2].conversation_unassigned.previous_agent_id == str(ben)


async def test_assigning_to_the_same_again_changes_nothing(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    ana = await desk.new_agent()
    await assign(desk, row.id, ana)
    head = await desk.head()
    changed = await assign(desk, row.id, ana)
    assert not changed.events
    await unassign(desk, row.id)
    now = await desk.head()
    assert not (await unassign(desk, row.id)).events
    assert await desk.head() == now
    assert now != head
    assert len(await ledger(desk, row.id)) == 1


async def test_refusals_change_nothing(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    ana, reader = await desk.new_agent(), await desk.new_agent("read_only")
    gone = await desk.new_agent()
    await desk.execute("UPDATE agents SET state = 'disabled' WHERE id = $1", gone)
    before = await desk.head()
    for who in (new_id(), reader, gone):
        with pytest.raises(NotAssignable) as refused:
            await assign(desk, row.id, who)
        assert refused.value.metadata == {"agent_id": str(who)}
    with pytest.raises(NotAssignable):
        await assign(desk, row.id, None, team_id=new_id())
    with pytest.raises(VersionMismatch):
        await assign(desk, row.id, ana, expected_version=row.version + 1)
    for some, scope in ((new_id(), ALL), (row.id, Scope(all=False, agent_id=ana))):
        with pytest.raises(NotFound):
            await assign(desk, some, ana, scope=scope)
    await desk.move(row.id, "resolved")
    await desk.move(row.id, "archived")
    with pytest.raises(ConversationArchived):
        await assign(desk, row.id, ana)
    assert await ledger(desk, row.id) == []
    assert before[1] + 2 == (await desk.head())[1]


async def test_under_any_concurrency_one_agent_has_it_and_one_row_is_open(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    agents = [await desk.new_agent() for _ in range(8)]
    await asyncio.gather(*(assign(desk, row.id, who) for who in agents), *(unassign(desk, row.id) for _ in range(4)))
    rows = await ledger(desk, row.id)
    still = [item for item in rows if item["end_time"] is None]
    holder = (await desk.conversation(row.id)).assignee_id
    assert [item["agent_id"] for item in still] == ([holder] if holder else [])
    assert all(item["end_time"] is None or item["end_time"] >= item["start_time"] for item in rows)
    await desk.check_log()


async def test_a_stated_version_lets_one_of_many_win(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    agents = [await desk.new_agent() for _ in range(6)]
    results = await asyncio.gather(
        *(assign(desk, row.id, who, expected_version=row.version) for who in agents), return_exceptions=True
    )
    assert sum(isinstance(item, Changed) for item in results) == 1
    assert sum(isinstance(item, VersionMismatch) for item in results) == 5
